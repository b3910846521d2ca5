"""Exports a run, or a Keras file: loaded, lowered, and written for each target behind the gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from keras_quant.data import Dataset
from keras_quant.errors import RunError, UsageError
from keras_quant.files import write_bytes
from keras_quant.graph.ir import Graph
from keras_quant.graph.passes.realize import StoredLimits
from keras_quant.jobs.loaded import load_with_data
from keras_quant.jobs.ponder import masked_dense_note
from keras_quant.jobs.preprocess import guessing_warning, tried_on, without_labels
from keras_quant.json_codec import to_json
from keras_quant.lower import Snap, lower_exactly
from keras_quant.model.files import save_model
from keras_quant.model.suffixes import MODEL_KINDS, is_keras_model
from keras_quant.model.tasks import last_classifier
from keras_quant.pixels import normalize
from keras_quant.proof.baseline import BASELINES, without_quantizers
from keras_quant.proof.evidence import Evidence, gather
from keras_quant.proof.formats import Format
from keras_quant.proof.gate import Proven, prove_formats
from keras_quant.proof.keras_answers import KerasAnswers
from keras_quant.proof.record import PARITY_NAME
from keras_quant.proof.stages import prove_stages
from keras_quant.proof.write import Export, foreign_files, write_proven
from keras_quant.runs import RunFolder, locked, records
from keras_quant.runs import stages as stage_files
from keras_quant.runs.progress import Progress
from keras_quant.tf import keras
from keras_quant.version import __version__

# The model whose answers the file gives, where that is not the one that was given.
MOVED_NAME = "model.moved-biases.keras"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An export whose files all passed.

    Attributes:
        keras: what the model itself answers.
        files: those that were asked for, in order.
    """

    keras: KerasAnswers
    files: tuple[Export, ...]


def export_path(
    path: Path,
    formats: Sequence[Format],
    *,
    dataset: str | None,
    preprocess: str | None = None,
    out: Path | None,
    images: int,
    baselines: bool,
    stages: bool = False,
    overwrite: bool,
    trust: bool,
    progress: Progress,
) -> Exported:
    """Exports a run, or a Keras file; it is lowered, and its reference computed, once for all.

    Args:
        path: a run's folder, or a Keras file or SavedModel.
        formats: what to write it as.
        dataset: name or path of the images to prove the file on; None means the run's.
        preprocess: what pixels become, see `preprocessing.parse_preprocessing`; None means what
            the run says, or the model's first layers.
        out: folder of the export; None means export/ in the run's folder. Where biases had to
            be moved, model.moved-biases.keras is left there too.
        images: how many test images to prove it on; 0 means all.
        baselines: whether to write model.float.* too: the model without quantizers, as the
            usual converter of each format writes it.
        stages: cut the model into one stage an output, and write these alone, with stages.json,
            into a folder of their own within that of the export.
        overwrite: replace files that no proof says are ours.
        trust: load a Keras file that holds code.
    Raises:
        KerasQuantError: a subclass says what is wrong.
    """
    folder = folder_of(path, out)
    if stages and baselines:
        raise UsageError("--float writes whole models, and --stages parts: give one of them")
    if not overwrite:
        check_ours(folder, () if stages else formats)
    held = locked(path) if out is None else nullcontext()  # no training may change it meanwhile
    with held:
        model, data = load_with_data(
            path, dataset=dataset, preprocess=preprocess, trust=trust, say=progress.say
        )
        return _export(
            model,
            data,
            folder,
            formats,
            images=images,
            scheme=_scheme_of(path),
            baselines=baselines,
            stages=stages,
            overwrite=overwrite,
            progress=progress,
        )


def folder_of(path: Path, out: Path | None, *, suffix: str = "") -> Path:
    """Says where an export goes.

    Args:
        path: a run's folder, or a Keras file or SavedModel.
        out: what the user asked for; None means export/ in the run's folder.
        suffix: of that folder's name.
    Raises:
        RunError: the path is neither.
        UsageError: it is no run, and nothing was asked for.
    """
    is_model = is_keras_model(path)
    if not is_model and not path.is_dir():
        raise RunError(f"{path}: no such run; give a run's folder, or a {MODEL_KINDS}")
    if out is not None:
        return out
    if is_model:
        raise UsageError(f"{path} is no run: say where the export goes with --out FOLDER")
    export = RunFolder(path).export
    return export.with_name(f"{export.name}{suffix}")


def check_ours(folder: Path, formats: Sequence[Format]) -> None:
    """Checks that nothing would be replaced that no proof says is ours. Raises: RunError."""
    if foreign := foreign_files(folder, formats):
        raise RunError(
            f"{foreign[0]} exists, and {PARITY_NAME} beside it does not say that it is ours: give "
            "--overwrite, or another --out"
        )


