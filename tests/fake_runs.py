"""Folders that look like runs, without a training."""

from __future__ import annotations

import json
from pathlib import Path

from keras_quant.proof.record import PARITY_NAME, digest
from keras_quant.runs import records
from keras_quant.runs.records import DatasetRecord, ModelRecord, RunRecord, TrainingRecord

RECORD = RunRecord(
    command=("kq", "train"),
    created="2026-01-01T00:00:00+00:00",
    kq_version="0",
    model=ModelRecord(name="mlp"),
    dataset=DatasetRecord(
        name="digits", source="", sizes={}, input_shape=(8, 8, 1), num_classes=10
    ),
    training=TrainingRecord(method="qkeras", seed=0, epochs=1, batch_size=1),
    scheme={},
    status="exported",
)


def make_run(path: Path, *, tflite: bytes | None = None) -> Path:
    """A run whose Keras model is an empty file.

    Args:
        tflite: content of its exported file, as proven; None means that it was not exported.
    """
    (path / "export").mkdir(parents=True)
    records.save(RECORD, path)
    (path / "model.keras").write_bytes(b"")
    if tflite is not None:
        (path / "export" / "model.tflite").write_bytes(tflite)
        proof = {"file": "model.tflite", "sha256": digest(tflite), "passed": True}
        (path / "export" / PARITY_NAME).write_text(json.dumps({"tflite": proof}))
    return path
