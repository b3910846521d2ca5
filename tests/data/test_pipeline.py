from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keras_quant.data import Dataset, Split
from keras_quant.data.dataset import CROP_PADDING
from keras_quant.errors import UsageError
from keras_quant.preprocessing import PREPROCESSINGS, UNIT

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.data.pipeline import TrainBatches  # noqa: E402


def make_dataset(count: int = 20, dtype: type = np.uint8) -> Dataset:
    """Images of 6x5x2 without a zero pixel, each with its own label."""
    x = np.random.default_rng(0).integers(1, 256, (count, 6, 5, 2)).astype(dtype)
    split = Split(x=x, y=np.arange(count, dtype=np.int32))
    names = tuple(map(str, range(count)))
    return Dataset(
        name="toy",
        train=split,
        validation=split,
        test=split,
        class_names=names,
        source="toy",
        preprocessing=UNIT if dtype == np.uint8 else None,
    )


def epoch_of(dataset: Dataset, **changes: object) -> tuple[np.ndarray, np.ndarray]:
    arguments = {"batch_size": 4, "epoch": 0, "seed": 0, "augment": False} | changes
    epoch = arguments.pop("epoch")
    batches = list(TrainBatches(dataset, **arguments)(epoch).as_numpy_iterator())
    return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))


def test_every_image_comes_once_with_its_label() -> None:
    dataset = make_dataset()
    x, y = epoch_of(dataset)
    assert sorted(y) == list(range(20)) and list(y) != sorted(y)
    assert np.array_equal(x, dataset.reals(dataset.train.x)[y])


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_pixels_are_those_of_normalize_to_the_last_bit(name: str) -> None:
    pixels = np.repeat(np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1), 3, axis=-1)
    split = Split(x=pixels, y=np.arange(4, dtype=np.int32))
    dataset = dataclasses.replace(make_dataset(), train=split, preprocessing=PREPROCESSINGS[name])
    x, y = epoch_of(dataset)
    assert np.array_equal(x, dataset.reals(pixels)[y])


@pytest.mark.parametrize("augment", [False, True])
def test_batches_are_a_function_of_seed_and_epoch(augment: bool) -> None:
    dataset = make_dataset()
    x, y = epoch_of(dataset, epoch=3, seed=5, augment=augment)
    again_x, again_y = epoch_of(dataset, epoch=3, seed=5, augment=augment)
    assert np.array_equal(x, again_x) and np.array_equal(y, again_y)
    for other in ({"epoch": 4, "seed": 5}, {"epoch": 3, "seed": 6}):
        assert list(epoch_of(dataset, augment=augment, **other)[1]) != list(y)


def test_no_tuner_runs_beside_the_batches() -> None:
    """An epoch would end when that next wakes."""
    batches = TrainBatches(make_dataset(), batch_size=4, seed=0, augment=True)
    assert batches(0).options().autotune.enabled is False


def test_partial_batch_is_dropped_and_a_small_set_is_one_batch() -> None:
    assert len(epoch_of(make_dataset(), batch_size=6)[1]) == 18
    assert len(epoch_of(make_dataset(), batch_size=128)[1]) == 20


def test_float_images_pass_unchanged() -> None:
    dataset = make_dataset(dtype=np.float32)
    x, y = epoch_of(dataset)
    assert x.dtype == np.float32 and np.array_equal(x, dataset.train.x[y])


def test_clean_images_are_flipped_and_cropped_as_their_noisy_ones() -> None:
    dataset = make_dataset(count=64)
    negative = np.asarray(255 - dataset.train.x)
    train = dataclasses.replace(dataset.train, clean=negative)
    dataset = dataclasses.replace(dataset, train=train)
    x, y, clean = epoch_of(dataset, augment=True, clean=True)
    inside = x > 0  # what lies around an image is 0 in both; no pixel is
    np.testing.assert_allclose((x + clean)[inside], 1, rtol=1e-6)
    assert not clean[~inside].any() and not inside.all() and len(y) == 64
    assert len(epoch_of(dataset, augment=True)) == 2


@pytest.mark.parametrize(("padding", "least"), [(CROP_PADDING, 32), (1, 8)])
def test_augmented_image_is_a_crop_of_the_padded_image_or_its_mirror(
    padding: int, least: int
) -> None:
    dataset = dataclasses.replace(make_dataset(count=64), crop_padding=padding)
    margin = (padding, padding)
    mirrored_images = 0
    windows = set()
    for x, label in zip(*epoch_of(dataset, augment=True), strict=True):
        padded = np.pad(dataset.reals(dataset.train.x[label]), (margin, margin, (0, 0)))
        matches = [
            (top, left, mirrored)
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
            for mirrored in (False, True)
            if np.array_equal(
                x, padded[top : top + 6, left : left + 5][:, :: -1 if mirrored else 1]
            )
        ]
        assert matches
        mirrored_images += matches[0][2]
        windows.add(matches[0][:2])
    assert 16 <= mirrored_images <= 48  # 32 expected, standard deviation 4
    assert len(windows) > least  # of 81 or 9, each image has its own


def test_vectors_come_in_batches_and_cannot_be_augmented() -> None:
    split = Split(x=np.arange(40, dtype=np.float32).reshape(20, 2), y=np.arange(20, dtype=np.int32))
    dataset = dataclasses.replace(make_dataset(), train=split)
    x, y = epoch_of(dataset)
    assert np.array_equal(x, split.x[y])
    with pytest.raises(UsageError, match="toy has vectors of 2 features.*give --no-augment"):
        TrainBatches(dataset, batch_size=4, seed=0, augment=True)
