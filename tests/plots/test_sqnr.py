"""The picture of how far layers are from float."""

from __future__ import annotations

import math

import pytest

from keras_quant.diagnose.contents import INTEGER, OperatorContents
from keras_quant.diagnose.findings import Layer
from keras_quant.diagnose.measures import Error
from keras_quant.errors import UsageError
from keras_quant.plots.sqnr import sqnr_by_layer


def layer(name: str, sqnr_db: float | None, start_db: float = 40) -> Layer:
    operator = OperatorContents(
        op="CONV_2D", computes=INTEGER, library="none", inputs=("a",), output="b"
    )
    error = Error(
        sqnr_db=sqnr_db, cosine=1, gain=1, cut_off=None, cut_noise=None, offset_noise=None
    )
    return Layer(
        name=name,
        tensor=name,
        matched="name",
        operator=operator,
        dtype="int8",
        error=error,
        start_db=start_db,
    )


def test_bars_are_as_long_as_the_sqnr_and_those_that_break_are_hatched() -> None:
    layers = [layer("a", 148.0), layer("b", 35.5), layer("c", 3.0), layer("d", 2.0, 3.0)]
    figure = sqnr_by_layer([*layers, layer("none", None)], title="net")
    (axes,) = figure.axes
    bars = [patch for patch in axes.patches if patch.get_height() == 0.75]
    assert [bar.get_width() for bar in bars][1:] == [35.5, 3.0, 2.0]
    assert 35.5 < bars[0].get_width() < 60  # what is exact reaches to the end, and is no scale
    assert [bar.get_hatch() for bar in bars] == ["", "", "///", ""]
    assert [text.get_text().strip() for text in axes.texts] == ["exact", "35.5", "3.0", "2.0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c", "d"]
    assert axes.get_xlabel() == "signal to quantization noise, dB"


def test_values_below_zero_are_drawn_to_the_left() -> None:
    figure = sqnr_by_layer([layer("a", -7.0)], title="net")
    assert figure.axes[0].get_xlim()[0] < -7


def test_without_a_float_model_there_is_nothing_to_draw() -> None:
    with pytest.raises(UsageError, match="give one with --float"):
        sqnr_by_layer([layer("a", None)], title="net")


def test_infinity_is_exact() -> None:
    figure = sqnr_by_layer([layer("a", math.inf)], title="net")
    assert figure.axes[0].texts[0].get_text().strip() == "exact"
