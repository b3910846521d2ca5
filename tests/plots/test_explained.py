from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keras_quant.errors import UsageError
from keras_quant.plots.explained import confusion, histograms, maps
from tests.explain.explained import explained


def test_each_tensor_has_a_panel_with_its_levels() -> None:
    figure = histograms(explained(), title="run")
    weights, activations = figure.axes
    assert weights.get_title() == "conv1, 2 bits" and weights.get_xlabel() == "code"
    assert activations.get_title() == "relu1, 4 bits"
    (bars, *_) = weights.containers
    assert [bar.get_height() for bar in bars] == pytest.approx([0, 100 / 6, 200 / 6, 50])
    assert weights.lines[0].get_xdata().tolist() == [0, 1, 2, 3]


def test_what_lies_within_a_step_is_comparable_before_and_after() -> None:
    """Values that are on the grid already: the surface over each level is as high as its bar."""
    one = dataclasses.replace(
        explained().histograms[0],
        edges=np.arange(-0.5, 4.0),
        before=np.array([1, 2, 3, 4]),
        after=np.array([1, 2, 3, 4]),
    )
    figure = histograms(explained(histograms=(one, one)), title="run")
    (surface,) = [patch for patch in figure.axes[0].patches if hasattr(patch, "get_data")]
    bars = [bar.get_height() for bar in figure.axes[0].containers[0]]
    assert surface.get_data().values.tolist() == pytest.approx(bars)


def test_layers_are_chosen_by_their_names() -> None:
    (axes,) = histograms(explained(), title="run", layers=["relu*"]).axes
    assert axes.get_title() == "relu1, 4 bits"
    with pytest.raises(UsageError, match="--layer 'conv' matches none of 2 .*close names: conv1"):
        histograms(explained(), title="run", layers=["conv"])


def test_the_difference_of_two_confusions_is_written_with_its_sign() -> None:
    figure = confusion(explained(), title="run")
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == [
        "float: 95.00% right",
        "quantized: 85.00% right",
        "quantized less float: 2 images answered otherwise, net",
    ]
    (difference,) = [axes for axes in figure.axes if axes.get_title() == titles[-1]]
    assert [text.get_text() for text in difference.texts] == ["-1", "+1", "+1", "-1"]


def test_one_confusion_alone_has_its_counts_and_none_is_refused() -> None:
    figure = confusion(explained(confusion=explained().confusion[1:]), title="run")
    assert [text.get_text() for text in figure.axes[0].texts] == ["4", "2", "6", "1", "7"]
    with pytest.raises(UsageError, match="no confusion was counted"):
        confusion(explained(confusion=None), title="run")


def test_maps_stand_side_by_side_with_their_overlap() -> None:
    figure = maps(explained(), title="run")
    heads = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert heads == ["image", "float\nrelu1", "quantized\nrelu1"]
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert any(label.startswith("IoU 0.") for label in labels)
    assert any(label == "a map is empty" for label in labels)
    with pytest.raises(UsageError, match="no maps were made"):
        maps(explained(maps=None), title="run")
