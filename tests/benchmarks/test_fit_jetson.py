"""Which published figures are used, and how a fit is judged."""

from __future__ import annotations

import csv

import fit_jetson
import numpy as np
import pytest

from keras_quant.bench.estimate.fit import Observation
from keras_quant.targets.jetson import BOARDS, find_mode
from tests.bench.estimate.test_latency import a_layer, a_setting

with fit_jetson.DATA.open(encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file))
USED = [row for row in ROWS if not fit_jetson.why_left_out(row)]


def test_each_figure_has_a_source_and_is_used_or_left_out_for_a_reason() -> None:
    assert all(row["source"] for row in ROWS)
    assert (len(ROWS), len(USED)) == (61, 35)
    reasons = {(row["model"], row["precision"]): fit_jetson.why_left_out(row) for row in ROWS}
    assert "besides" in reasons["YOLOv3-608", "FP16"]
    assert "DLA" in reasons["ResNet-50", "INT8 2xDLA"]
    assert "power mode" in reasons["VGG-19", "INT8"]
    assert "public definition" in reasons["OpenPose", "FP16"]


@pytest.mark.parametrize("row", USED, ids=lambda row: f"{row['board']} {row['model']}")
def test_what_is_used_is_of_a_known_state(row: dict[str, str]) -> None:
    board = fit_jetson._BOARDS[row["board"]]
    assert find_mode(board, fit_jetson._MODES[row["power_mode"]])
    assert fit_jetson._PRECISIONS[row["precision"]] in BOARDS[board].precisions


def test_throughputs_become_the_time_of_a_call() -> None:
    row = next(row for row in USED if row["unit"] == "img/s")
    observed = fit_jetson._observation(row, {fit_jetson._net(row): (a_layer(),)})
    assert observed.latency_ms == pytest.approx(1e3 / float(row["value"]))


def some(*measured: tuple[str, str, float]) -> list[Observation]:
    return [
        Observation(
            net=net,
            board=board,
            layers=(a_layer(),),
            setting=a_setting(board, "fp16"),
            latency_ms=latency_ms,
        )
        for board, net, latency_ms in measured
    ]


def test_ranks_are_compared_within_a_board() -> None:
    one = some(("nano", "a", 1.0), ("nano", "b", 2.0), ("nano", "c", 4.0))
    assert fit_jetson.rank_correlation(one, np.ones(3)) == 1
    assert fit_jetson.rank_correlation(one, np.array([8.0, 2.0, 0.5])) == -1
    # Another board is ten times as fast, which says nothing of the order on either; two nets are
    # no ranking; and a net that was measured twice counts once.
    more = some(("agx-orin", "a", 0.1), ("agx-orin", "b", 0.2), ("tx2", "a", 1.0))
    again = some(("nano", "a", 9.0))
    assert fit_jetson.rank_correlation([*one, *more, *again], np.ones(7)) == 1
