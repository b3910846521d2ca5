"""The table of quantized runs, from their records alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from post_training import COLUMNS, row_of

from keras_quant.runs import records
from keras_quant.runs.records import Figure
from tests.fake_runs import RECORD


def test_a_run_is_one_row_of_what_its_records_say(tmp_path: Path) -> None:
    figures = (
        Figure(name="size", value=400_000, unit="bytes", notes="float TFLite file"),
        Figure(name="size", value=104_000, unit="bytes", notes="integer TFLite file"),
        Figure(name="top-1 agreement", value=97.5, notes="float and quantized"),
        Figure(name="root mean square difference", value=1.5, notes="float and quantized"),
    )
    dataset = dataclasses.replace(RECORD.dataset, sizes={"test": 2000}, has_labels=False)
    record = dataclasses.replace(RECORD, figures=figures, dataset=dataset, scheme={"name": "w8a8"})
    records.save(record, tmp_path)
    (tmp_path / "export").mkdir()
    found = {"tflite": 0, "onnx": 0, "tensorrt": 30}
    parity = {f: {"codes_different": n, "codes_compared": 10**7} for f, n in found.items()}
    (tmp_path / "export" / "parity.json").write_text(json.dumps(parity))
    row = dict(zip(COLUMNS, row_of(tmp_path), strict=True))
    assert (row["model"], row["bits"], row["images"]) == ("mlp", "w8a8", "2,000")
    assert (row["accuracy"], row["agreement"], row["rms"]) == ("-", "97.50 %", "1.50 %")
    assert (row["kB"], row["of float"]) == ("104", "0.26")
    assert (row["other codes: TFLite"], row["ONNX"], row["TensorRT"]) == ("0", "0", "30 (3e-06)")
