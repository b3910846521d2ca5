"""Writing a lowered model for a target, behind a gate: a file that fails keeps another name."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_quant.data import normalize
from keras_quant.emit.tflite import emit_tflite
from keras_quant.errors import ParityError, RunError, UsageError
from keras_quant.evaluate import KERAS_SUFFIXES, check_fits, dataset_of, run_logits
from keras_quant.files import make_folder, write_bytes, write_json
from keras_quant.keras_files import load_model, save_model
from keras_quant.logits import LogitFunction
from keras_quant.lower import Snap, lower_exactly
from keras_quant.parity import Parity, prove_tflite
from keras_quant.progress import Progress
from keras_quant.runners.litert import LiteRTRunner
from keras_quant.runs import RunFolder, model_of

TFLITE_NAME = "model.tflite"
FAILED_NAME = "model.failed-parity.tflite"
PARITY_NAME = "parity.json"
# The model whose answers the file gives, where that is not the one that was given.
MOVED_NAME = "model.moved-biases.keras"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A file that passed the gate.

    Attributes:
        path: the file.
        size_bytes: its length.
        accuracy: share of the images that it classifies right.
        moved_channels: channels whose bias was moved for this export (see lower.snap).
        largest_shift_steps: the largest such move, in steps of the output.
        parity: the comparison with the reference, and with Keras.
    """

    path: Path
    size_bytes: int
    accuracy: float
    moved_channels: int
    largest_shift_steps: float
    parity: Parity


def export_tflite(
    snap: Snap,
    folder: Path,
    *,
    images: np.ndarray,
    keras_logits: np.ndarray,
    labels: np.ndarray,
    progress: Progress,
) -> Export:
    """Writes folder/model.tflite and folder/parity.json, once the file is proven.

    Args:
        snap: the lowered model.
        images: uint8 or float32 (images, height, width, channels).
        keras_logits: float32 (images, classes), the Keras model's answers to them.
        labels: int (images,).
    Raises:
        ParityError: the file does not answer as the reference does; it is left under
            model.failed-parity.tflite beside parity.json, and an older model.tflite is removed.
        EmitError: TFLite cannot compute the graph exactly.
    """
    content = emit_tflite(snap.graph)
    progress.say(f"proving {folder / TFLITE_NAME} on {len(images):,} test images")
    with progress.bar("proving", len(images)) as show:
        parity = prove_tflite(
            snap.graph,
            content,
            {snap.graph.inputs[0]: normalize(images)},
            keras_logits=keras_logits,
            on_images=lambda done: show(done, ""),
        )
    make_folder(folder)
    path = folder / (TFLITE_NAME if parity.passed else FAILED_NAME)
    for name in (TFLITE_NAME, FAILED_NAME):  # never beside the proof of another file
        (folder / name).unlink(missing_ok=True)
    write_json(folder / PARITY_NAME, {"tflite": _record(path, content, snap, parity)})
    write_bytes(path, content)
    if not parity.passed:
        raise ParityError(_failure(path, parity))
    logits = run_logits(LiteRTRunner(path), images)
    return Export(
        path=path,
        size_bytes=len(content),
        accuracy=float(np.mean(logits.argmax(axis=-1) == labels)),
        moved_channels=snap.moved,
        largest_shift_steps=snap.largest_shift_steps,
        parity=parity,
    )


def export_path(
    path: Path,
    *,
    dataset: str | None,
    out: Path | None,
    images: int,
    overwrite: bool,
    trust: bool,
    progress: Progress,
) -> Export:
    """Exports a run, or a Keras file, as TFLite.

    Args:
        path: a run's folder, or a .keras or .h5 file.
        dataset: name or path of the images to prove the file on; None means the run's.
        out: folder of the export; None means export/ in the run's folder. Where biases had to
            be moved, model.moved-biases.keras is left there too.
        images: how many test images to prove it on; 0 means all.
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
    if (folder / TFLITE_NAME).exists() and not overwrite:
        raise RunError(f"{folder / TFLITE_NAME} exists: give --overwrite, or another --out")
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
    return export_tflite(snap, folder, images=x, labels=y, keras_logits=logits, progress=progress)


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
