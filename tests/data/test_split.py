from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.data.split import TEST_FRACTION, hold_out_test, stratified_split

LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=200).map(np.array)
FRACTIONS = st.floats(0.05, 0.95)


@given(LABELS, FRACTIONS, st.integers(0, 2**32 - 1))
def test_every_image_is_on_one_side_and_the_number_is_exact(
    y: np.ndarray, fraction: float, seed: int
) -> None:
    kept, held = stratified_split(y, fraction, seed=seed)
    assert sorted([*kept, *held]) == list(range(len(y)))
    assert len(held) == round(fraction * len(y))


@given(LABELS, FRACTIONS)
def test_each_class_is_within_one_image_of_its_share(y: np.ndarray, fraction: float) -> None:
    _, held = stratified_split(y, fraction, seed=3)
    share = len(held) / len(y)
    for label in np.unique(y):
        assert abs(np.sum(y[held] == label) - share * np.sum(y == label)) <= 1 + 1e-9


def test_seed_chooses_the_images() -> None:
    y = np.arange(100) % 4
    first, again, other = (stratified_split(y, 0.3, seed=seed)[1] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_held_out_images_keep_their_labels() -> None:
    y = np.arange(50) % 5
    arrays = hold_out_test(np.arange(50).reshape(50, 1, 1, 1), y)
    for part in ("train", "test"):
        assert np.array_equal(arrays[f"x_{part}"].ravel() % 5, arrays[f"y_{part}"])
    assert len(arrays["y_test"]) == TEST_FRACTION * 50
