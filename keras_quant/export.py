"""Writing a lowered model for a target, behind a gate: a file that fails keeps another name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_quant import records
from keras_quant.baseline import BASELINES, without_quantizers
from keras_quant.calibrate import CALIBRATION_IMAGES
from keras_quant.data import Dataset, normalize
from keras_quant.emit import Format
from keras_quant.errors import ParityError, RunError, UsageError
from keras_quant.evaluate import KERAS_SUFFIXES, check_fits, dataset_of, run_logits
from keras_quant.files import make_folder, write_bytes, write_json
from keras_quant.graph.ir import Graph
from keras_quant.graph.passes.realize import StoredLimits
from keras_quant.graph.store import save_graph
from keras_quant.keras_files import load_model, save_model
from keras_quant.logits import LogitFunction
from keras_quant.lower import Snap, lower_exactly
from keras_quant.parity import Parity, prove_all
from keras_quant.progress import Progress
from keras_quant.runs import GRAPH_NAME, RunFolder, model_of
from keras_quant.tf import keras

PARITY_NAME = "parity.json"
SAMPLES = 8  # images that go with a file to a board
# The model whose answers the file gives, where that is not the one that was given.
MOVED_NAME = "model.moved-biases.keras"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A file that passed the gate.

    Attributes:
        format: a key of emit.FORMATS.
        path: the file; where it has a folder of its own, that holds all that a board needs.
        size_bytes: its length.
        accuracy: share of the images that it classifies right.
        moved_channels: channels whose bias was moved for this export (see lower.snap).
        largest_shift_steps: the largest such move, in steps of the output.
        parity: the comparison with the reference, and with Keras.
    """

    format: str
    path: Path
    size_bytes: int
    accuracy: float
    moved_channels: int
    largest_shift_steps: float
    parity: Parity


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What files are proven on.

    Attributes:
        images: uint8 or float32 (images, height, width, channels), of the test set.
        labels: int (images,).
        keras_logits: float32 (images, classes), the Keras model's answers to them.
        calibration: training images, over which the range of int8 logits is measured.
        class_names: in the order of the logits, for what files say of themselves.
        scheme: how the model was quantized, likewise.
    """

    images: np.ndarray
    labels: np.ndarray
    keras_logits: np.ndarray
    calibration: np.ndarray
    class_names: tuple[str, ...] = ()
    scheme: str = ""


def gather(model: keras.Model, data: Dataset, *, images: int = 0, scheme: str = "") -> Evidence:
    """Gathers what a model's files are proven on.

    Args:
        model: the model with the biases that its files have.
        images: how many test images; 0 means all.
    """
    x = data.test.x[: images or None]
    return Evidence(
        images=x,
        labels=data.test.y[: images or None],
        keras_logits=LogitFunction(model)(x),
        calibration=data.train.x[:CALIBRATION_IMAGES],
        class_names=data.class_names,
        scheme=scheme,
    )


def export_formats(
    snap: Snap,
    folder: Path,
    formats: Sequence[Format],
    evidence: Evidence,
    *,
    progress: Progress,
) -> tuple[Export, ...]:
    """Writes folder/model.* in each format and folder/parity.json, once the files are proven.

    The graph itself is left there as model.kqgraph.

    Args:
        snap: the lowered model.
    Raises:
        ParityError: some files do not answer as the reference does; each is left under
            model.failed-parity.* beside parity.json, and an older model.* is removed.
        EmitError: a target cannot compute the graph exactly, or not as fast as it should.
    """
    calibration = {snap.graph.inputs[0]: normalize(evidence.calibration)}
    graphs = {form: form.rewritten(snap.graph, calibration) for form in formats}
    contents = {form: _emitted(graphs[form], form, evidence) for form in formats}
    proven = _proven(snap.graph, graphs, contents, evidence, folder, progress)
    _write(folder, contents, proven, snap, evidence)
    failed = [_failure(folder / f.failed_name, p) for f, p in proven.items() if not p.passed]
    if failed:
        raise ParityError("\n".join(failed))
    return tuple(
        Export(
            format=form.name,
            path=folder / form.file_name,
            size_bytes=len(contents[form]),
            accuracy=_accuracy(form, contents[form], evidence),
            moved_channels=snap.moved,
            largest_shift_steps=snap.largest_shift_steps,
            parity=parity,
        )
        for form, parity in proven.items()
    )


def _emitted(graph: Graph, form: Format, evidence: Evidence) -> bytes:
    content = form.emitted(graph, name=graph.name, labels=evidence.class_names)
    if form.check:
        form.call("check", graph, content)
    return content


def _proven(
    model_graph: Graph,
    graphs: Mapping[Format, Graph],
    contents: Mapping[Format, bytes],
    evidence: Evidence,
    folder: Path,
    progress: Progress,
) -> dict[Format, Parity]:
    """Proves files; those of the same graph together, so that its reference runs once."""
    proven: dict[Format, Parity] = {}
    for graph in dict.fromkeys(graphs.values()):
        files = [(form, contents[form]) for form in graphs if graphs[form] is graph]
        names = ", ".join(form.file_name for form, _ in files)
        count = len(evidence.images)
        progress.say(f"proving {names} in {folder} on {count:,} test images")
        with progress.bar("proving", count) as show:
            found = prove_all(
                graph,
                files,
                {graph.inputs[0]: normalize(evidence.images)},
                keras_logits=evidence.keras_logits,
                judge_keras=graph is model_graph,
                on_images=lambda done, show=show: show(done, ""),
            )
        proven |= dict(zip((form for form, _ in files), found, strict=True))
    return {form: proven[form] for form in graphs}


def _package(graph: Graph, form: Format, folder: Path, content: bytes, evidence: Evidence) -> None:
    """Writes a file that passed, with what belongs beside it."""
    form.call(
        "package",
        graph,
        folder / form.folder,
        model=content,
        samples={graph.inputs[0]: normalize(evidence.images[:SAMPLES])},
        labels=evidence.class_names,
        scheme=evidence.scheme,
    )


def _write(
    folder: Path,
    contents: Mapping[Format, bytes],
    proven: Mapping[Format, Parity],
    snap: Snap,
    evidence: Evidence,
) -> None:
    """Writes the proofs, beside those of other formats, and then the files."""
    make_folder(folder)
    paths = {
        form: folder / (form.file_name if parity.passed else form.failed_name)
        for form, parity in proven.items()
    }
    for form in contents:
        for name in (form.file_name, form.failed_name):  # never beside another file's proof
            (folder / name).unlink(missing_ok=True)
    made = {
        form.name: _record(folder, paths[form], contents[form], snap, parity)
        for form, parity in proven.items()
    }
    write_json(folder / PARITY_NAME, _other_records(folder, made) | made)
    save_graph(snap.graph, folder / GRAPH_NAME)
    for form, content in contents.items():
        if form.package and proven[form].passed:
            _package(snap.graph, form, folder, content, evidence)
        else:
            make_folder(paths[form].parent)
            write_bytes(paths[form], content)


def _other_records(folder: Path, made: Mapping[str, object]) -> dict[str, object]:
    """The proofs of formats that are not exported now, whose files are still there."""
    try:
        known = json.loads((folder / PARITY_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {
        name: record
        for name, record in known.items()
        if name not in made and (folder / record["file"]).exists()
    }


def _accuracy(form: Format, content: bytes, evidence: Evidence) -> float:
    logits = run_logits(form.load("runner")(content), evidence.images)
    return float(np.mean(logits.argmax(axis=-1) == evidence.labels))


def export_path(
    path: Path,
    formats: Sequence[Format],
    *,
    dataset: str | None,
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
        out: folder of the export; None means export/ in the run's folder. Where biases had to
            be moved, model.moved-biases.keras is left there too.
        images: how many test images to prove it on; 0 means all.
        baselines: whether to write model.float.* too: the model without quantizers, as the
            usual converter of each format writes it.
        trust: load a Keras file that holds code.
    Raises:
        KerasQuantError: a subclass says what is wrong.
    """
    if path.suffix not in KERAS_SUFFIXES and not path.is_dir():
        raise RunError(f"{path}: no such run; give a run's folder, a .keras or an .h5 file")
    file = path if path.suffix in KERAS_SUFFIXES else model_of(path)
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
    progress.say("lowering to the integer graph")
    snap = lower_exactly(model, limits=stored_limits(formats))
    if snap.moved:
        save_model(model, make_folder(folder) / MOVED_NAME)
    evidence = gather(model, data, images=images, scheme=_scheme_of(path))
    exports = export_formats(snap, folder, formats, evidence, progress=progress)
    if baselines:
        _write_baselines(model, folder, formats, progress)
    return exports


