from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keras_quant.data import Dataset, Split

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.calibration.calibrate import measured_grid  # noqa: E402
from keras_quant.calibration.inputs import input_grid  # noqa: E402
from keras_quant.pixels import pixel_grid  # noqa: E402
from keras_quant.preprocessing import PREPROCESSINGS, UNIT, Preprocessing  # noqa: E402


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


PIXELS = np.random.default_rng(0).integers(0, 256, (8, 5, 5, 3)).astype(np.uint8)


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS.values(), ids=PREPROCESSINGS)
def test_eight_bits_get_the_grid_of_all_pixels(preprocessing: Preprocessing) -> None:
    for x in (PIXELS, np.zeros_like(PIXELS)):  # not of those that are there
        made = input_grid(dataset_of(x, preprocessing), bits=8)
        assert dataclasses.astuple(made) == dataclasses.astuple(pixel_grid(preprocessing, 3))


def test_fewer_bits_are_measured_on_what_the_model_is_given() -> None:
    made = input_grid(dataset_of(PIXELS, PREPROCESSINGS["tf"]), bits=4)
    reals = (PIXELS.astype(np.float32) - 127.5) / 127.5
    assert dataclasses.astuple(made) == dataclasses.astuple(measured_grid(reals, bits=4))
    assert made.signed and not input_grid(dataset_of(PIXELS, UNIT), bits=4).signed


def test_floats_of_no_declared_range_are_measured() -> None:
    x = PIXELS.astype(np.float32) * 3
    made = input_grid(dataset_of(x, None), bits=8)
    assert dataclasses.astuple(made) == dataclasses.astuple(measured_grid(x, bits=8))