def _export(
    model: keras.Model,
    data: Dataset,
    folder: Path,
    formats: Sequence[Format],
    *,
    images: int,
    scheme: str,
    baselines: bool,
    stages: bool,
    overwrite: bool,
    progress: Progress,
) -> Exported:
    """Lowers a model, proves its files, and writes them."""
    progress.say("lowering to the integer graph")
    before = model.get_weights()
    snap = lower_exactly(model, limits=stored_limits(formats))
    evidence = gather(
        model, data, images=images, scheme=scheme, before=before if snap.moved else None
    )
    for line in _unfit(evidence, data):
        progress.say(line)
    say_masked_dense(model, evidence, progress)
    moved = {MOVED_NAME: partial(save_model, model)} if snap.moved else {}
    if stages:
        return _export_stages(
            snap, evidence, folder, formats, more=moved, overwrite=overwrite, progress=progress
        )
    proven = prove_formats(snap, formats, evidence, progress=progress)
    if warning := _guessing_warning(model, data, proven):
        progress.say(f"warning: {warning}")
    files = write_proven(proven, folder, more=moved)
    if baselines:
        _write_baselines(model, folder, formats, progress)
    return Exported(keras=proven.keras, files=files)


def _export_stages(
    snap: Snap,
    evidence: Evidence,
    folder: Path,
    formats: Sequence[Format],
    *,
    more: Mapping[str, Callable[[Path], None]],
    overwrite: bool,
    progress: Progress,
) -> Exported:
    """Cuts a lowered model, proves its stages, and writes them."""
    found = prove_stages(snap, formats, evidence, progress=progress)
    folder = folder / stage_files.FOLDER
    if not overwrite:
        check_ours(folder, tuple(found.proven.contents))
    passed = {form.name for form, parity in found.proven.parities.items() if parity.passed}
    record = stage_files.StagesRecord(
        kq_version=__version__,
        preprocess=evidence.preprocessing,
        formats={
            name: staged
            for name, staged in found.formats.items()
            if all(f"{name}-stage{n}" in passed for n in range(1, len(staged.stages) + 1))
        },
    )
    whole = stage_files.with_others(record, folder, tried=found.formats)
    text = f"{to_json(whole)}\n".encode()
    written = {**more, stage_files.FILE_NAME: lambda path: write_bytes(path, text)}
    files = write_proven(found.proven, folder, more=written)
    return Exported(keras=found.proven.keras, files=files)


def say_masked_dense(model: keras.Model, evidence: Evidence, progress: Progress) -> None:
    """Says what files of a model do not save whose positions halt; nothing of other models."""
    if note := masked_dense_note(model, evidence.images, evidence.preprocessing):
        progress.say(note)


def _unfit(evidence: Evidence, data: Dataset) -> Iterator[str]:
    """Says which outputs cannot be judged by the data."""
    if not data.has_labels and None in evidence.tasks:
        yield f"{without_labels(data)}: the model is compared with Keras, and not judged"
        return
    for name, task in zip(evidence.output_names, evidence.tasks, strict=True):
        if task is None:
            yield (
                f"output {name} is neither one number a class ({data.num_classes} in {data.name}) "
                "nor the image again: it is compared with Keras, and not judged"
            )


def _guessing_warning(model: keras.Model, data: Dataset, proven: Proven) -> str:
    """Says that the model guesses; nothing where it does not, or is no classifier."""
    evidence = proven.evidence
    place = last_classifier(evidence.tasks)
    if place is None or not len(proven.best):
        return ""
    try_another = tried_on(
        evidence.images,
        evidence.labels,
        lambda x, becomes: evidence.keras(normalize(x, becomes))[place],
    )
    return guessing_warning(proven.best, evidence.labels, data, try_another)


def stored_limits(formats: Sequence[Format]) -> StoredLimits:
    """The largest stored weight codes that all formats ask for, by node of an ideal graph."""

    def limits(graph: Graph) -> dict[str, int]:
        found: dict[str, int] = {}
        for form in formats:
            asked = form.definition.limits
            for name, limit in asked(graph).items() if asked else ():
                found[name] = min(limit, found.get(name, limit))
        return found

    return limits


def _scheme_of(path: Path) -> str:
    """The name of a run's scheme; "" for a model that belongs to none."""
    if is_keras_model(path):
        return ""
    return str(records.load(path).scheme["name"])


def _write_baselines(
    model: keras.Model, folder: Path, formats: Sequence[Format], progress: Progress
) -> None:
    plain = without_quantizers(model)
    for suffix in dict.fromkeys(form.suffix for form in formats):
        path = folder / f"model.float{suffix}"
        progress.say(f"writing {path}")
        write_bytes(path, BASELINES[suffix](plain))
