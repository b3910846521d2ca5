from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from keras_quant.errors import DataError
from keras_quant.pixels import (
    CLEAR_OF_TIE,
    check_channels,
    normalize,
    pixel_grid,
    reals_of_pixels,
)
from keras_quant.preprocessing import PREPROCESSINGS, RAW, UNIT, Preprocessing
from keras_quant.qparams import quantize, signed, unsigned

PIXELS = np.arange(256, dtype=np.uint8)
RGB = np.random.default_rng(0).integers(0, 256, (4, 5, 5, 3)).astype(np.uint8)
# Of values of up to 151: Keras rounds two operations where we round others.
TWO_ROUNDINGS = 2.0**-16


def test_unit_is_one_division_of_float32() -> None:
    expected = [np.float32(k) / np.float32(255) for k in range(256)]
    assert normalize(PIXELS, UNIT).tolist() == expected


def test_raw_pixels_and_floats_are_left_alone() -> None:
    assert normalize(PIXELS, RAW).tolist() == list(range(256))
    floats = np.array([-3.5, 700], np.float32)
    for preprocessing in (None, *PREPROCESSINGS.values()):
        assert np.array_equal(normalize(floats, preprocessing), floats)


@pytest.mark.tensorflow
@pytest.mark.parametrize("mode", ["tf", "caffe", "torch"])
def test_modes_are_those_of_keras_applications(mode: str) -> None:
    pytest.importorskip("tensorflow")
    from keras_quant.tf import keras

    expected = keras.applications.imagenet_utils.preprocess_input(
        RGB.astype(np.float32), mode=mode, data_format="channels_last"
    )
    np.testing.assert_allclose(normalize(RGB, PREPROCESSINGS[mode]), expected, atol=TWO_ROUNDINGS)


def test_pixels_without_a_preprocessing_are_refused() -> None:
    with pytest.raises(DataError, match="nothing says what they become: give a preprocessing"):
        normalize(RGB, None)


def test_numbers_of_channels_that_are_not_there_are_refused() -> None:
    with pytest.raises(DataError, match=r"digits: images are \(8, 8, 1\), with 1 .* takes 3 here"):
        check_channels(PREPROCESSINGS["caffe"], (8, 8, 1), "digits")
    check_channels(PREPROCESSINGS["tf"], (8, 8, 1), "digits")


@pytest.mark.parametrize(
    ("preprocessing", "grid"),
    [
        (UNIT, unsigned(8, 1 / 255)),
        (RAW, unsigned(8, 1.0)),
        (
            Preprocessing(name="x", mean=(128.0,), std=(128.0,)),
            signed(8, 1 / 128, narrow_range=False),
        ),
        (
            Preprocessing(name="x", mean=(100.0,) * 3, std=(64.0,)),
            dataclasses.replace(unsigned(8, 1 / 64), zero_point=100),
        ),
    ],
)
def test_codes_are_the_pixels_where_they_can_be(preprocessing: Preprocessing, grid: object) -> None:
    made = pixel_grid(preprocessing, 3)
    assert dataclasses.astuple(made) == dataclasses.astuple(grid)
    codes = quantize(reals_of_pixels(preprocessing, 3), made)
    assert (codes - made.qmin == PIXELS[:, None]).all()


three = st.tuples(*[st.floats(80, 150)] * 3)


@given(mean=three, std=st.tuples(*[st.floats(30, 90)] * 3))
def test_no_pixel_of_any_grid_is_near_a_tie_or_cut_off(mean: tuple, std: tuple) -> None:
    assume(len(set(mean)) > 1 or len(set(std)) > 1)  # else the codes are the pixels
    preprocessing = Preprocessing(name="x", mean=mean, std=std)
    grid = pixel_grid(preprocessing, 3)
    steps = reals_of_pixels(preprocessing, 3).astype(np.float64) / grid.scale
    assert grid.zero_point == 0 and np.abs(steps).max() < 127.5
    # A sixteenth more range than the pixels have is the worst that was seen to be needed.
    assert np.abs(steps).max() > 127 * 15 / 16
    assert np.abs(steps - np.floor(steps) - 0.5).min() > CLEAR_OF_TIE / 2


@pytest.mark.parametrize("name", ["tf", "caffe", "torch"])
def test_known_preprocessings_are_clear_of_ties(name: str) -> None:
    grid = pixel_grid(PREPROCESSINGS[name], 3)
    steps = reals_of_pixels(PREPROCESSINGS[name], 3).astype(np.float64) / grid.scale
    assert np.abs(steps - np.floor(steps) - 0.5).min() >= CLEAR_OF_TIE
    assert np.abs(steps).max() > 126.5  # hardly coarser than need be
