from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.errors import UsageError
from keras_quant.plots import COSTS, pareto, score_against_bits, score_against_cost
from keras_quant.runs.index import Run
from keras_quant.schemes.scheme import FLOAT_BITS
from tests.fake_runs import RECORD


def run(method: str, bits: int, score: float | None, size: int | None = None) -> Run:
    return Run(
        path=Path(f"{method}-{bits}"),
        record=RECORD,
        method=method,
        scheme=f"w{bits}a{bits}",
        weight_bits=bits,
        activation_bits=bits,
        metric="accuracy",
        score=score,
        size_bytes=size,
    )


points = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12)


@given(points)
def test_front_is_what_no_other_beats(points: list[tuple[int, int]]) -> None:
    def beaten(point: tuple[int, int]) -> bool:
        return any(
            cost <= point[0] and score >= point[1] and (cost, score) != point
            for cost, score in points
        )

    front = pareto(points)
    assert {points[place] for place in front} == {p for p in points if not beaten(p)}
    assert len({points[place] for place in front}) == len(front)
    assert [points[place][0] for place in front] == sorted(points[place][0] for place in front)


def test_bits_are_drawn_as_means_of_seeds_with_a_band_beside_a_float_line() -> None:
    runs = [
        *(run("float", FLOAT_BITS, 93.0), run("lsq", 2, 80.0), run("lsq", 2, 84.0)),
        *(run("lsq", 8, 92.0), run("ptq", 4, 90.0), run("ptq", 2, None)),
    ]
    (axes,) = score_against_bits(runs, title="net").axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines["lsq"] == [[0, 82.0], [2, 92.0]]
    assert lines["ptq"] == [[1, 90.0]]
    assert lines["float"] == [[0, 93.0], [1, 93.0]]  # across the axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["w2a2", "w4a4", "w8a8"]
    (band,) = axes.collections
    np.testing.assert_array_equal(band.get_datalim(axes.transData).intervaly, [80.0, 92.0])
    assert "[%]" in axes.get_ylabel()


def test_seeds_are_one_point_with_a_bar_and_its_scheme_beside_it() -> None:
    runs = [
        *(run("lsq", 4, 90.0, 1000), run("lsq", 4, 92.0, 3000), run("ptq", 4, 95.0, 8000)),
        *(run("ptq", 8, 94.0, 9000), run("ptq", 2, 1.0, None)),
    ]
    (axes,) = score_against_cost(runs, cost=COSTS["size"], title="net").axes
    drawn = {bars.get_label(): bars for bars in axes.containers}
    assert drawn["lsq"][0].get_xydata().tolist() == [[2.0, 91.0]]
    (bars,) = drawn["lsq"][2]
    np.testing.assert_allclose(bars.get_segments()[0], [[2.0, 90.0], [2.0, 92.0]])
    front = next(line for line in axes.lines if line.get_label() == "Pareto front")
    assert front.get_xydata().tolist() == [[2.0, 91.0], [8.0, 95.0]]
    assert sorted(text.get_text() for text in axes.texts) == ["w4a4", "w4a4", "w8a8"]
    assert "[kB]" in axes.get_xlabel()


def test_seeds_of_one_score_are_drawn() -> None:
    runs = [run("lsq", 2, 91.2345, size=100) for _ in range(3)]
    assert sum([91.2345] * 3) / 3 != 91.2345  # so that a bar would be negative
    score_against_cost(runs, cost=COSTS["size"], title="")


def test_runs_without_what_is_drawn_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r"no run has both a score and what is to be drawn, exported file"
    ):
        score_against_cost([run("lsq", 4, 90.0)], cost=COSTS["size"], title="")
    with pytest.raises(
        UsageError, match="no run has both a score and one width for all layers; runs looked at: 2"
    ):
        score_against_bits([run("lsq", 4, None), run("float", FLOAT_BITS, 1.0)], title="")
