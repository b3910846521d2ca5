"""Exports a run, or a Keras file: loaded, lowered, and written for each target behind the gate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from keras_quant.data import Dataset
from keras_quant.errors import RunError, UsageError
from keras_quant.files import make_folder, write_bytes
from keras_quant.graph.ir import Graph
from keras_quant.graph.passes.realize import StoredLimits
from keras_quant.jobs.evaluate import check_fits, dataset_of, record_around
from keras_quant.jobs.preprocess import TRIED_IMAGES, declare, guessing_warning
from keras_quant.lower import lower_exactly
from keras_quant.model.files import load_model, save_model
from keras_quant.model.inputs import with_input_shape
from keras_quant.model.logits import LogitFunction, accuracy
from keras_quant.model.suffixes import KERAS_SUFFIXES, is_keras_file
from keras_quant.proof.baseline import BASELINES, without_quantizers
from keras_quant.proof.formats import Format
from keras_quant.proof.gate import Evidence, Export, export_formats, gather
from keras_quant.runs import RunFolder, model_of, records
from keras_quant.runs.progress import Progress
from keras_quant.tf import keras

# The model whose answers the file gives, where that is not the one that was given.
MOVED_NAME = "model.moved-biases.keras"


def export_path(
    path: Path,
    formats: Sequence[Format],
    *,
    dataset: str | None,
    preprocess: str | None = None,
    out: Path | None,
    images: int,
    baselines: bool,
    overwrite: bool,
    trust: bool,
    progress: Progress,
) -> tuple[Export, ...]:
    """Exports a run, or a Keras file; it is lowered, and its reference computed, once for all.

    Args:
        path: a run's folder, or a .keras or .h5 file.
        formats: what to write it as.
        dataset: name or path of the images to prove the file on; None means the run's.
        preprocess: what pixels become, see `preprocessing.parse_preprocessing`; None means what
            the run says, or the model's first layers.
        out: folder of the export; None means export/ in the run's folder. Where biases had to
            be moved, model.moved-biases.keras is left there too.
        images: how many test images to prove it on; 0 means all.
        baselines: whether to write model.float.* too: the model without quantizers, as the
            usual converter of each format writes it.
        trust: load a Keras file that holds code.
    Raises:
        KerasQuantError: a subclass says what is wrong.
    """
    if not is_keras_file(path) and not path.is_dir():
        raise RunError(
            f"{path}: no such run; give a run's folder, or a {', '.join(KERAS_SUFFIXES)} file"
        )
    file = path if is_keras_file(path) else model_of(path)
    folder = out or (RunFolder(path).export if file != path else None)
    if folder is None:
        raise UsageError(f"{path} is no run: say where the export goes with --out FOLDER")
    present = [form.file_name for form in formats if (folder / form.file_name).exists()]
    if present and not overwrite:
        raise RunError(f"{folder / present[0]} exists: give --overwrite, or another --out")
    progress.say(f"loading {file}")
    model = load_model(file, trust=trust)
    data = dataset_of(path, dataset)
    check_fits(file, model, data)
    model = with_input_shape(model, data.input_shape)
    run = record_around(path)
    data = declare(
        data,
        asked=preprocess,
        recorded=run and run.dataset.preprocess,
        model=model,
        say=progress.say,
    )
    progress.say("lowering to the integer graph")
    snap = lower_exactly(model, limits=stored_limits(formats))
    if snap.moved:
        save_model(model, make_folder(folder) / MOVED_NAME)
    evidence = gather(model, data, images=images, scheme=_scheme_of(path))
    if warning := _guessing_warning(model, data, evidence):
        progress.say(f"warning: {warning}")
    exports = export_formats(snap, folder, formats, evidence, progress=progress)
    if baselines:
        _write_baselines(model, folder, formats, progress)
    return exports


def _guessing_warning(model: keras.Model, data: Dataset, evidence: Evidence) -> str:
    """Says that the model guesses; nothing where it does not."""
    x, y = evidence.images[:TRIED_IMAGES], evidence.labels[:TRIED_IMAGES]
    function = LogitFunction(model, None)
    return guessing_warning(
        evidence.keras_logits.argmax(axis=-1),
        evidence.labels,
        data,
        lambda becomes: accuracy(function.with_preprocessing(becomes)(x), y),
    )


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
    """The name of a run's scheme; "" for a file that belongs to none."""
    if not path.is_dir():
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
