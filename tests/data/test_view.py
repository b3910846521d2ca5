"""Datasets asked for something else: what a name means, and what noise is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keras_quant.data import load_dataset
from keras_quant.data.dataset import CROP_PADDING, drawn_again
from keras_quant.data.view import View, view_of, whole_name, with_noise
from keras_quant.errors import DataError, UsageError

GREY = np.full((300, 8, 8, 1), 128, np.uint8)


@pytest.mark.parametrize(
    ("name", "view"),
    [
        ("cifar10", View(base="cifar10")),
        ("cifar10+noise25", View(base="cifar10", noise=25)),
        ("photos/+noise255", View(base="photos/", noise=255)),
        ("a+b.npz+noise1", View(base="a+b.npz", noise=1)),
        ("mnist+elbo", View(base="mnist", elbo=True)),
        ("cifar10+16px", View(base="cifar10", pixels=16)),
        ("photos/+224px", View(base="photos/", pixels=224)),
    ],
)
def test_a_name_says_what_is_asked(name: str, view: View) -> None:
    assert view_of(name) == view


@pytest.mark.parametrize(
    "asked",
    ["noise", "noise0", "noise256", "noise2.5", "Noise25", "", "noise025", "noise\u0665"]
    + ["0px", "04px", "4", "4PX", "px", "4px ", "-4px"],
)
def test_what_cannot_be_asked_is_told(asked: str) -> None:
    with pytest.raises(UsageError, match=r"1 to 255, as in digits\+noise25, or elbo"):
        load_dataset(f"digits+{asked}")


@pytest.mark.parametrize(
    "asked", ["noise25+elbo", "elbo+noise25", "noise25+noise5", "noise5+4px", "4px+2px"]
)
def test_one_thing_alone_is_asked(asked: str) -> None:
    first, second = asked.split("+")
    with pytest.raises(UsageError, match=rf"asks for \+{first} and \+{second}; one of them"):
        load_dataset(f"digits+{asked}")


def test_a_path_that_exists_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "set+noise25"
    path.mkdir()
    assert view_of(str(path)) == View(base=str(path))
    assert view_of(f"{path}+noise5") == View(base=str(path), noise=5)


def test_noise_is_white_and_of_its_deviation() -> None:
    noise = with_noise({"x_train": GREY}, View(base="grey", noise=20))["x_train"] - 128.0
    count = noise.size
    # A mean of n values is off by deviation / sqrt(n), a deviation by that over sqrt(2).
    assert abs(noise.mean()) < 4 * 20 / count**0.5
    assert abs(noise.std() - 20) < 4 * 20 / (2 * count) ** 0.5
    beside = np.corrcoef(noise[:, :, :-1].ravel(), noise[:, :, 1:].ravel())[0, 1]
    assert abs(beside) < 4 / count**0.5


def test_noise_stays_within_pixels() -> None:
    black = np.zeros_like(GREY)
    noisy = with_noise({"x_test": black}, View(base="black", noise=50))["x_test"]
    # What is below 0 becomes 0: half of the values, and the few that round to it.
    assert 0.48 < (noisy == 0).mean() < 0.53 and noisy.dtype == np.uint8


def test_parts_have_other_noise_and_each_time_the_same() -> None:
    arrays, view = {"x_train": GREY, "x_test": GREY}, View(base="grey", noise=9)
    first, again = with_noise(arrays, view), with_noise(arrays, view)
    assert np.array_equal(first["x_train"], again["x_train"])
    assert not np.array_equal(first["x_train"], first["x_test"])
    assert first["clean_test"] is GREY


def test_clean_images_stay_beside_their_noisy_ones() -> None:
    plain, noisy = load_dataset("digits", seed=3), load_dataset("digits+noise30", seed=3)
    for part in ("train", "validation", "test"):
        before, after = getattr(plain, part), getattr(noisy, part)
        assert before.wanted is before.x and not np.array_equal(after.x, before.x)
        assert np.array_equal(after.wanted, before.x) and np.array_equal(after.y, before.y)
        spread = after.spread(10)
        assert np.array_equal(spread.wanted, before.spread(10).x)
    assert noisy.name == "digits+noise30" and "deviation 30" in noisy.notes[0]


def test_images_drawn_again_keep_their_clean_ones() -> None:
    plain, noisy = (
        drawn_again(load_dataset(name).train, seed=1) for name in ("digits", "digits+noise30")
    )
    assert np.array_equal(noisy.wanted, plain.x) and not np.array_equal(noisy.x, plain.x)


def test_a_seed_does_not_change_what_is_tested() -> None:
    first, other = (load_dataset("digits+noise30", seed=seed) for seed in (0, 1))
    assert np.array_equal(first.test.x, other.test.x)


def save(path: Path, x: np.ndarray) -> str:
    np.savez(path, x_train=x, x_test=x)
    return str(path)


def test_noise_is_refused_for_floats(tmp_path: Path) -> None:
    name = save(tmp_path / "floats.npz", np.zeros((20, 4, 4, 1), np.float32))
    with pytest.raises(DataError, match="images are float32; noise is for 8-bit pixels"):
        load_dataset(f"{name}+noise25")


def test_an_elbo_needs_probabilities(tmp_path: Path) -> None:
    x = np.linspace(0, 1, 320, dtype=np.float32).reshape(20, 4, 4, 1)
    assert load_dataset(f"{save(tmp_path / 'unit.npz', x)}+elbo").elbo
    with pytest.raises(DataError, match="images are of -1 to 1; for an ELBO 0 to 1 is needed"):
        load_dataset(f"{save(tmp_path / 'signed.npz', 2 * x - 1)}+elbo")


def test_a_name_that_is_too_long_for_a_file_is_no_path() -> None:
    name = 5000 * "a"
    assert view_of(f"{name}+noise25") == View(base=name, noise=25)


def test_fewer_pixels_are_those_of_the_same_images_in_the_same_splits() -> None:
    whole, small = load_dataset("digits", seed=3), load_dataset("digits+4px", seed=3)
    for part in ("train", "validation", "test"):
        before, after = getattr(whole, part), getattr(small, part)
        blocks = before.x.reshape(-1, 4, 2, 4, 2, 1).sum(axis=(2, 4), dtype=int)
        assert np.array_equal(after.x, (blocks + 2) // 4) and after.x.dtype == np.uint8
        assert np.array_equal(after.y, before.y)
    assert (small.name, small.source) == ("digits+4px", whole.source)
    assert small.notes == ("images of 8x8 pixels are averaged to 4x4",)
    assert whole_name("digits+4px") == whole_name("digits") == "digits"
    assert whole_name("digits+noise9") == "digits+noise9"


def test_crops_are_moved_by_the_same_share_of_an_image() -> None:
    names = ("digits", "digits+4px", "digits+1px")
    assert [load_dataset(name).crop_padding for name in names] == [CROP_PADDING, 2, 1]


@pytest.mark.parametrize("pixels", [8, 9, 99999])
def test_as_many_pixels_as_there_are_or_more_are_refused(pixels: int) -> None:
    with pytest.raises(
        UsageError, match=rf"digits\+{pixels}px: images have 8x8 pixels; 1 to 7 are"
    ):
        load_dataset(f"digits+{pixels}px")


def test_other_shapes_keep_their_sides_and_floats_stay_floats(tmp_path: Path) -> None:
    x = np.zeros((20, 6, 9, 3), np.float32)
    small = load_dataset(f"{save(tmp_path / 'wide.npz', x)}+4px")
    assert small.input_shape == (4, 6, 3) and small.train.x.dtype == np.float32


def test_vectors_have_no_pixels(tmp_path: Path) -> None:
    name = save(tmp_path / "vectors.npz", np.zeros((20, 5), np.float32))
    with pytest.raises(DataError, match=r"\+2px: .*vectors.npz holds vectors \(5,\); images can"):
        load_dataset(f"{name}+2px")
