"""Writing a lowered model for a target, behind a gate: a file that fails keeps another name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_quant.baseline import BASELINES, without_quantizers
from keras_quant.data import normalize
from keras_quant.emit import Format
from keras_quant.errors import ParityError, RunError, UsageError
from keras_quant.evaluate import KERAS_SUFFIXES, check_fits, dataset_of, run_logits
from keras_quant.files import make_folder, write_bytes, write_json
from keras_quant.graph.ir import Graph
from keras_quant.keras_files import load_model, save_model
from keras_quant.logits import LogitFunction
from keras_quant.lower import Snap, lower_exactly
from keras_quant.parity import Parity, prove_all
from keras_quant.progress import Progress
from keras_quant.runs import RunFolder, model_of
from keras_quant.tf import keras

PARITY_NAME = "parity.json"
# The model whose answers the file gives, where that is not the one that was given.
MOVED_NAME = "model.moved-biases.keras"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A file that passed the gate.

    Attributes:
        format: a key of emit.FORMATS.
        path: the file.
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


def export_formats(
    snap: Snap,
    folder: Path,
    formats: Sequence[Format],
    *,
    images: np.ndarray,
    keras_logits: np.ndarray,
    labels: np.ndarray,
    progress: Progress,
) -> tuple[Export, ...]:
    """Writes folder/model.* in each format and folder/parity.json, once the files are proven.

    Args:
        snap: the lowered model.
        images: uint8 or float32 (images, height, width, channels).
        keras_logits: float32 (images, classes), the Keras model's answers to them.
        labels: int (images,).
    Raises:
        ParityError: some files do not answer as the reference does; each is left under
            model.failed-parity.* beside parity.json, and an older model.* is removed.
        EmitError: a target cannot compute the graph exactly, or not as fast as it should.
    """
    contents = {form: _emitted(snap.graph, form) for form in formats}
    names = ", ".join(form.file_name for form in formats)
    progress.say(f"proving {names} in {folder} on {len(images):,} test images")
    with progress.bar("proving", len(images)) as show:
        proofs = prove_all(
            snap.graph,
            list(contents.items()),
            {snap.graph.inputs[0]: normalize(images)},
            keras_logits=keras_logits,
            on_images=lambda done: show(done, ""),
        )
    proven = dict(zip(formats, proofs, strict=True))
    _write(folder, contents, proven, snap)
    failed = [_failure(folder / f.failed_name, p) for f, p in proven.items() if not p.passed]
    if failed:
        raise ParityError("\n".join(failed))
    return tuple(
        Export(
            format=form.name,
            path=folder / form.file_name,
            size_bytes=len(contents[form]),
            accuracy=_accuracy(form, contents[form], images, labels),
            moved_channels=snap.moved,
            largest_shift_steps=snap.largest_shift_steps,
            parity=parity,
        )
        for form, parity in proven.items()
    )


def _emitted(graph: Graph, form: Format) -> bytes:
    content: bytes = form.load("emit")(graph)
    if form.check:
        form.load("check")(graph, content)
    return content


def _write(
    folder: Path, contents: Mapping[Format, bytes], proven: Mapping[Format, Parity], snap: Snap
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
    records = {
        form.name: _record(paths[form], contents[form], snap, parity)
        for form, parity in proven.items()
    }
    write_json(folder / PARITY_NAME, _other_records(folder, records) | records)
    for form, content in contents.items():
        write_bytes(paths[form], content)


def _other_records(folder: Path, records: Mapping[str, object]) -> dict[str, object]:
    """The proofs of formats that are not exported now, whose files are still there."""
    try:
        known = json.loads((folder / PARITY_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {
        name: record
        for name, record in known.items()
        if name not in records and (folder / record["file"]).exists()
    }


def _accuracy(form: Format, content: bytes, images: np.ndarray, labels: np.ndarray) -> float:
    logits = run_logits(form.load("runner")(content), images)
    return float(np.mean(logits.argmax(axis=-1) == labels))


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
    x, y = data.test.x[: images or None], data.test.y[: images or None]
    progress.say("lowering to the integer graph")
    snap = lower_exactly(model)
    if snap.moved:
        save_model(model, make_folder(folder) / MOVED_NAME)
    logits = LogitFunction(model)(x)
    exports = export_formats(
        snap, folder, formats, images=x, labels=y, keras_logits=logits, progress=progress
    )
    if baselines:
        _write_baselines(model, folder, formats, progress)
    return exports


def _write_baselines(
    model: keras.Model, folder: Path, formats: Sequence[Format], progress: Progress
) -> None:
    plain = without_quantizers(model)
    for form in formats:
        path = folder / f"model.float{form.suffix}"
        progress.say(f"writing {path}")
        write_bytes(path, BASELINES[form.name](plain))


def _record(path: Path, content: bytes, snap: Snap, parity: Parity) -> dict[str, object]:
    snapping = {
        "layers": snap.layers,
        "channels": snap.channels,
        "channels_moved": snap.moved,
        "largest_shift_steps": snap.largest_shift_steps,
    }
    return {
        "file": path.name,
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
