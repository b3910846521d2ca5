"""Layers are learned from scores alone, and tell what neither the largest nor the mean can."""

from __future__ import annotations

import numpy as np
import pytest

from keras_quant.anytime import concat
from keras_quant.anytime.concat import concat_of, learn, recorded
from keras_quant.anytime.views import AGGREGATIONS, Concat
from keras_quant.errors import DataError
from keras_quant.runs.concat import ConcatRecord
from tests.runs.test_concat import RECORD


def some(classes: int, *, seed: int = 0, things: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Scores of two views, the second of which calls each class by the name of the next one."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, things)
    places = np.stack([labels, (labels + 1) % classes])
    scores = rng.normal(0, 1, (2, things, classes)) + 4 * np.eye(classes)[places]
    return scores.astype(np.float32), labels


def right(answers: list[np.ndarray], labels: np.ndarray) -> float:
    return float(np.mean(np.argmax(answers, axis=-1) == labels))


@pytest.mark.parametrize("classes", [2, 5])
def test_a_view_that_mixes_up_classes_is_understood(classes: int) -> None:
    found = learn(*some(classes))
    scores, labels = some(classes, seed=1)
    answers = [found.layer.answer(scores[:, thing]) for thing in range(len(labels))]
    assert found.converged and right(answers, labels) > 0.97
    for how in AGGREGATIONS.values():
        assert right([how(scores[:, thing]) for thing in range(len(labels))], labels) < 0.8


def test_the_unit_of_scores_does_not_count() -> None:
    scores, labels = some(4)
    one, other = learn(scores, labels).layer, learn(1024 * scores, labels).layer
    np.testing.assert_array_equal(other.bias, one.bias)
    np.testing.assert_array_equal(1024 * other.weights, one.weights)


def test_scores_that_are_all_alike_give_the_share_of_each_class() -> None:
    labels = np.array([0, 1, 1, 1])
    layer = learn(np.zeros((2, 4, 2), np.float32), labels).layer
    assert layer.answer(np.zeros((2, 2), np.float32)).tolist() == pytest.approx(
        [0, np.log(3)], abs=1e-3
    )


def test_a_search_that_was_cut_short_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concat, "MOST_STEPS", 2)
    assert not learn(*some(5)).converged


def test_scores_that_are_not_finite_teach_nothing() -> None:
    scores, labels = some(3)
    scores[1, 7, 2] = np.nan
    with pytest.raises(DataError, match="not all finite"):
        learn(scores, labels)


def test_a_record_holds_layers_to_the_last_bit() -> None:
    layer = learn(*some(3)).layer
    record = ConcatRecord(**{**as_dict(RECORD), "classes": 3, "layers": (recorded(layer),)})
    assert concat_of(record).sha256 == Concat(layers=(layer,)).sha256


def as_dict(record: ConcatRecord) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}