def stored_limits(formats: Sequence[Format]) -> StoredLimits:
    """The largest stored weight codes that all formats ask for, by node of an ideal graph."""

    def limits(graph: Graph) -> dict[str, int]:
        found: dict[str, int] = {}
        for form in formats:
            if form.limits:
                for name, limit in form.call("limits", graph).items():
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


def _record(
    folder: Path, path: Path, content: bytes, snap: Snap, parity: Parity
) -> dict[str, object]:
    snapping = {
        "layers": snap.layers,
        "channels": snap.channels,
        "channels_moved": snap.moved,
        "largest_shift_steps": snap.largest_shift_steps,
    }
    return {
        "file": str(path.relative_to(folder)),
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "bias_snapping": snapping,
        **dataclasses.asdict(parity),
    }


def _failure(path: Path, parity: Parity) -> str:
    return (
        f"{path}: the file does not answer as the model does: {parity.codes_different:,} of "
        f"{parity.codes_compared:,} codes differ (first in layer {parity.first_different}; a share "
        f"of {parity.codes_tolerance:g} is allowed), "
        f"logits by up to {parity.logit_difference:.2g} ({parity.tolerance:.0e} is allowed), top-1 "
        f"agreement {parity.top1_agreement:.2%} with the reference and "
        f"{parity.keras_top1_agreement or 0:.2%} with Keras. See {PARITY_NAME} beside it"
    )
