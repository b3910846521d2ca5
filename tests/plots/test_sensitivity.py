from __future__ import annotations

import pytest

from keras_quant.errors import UsageError
from keras_quant.plots.sensitivity import sensitivity_map
from tests.search.test_record import record


def test_each_layer_is_a_row_with_its_numbers_and_what_is_missing_stays_empty() -> None:
    figure = sensitivity_map(record(entries=record().entries[:3]), title="run")
    axes, bar = figure.axes
    assert [text.get_text() for text in axes.texts] == ["+0.5", "+0", "+0.2"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "8"]
    assert bar.get_ylabel() == "loss gained over the float model [nats]"
    (image,) = axes.images
    assert image.get_array()[0].tolist() == pytest.approx([0.5, 0.0])


def test_without_labels_it_is_the_distance_in_percent() -> None:
    figure = sensitivity_map(record(metric=""), title="run")
    axes, bar = figure.axes
    assert axes.texts[0].get_text() == "6" and "[% of their size]" in bar.get_ylabel()


@pytest.mark.parametrize(
    ("metric", "unit"), [("accuracy", "nats"), ("PSNR", "MSE"), ("ELBO", "nats")]
)
def test_losses_are_in_their_units(metric: str, unit: str) -> None:
    figure = sensitivity_map(record(metric=metric), title="run")
    assert figure.axes[1].get_ylabel() == f"loss gained over the float model [{unit}]"


def test_a_record_without_entries_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing of the sensitivity was measured yet"):
        sensitivity_map(record(entries=()), title="run")
