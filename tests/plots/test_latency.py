from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from keras_quant.bench import records
from keras_quant.errors import UsageError
from keras_quant.plots.latency import measured_latency
from keras_quant.runs.index import Run
from tests.bench.test_records import a_measurement, a_record
from tests.plots.test_tradeoff import run as scored


def run(path: Path) -> Run:
    return dataclasses.replace(scored("qkeras", 4, 90.0), path=path)


def measured(path: Path, milliseconds: int, **fields: object) -> records.Measurement:
    file = f"{path.parent.name}/{path.name}/export/model.tflite"
    return a_measurement("model.tflite", milliseconds, file=file, **fields)


def test_latency_is_the_median_found_beside_the_run_or_in_the_sweep(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "ab", "c")]
    for path in paths:
        path.mkdir()
    both = a_record(measured(paths[0], 3), measured(paths[1], 5))
    records.save(both, tmp_path / records.FILE_NAME)
    records.save(a_record(measured(paths[2], 7)), paths[2] / records.FILE_NAME)
    runs = [run(path) for path in paths]
    cost = measured_latency(runs)
    medians = [one.summary.p50_ms for one in (*both.measurements, measured(paths[2], 7))]
    assert [cost.of(one) for one in runs] == medians
    assert "[ms]" in cost.label and "1 thread" in cost.label


def test_times_taken_in_another_way_are_not_drawn_beside_each_other(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    record = a_record(measured(paths[0], 3), measured(paths[1], 5, threads=2))
    records.save(record, tmp_path / records.FILE_NAME)
    cost = measured_latency([run(path) for path in paths])
    assert cost.of(run(paths[0])) is not None and cost.of(run(paths[1])) is None


def test_runs_that_were_not_measured_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run with a score was measured: kq bench RUN"):
        measured_latency([run(tmp_path / "a")])
