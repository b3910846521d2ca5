from __future__ import annotations

import numpy as np
import pytest

from keras_quant.data import Dataset, Split
from keras_quant.errors import DataError
from keras_quant.preprocessing import PREPROCESSINGS, Preprocessing

PIXELS = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)


def dataset_of(x: np.ndarray, preprocessing: Preprocessing | None) -> Dataset:
    split = Split(x=x, y=np.zeros(len(x), np.int32))
    return Dataset(
        name="toy",
        train=split,
        validation=split,
        test=split,
        class_names=("a", "b"),
        source="toy",
        preprocessing=preprocessing,
    )


def test_pixels_that_become_nothing_known_are_refused() -> None:
    with pytest.raises(DataError, match="toy: images are 8-bit pixels, .*: give a preprocessing"):
        dataset_of(PIXELS, None)


def test_reals_are_what_pixels_become_and_floats_themselves() -> None:
    data = dataset_of(PIXELS, PREPROCESSINGS["caffe"])
    mean = np.array([103.939, 116.779, 123.68], np.float32)
    assert np.array_equal(data.reals(PIXELS), PIXELS[..., ::-1].astype(np.float32) - mean)
    floats = PIXELS.astype(np.float32) * 7
    assert np.array_equal(dataset_of(floats, PREPROCESSINGS["caffe"]).reals(floats), floats)


@pytest.mark.parametrize(
    ("total", "most", "places"),
    [(10, 4, [0, 2, 5, 7]), (3, 8, [0, 1, 2]), (5, 5, [0, 1, 2, 3, 4]), (0, 4, []), (4, 0, [])],
)
def test_images_are_spread_at_even_distances(total: int, most: int, places: list[int]) -> None:
    part = Split(x=np.arange(total).reshape(-1, 1), y=10 * np.arange(total)).spread(most)
    assert part.x.ravel().tolist() == places
    assert part.y.tolist() == [10 * place for place in places]
