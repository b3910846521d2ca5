"""Estimates never look like measurements."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from matplotlib.colors import to_rgba
from matplotlib.container import BarContainer

from keras_quant.bench import records as measured
from keras_quant.bench.estimate import records
from keras_quant.errors import UsageError
from keras_quant.plots.bars import bars_of, latency_bars
from keras_quant.plots.draw import draw
from keras_quant.plots.estimated import estimated_latency
from keras_quant.runs.index import Run
from keras_quant.schemes.scheme import FLOAT_BITS
from tests.bench.estimate.test_records import an_estimate
from tests.bench.test_records import a_measurement, a_record
from tests.plots.test_tradeoff import run as scored


def a_run(path: Path, bits: int = 4) -> Run:
    path.mkdir()
    return dataclasses.replace(scored("qkeras", bits, 90.0), path=path)


def estimated(run: Run, board: str = "orin-nano") -> records.EstimateRecord:
    record = an_estimate(board=board)
    records.save(record, run.path / records.file_name(board))
    return record


def by_precision(record: records.EstimateRecord) -> dict[str, float]:
    return {one.precision: one.estimate_ms for one in record.estimates}


def test_float_runs_count_in_fp16_and_others_in_int8(tmp_path: Path) -> None:
    quantized, plain = a_run(tmp_path / "q"), a_run(tmp_path / "f", FLOAT_BITS)
    times = by_precision(estimated(quantized))
    estimated(plain)
    cost = estimated_latency([quantized, plain])
    assert (cost.of(quantized), cost.of(plain)) == (times["int8"], times["fp16"])
    assert "ESTIMATE" in cost.label and "nothing was measured" in cost.label and cost.estimated


def test_the_board_of_most_runs_is_drawn_in_one_power_mode(tmp_path: Path) -> None:
    runs = [a_run(tmp_path / name) for name in "abc"]
    estimated(runs[0], "nano")
    for run in runs[1:]:
        estimated(run)
    slow = dataclasses.replace(an_estimate(), power_mode="15W")
    records.save(slow, runs[2].path / records.file_name("orin-nano"))
    cost = estimated_latency(runs)
    assert [cost.of(run) is None for run in runs] == [True, False, True]
    assert "Orin Nano" in cost.label and "MAXN_SUPER" in cost.label


def test_a_board_can_be_asked_for(tmp_path: Path) -> None:
    runs = [a_run(tmp_path / name) for name in "ab"]
    for run in runs:
        estimated(run, "xavier-nx")
    times = by_precision(estimated(runs[0], "nano"))
    label = draw("accuracy-estimate", runs, board="nano").axes[0].get_xlabel()
    assert "Jetson Nano" in label
    assert estimated_latency(runs, "nano").of(runs[0]) == times["fp16"]
    with pytest.raises(UsageError, match=r"\(but for nano, xavier-nx\): .*--board tx2 --estimate"):
        estimated_latency(runs, "tx2")
    with pytest.raises(UsageError, match="--board is for accuracy-estimate; latency-bars takes"):
        draw("latency-bars", runs, board="nano")


def test_a_board_without_int8_counts_in_fp16(tmp_path: Path) -> None:
    run = a_run(tmp_path / "q")
    times = by_precision(estimated(run, "nano"))
    assert estimated_latency([run]).of(run) == times["fp16"]


def test_runs_without_an_estimate_are_counted_in_the_picture(tmp_path: Path) -> None:
    runs = [a_run(tmp_path / name) for name in "ab"]
    estimated(runs[0])
    label = draw("accuracy-estimate", runs).axes[0].get_xlabel()
    assert "1 of 2 runs have none and are not drawn" in label
    assert "not drawn" not in draw("accuracy-estimate", runs[:1]).axes[0].get_xlabel()


def test_markers_of_estimates_are_hollow(tmp_path: Path) -> None:
    run = a_run(tmp_path / "q")
    estimated(run)
    axes = draw("accuracy-estimate", [run]).axes[0]
    markers = [line for line in axes.lines if line.get_marker() not in ("None", "", None)]
    assert [line.get_markerfacecolor() for line in markers] == ["none"]


def test_bars_of_estimates_are_hatched_and_say_so(tmp_path: Path) -> None:
    run = a_run(tmp_path / "q")
    record = estimated(run)
    file = f"{tmp_path.name}/q/export/model.tflite"
    both = a_record(a_measurement("model.tflite", file=file))
    measured.save(both, run.path / measured.FILE_NAME)
    figure = latency_bars([run], title="")
    (axes,) = figure.axes
    containers = [one for one in axes.containers if isinstance(one, BarContainer)]
    bars = [(one.get_label(), one.patches[0]) for one in containers]
    assert [label for label, _ in bars][0] == "litert, 1 thread"
    assert bars[0][1].get_hatch() is None
    for (label, bar), one in zip(bars[1:], record.estimates, strict=True):
        assert label.startswith("ESTIMATE: Jetson Orin Nano") and label.endswith(one.precision)
        assert bar.get_hatch() and bar.get_facecolor() == to_rgba("white")
        assert bar.get_width() == one.estimate_ms
    reaches = [line.get_xdata() for line in axes.lines]
    assert [tuple(reach) for reach in reaches] == [
        (one.low_ms, one.high_ms) for one in record.estimates
    ]
    assert "hatched: estimate" in axes.get_xlabel()


def test_a_way_is_drawn_once_a_run_and_a_run_without_any_is_left_out(tmp_path: Path) -> None:
    runs = [a_run(tmp_path / name) for name in "ab"]
    file = f"{tmp_path.name}/a/export/model.tflite"
    twice = a_record(
        a_measurement("x", file=file), a_measurement("y", 2, file=file), a_measurement("z", batch=8)
    )
    measured.save(twice, runs[0].path / measured.FILE_NAME)
    (bar,) = bars_of(runs)["a"]
    assert (bar.way, bar.interval_ms) == ("litert, 1 thread", None)
    assert list(bars_of(runs)) == ["a"]


def test_runs_without_any_time_are_refused(tmp_path: Path) -> None:
    runs = [a_run(tmp_path / "a")]
    with pytest.raises(UsageError, match="no run with a score has an estimate for that: kq"):
        estimated_latency(runs)
    with pytest.raises(UsageError, match="no run was measured .* or estimated"):
        latency_bars(runs, title="")
