from __future__ import annotations

import numpy as np

from keras_quant.plots import accuracy_against_size
from keras_quant.runs.records import DatasetRecord, Figure, ModelRecord, RunRecord, TrainingRecord


def record_of(name: str, *, accuracy: float, bits: int) -> RunRecord:
    sizes = {"train": 1, "validation": 1, "test": 1}
    return RunRecord(
        command=(),
        created="2026-01-01T00:00:00+00:00",
        kq_version="0",
        model=ModelRecord(name="net"),
        dataset=DatasetRecord(
            name="data", source="here", sizes=sizes, input_shape=(8, 8, 1), num_classes=10
        ),
        training=TrainingRecord(
            method="float" if name == "float" else "qkeras", seed=0, epochs=1, batch_size=1
        ),
        scheme={"name": name},
        status="exported",
        figures=(
            Figure(name="accuracy", value=accuracy, unit="%", notes="TFLite file"),
            Figure(name="logical size", value=bits, notes="kernels at the scheme's widths"),
        ),
    )


def test_each_run_is_a_named_point_and_float_a_line() -> None:
    runs = [record_of("float", accuracy=90.0, bits=64000), record_of("w4", accuracy=89, bits=8000)]
    (axes,) = accuracy_against_size(runs, title="net").axes
    points = sorted((line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines)
    np.testing.assert_array_equal(points, [(0, 90), (1, 89), (8, 90)])  # kB, %; the line from 0
    assert [text.get_text() for text in axes.texts] == ["float\n90.00 %", "w4\n89.00 %"]
    assert "[kB]" in axes.get_xlabel() and "[%]" in axes.get_ylabel()
