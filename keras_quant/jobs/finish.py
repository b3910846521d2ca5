"""How a run ends, whatever gave its model: lowered, saved, evaluated once, exported and proven."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_quant.data import Dataset
from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.errors import LoweringError
from keras_quant.graph.cost import cost
from keras_quant.jobs.export import stored_limits
from keras_quant.jobs.preprocess import guessing_warning
from keras_quant.lower import Snap, lower, lower_exactly
from keras_quant.model.files import save_model
from keras_quant.model.logits import LogitFunction, accuracy
from keras_quant.proof.baseline import float_tflite
from keras_quant.proof.formats import Format
from keras_quant.proof.gate import Evidence, Export, export_formats, gather
from keras_quant.runs import RunFolder, records
from keras_quant.runs.progress import Progress
from keras_quant.runs.records import Figure, RunRecord
from keras_quant.tf import keras

TITLES = {"tflite": "TFLite", "onnx": "ONNX", "tensorrt": "TensorRT"}


def finish(
    model: keras.Model,
    source: keras.Model,
    dataset: Dataset,
    folder: RunFolder,
    record: RunRecord,
    formats: Sequence[Format],
    *,
    beside_float: bool = False,
    progress: Progress,
) -> tuple[RunRecord, tuple[Export, ...]]:
    """Snaps, saves, touches the test set once, exports and proves.

    Args:
        model: fake-quantized, or in float; its biases are moved.
        source: the float model that it was made of.
        beside_float: evaluate the source too, and compare their answers.
    Returns: the record with its figures, as saved; and the files that passed.
    Raises:
        LoweringError, EmitError: the model cannot be lowered, or written for a target.
        ParityError: a file does not answer as the reference does.
    """
    progress.say("lowering to the integer graph")
    snap = lower_exactly(model, limits=stored_limits(formats))
    save_model(model, folder.model)
    progress.say(f"evaluating on {len(dataset.test):,} test images")
    evidence = gather(model, dataset, scheme=str(record.scheme["name"]))
    answers = evidence.keras_logits.argmax(axis=-1)
    if warning := guessing_warning(answers, evidence.labels, dataset):
        progress.say(f"warning: {warning}")
    figures = [_percent("accuracy", accuracy(evidence.keras_logits, dataset.test.y), "Keras model")]
    if beside_float:
        figures += _beside_float(
            LogitFunction(source, dataset.preprocessing)(dataset.test.x), evidence
        )
    record = dataclasses.replace(
        record,
        status="trained" if record.training else "quantized",
        figures=(*figures, *_sizes(snap, source)),
    )
    records.save(record, folder.path)
    exports = export_formats(snap, folder.export, formats, evidence, progress=progress)
    measured = [figure for export in exports for figure in _of_file(export)]
    record = dataclasses.replace(record, status="exported", figures=(*record.figures, *measured))
    records.save(record, folder.path)
    return record, exports


def _beside_float(logits: np.ndarray, evidence: Evidence) -> list[Figure]:
    same = logits.argmax(axis=-1) == evidence.keras_logits.argmax(axis=-1)
    return [
        _percent("accuracy", accuracy(logits, evidence.labels), "float model"),
        _percent("top-1 agreement", float(np.mean(same)), "float and quantized"),
    ]


def _of_file(export: Export) -> tuple[Figure, ...]:
    title = TITLES[export.format]
    agreement = export.parity.keras_top1_agreement
    return (
        _percent("accuracy", export.accuracy, f"{title} file"),
        _percent("top-1 agreement", agreement, f"Keras and {title}"),
        Figure(name="size", value=export.size_bytes, unit="bytes", notes=f"integer {title} file"),
    )


def _percent(name: str, share: float | None, notes: str) -> Figure:
    assert share is not None
    return Figure(name=name, value=100 * share, unit="%", split="test", notes=notes)


def _sizes(snap: Snap, source: keras.Model) -> tuple[Figure, ...]:
    total = cost(snap.graph)
    return (
        Figure(name="size", value=_float_bytes(source), unit="bytes", notes="float TFLite file"),
        Figure(name="parameters", value=total.parameters),
        Figure(
            name="logical size",
            value=total.kernel_bits,
            unit="bits",
            notes="kernels at the scheme's widths",
        ),
        Figure(name="MACs", value=total.macs, notes="one image"),
    )


def _float_bytes(source: keras.Model) -> int:
    """Size of the float model's TFLite file: our own, as large as the converter's and soon made.

    Some layers are lowered between codes only; models with these take the converter.
    """
    try:
        return len(emit_tflite(lower(source)))
    except LoweringError:
        return len(float_tflite(source))
