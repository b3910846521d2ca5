from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from keras_quant.data import Dataset, Split
from keras_quant.errors import DataError, UsageError
from keras_quant.jobs.preprocess import declare, guessing_warning
from keras_quant.preprocessing import PREPROCESSINGS, RAW, UNIT, Preprocessing

PIXELS = np.random.default_rng(0).integers(0, 256, (100, 4, 4, 3)).astype(np.uint8)
LABELS = np.arange(100, dtype=np.int32) % 10


def dataset_of(x: np.ndarray = PIXELS) -> Dataset:
    split = Split(x=x, y=LABELS[: len(x)])
    return Dataset(
        name="toy",
        train=split,
        validation=split,
        test=split,
        class_names=tuple("abcdefghij"),
        source="toy",
        preprocessing=UNIT if x.dtype == np.uint8 else None,
    )


def said_of(data: Dataset, **settings: object) -> tuple[Preprocessing | None, str]:
    lines: list[str] = []
    declared = declare(data, **{"asked": None, **settings}, say=lines.append)
    return declared.preprocessing, "\n".join(lines)


def test_pixels_become_0_to_1_where_nobody_says_anything() -> None:
    assert said_of(dataset_of()) == (UNIT, "")


def test_the_user_is_believed_before_the_record() -> None:
    assert said_of(dataset_of(), recorded=RAW) == (RAW, "")
    assert said_of(dataset_of(), asked="raw", recorded=RAW) == (RAW, "")
    chosen, said = said_of(dataset_of(), asked="tf", recorded=RAW)
    assert chosen == PREPROCESSINGS["tf"]
    assert said == "--preprocess tf; it was made with raw: pixel, 0 to 255"


@pytest.mark.tensorflow
def test_the_record_is_believed_before_the_models_layers() -> None:
    pytest.importorskip("tensorflow")
    from keras_quant.tf import keras

    layer = keras.layers.Rescaling(1 / 255, name="scaled")
    model = keras.Sequential([keras.Input((4, 4, 3)), layer])
    assert said_of(dataset_of(), recorded=UNIT, model=model) == (UNIT, "")
    assert said_of(dataset_of(), model=model) == (
        RAW,
        "the model takes raw: pixel, 0 to 255: found in layer scaled (Rescaling)",
    )
    floats = dataset_of(PIXELS / np.float32(255))
    assert said_of(floats, model=model)[0] is None  # given as they are, whatever a layer says


@pytest.mark.tensorflow
def test_values_beyond_a_models_codes_are_told() -> None:
    pytest.importorskip("tensorflow")
    from keras_quant.methods.layers import InputGrid
    from keras_quant.tf import keras

    model = keras.Sequential([keras.Input((4, 4, 3)), InputGrid(1 / 255, 0, 255)])
    assert said_of(dataset_of(), asked="unit", model=model)[1] == ""
    warned = "warning: the model has codes for inputs of 0 to 1; it is given raw: pixel, 0 to 255"
    assert warned in said_of(dataset_of(), asked="raw", model=model)[1]
    assert "given tf: " in said_of(dataset_of(), asked="tf", model=model)[1]


@pytest.mark.parametrize(
    ("scale", "asked", "told"),
    [
        (
            1.0,
            "unit",
            "floats (train 0 to 255, validation 0 to 255, test 0 to 255); declared is unit: ",
        ),
        (
            1 / 255,
            "raw",
            "floats (train 0 to 1, validation 0 to 1, test 0 to 1); declared is raw: pixel",
        ),
        (1 / 255, "tf", ""),
        (1 / 255, "unit", ""),
        (1.0, "raw", ""),
    ],
)
def test_floats_of_another_range_than_is_declared_are_told(
    scale: float, asked: str, told: str
) -> None:
    _, said = said_of(dataset_of((PIXELS * scale).astype(np.float32)), asked=asked)
    assert (told in said) and bool(told) == bool(said)
    assert said.count("warning") == (1 if told else 0)


def test_numbers_for_other_channels_are_refused() -> None:
    with pytest.raises(DataError, match=r"dataset toy: images are \(4, 4, 1\)"):
        declare(dataset_of(PIXELS[..., :1]), asked="torch")
    with pytest.raises(UsageError, match="close names: torch"):
        declare(dataset_of(), asked="troch")


def warned(
    answers: np.ndarray,
    data: Dataset | None = None,
    try_another: Callable[[Preprocessing], float] | None = None,
) -> str:
    return guessing_warning(answers, LABELS, data or dataset_of(), try_another)


# One of ten classes: 10 % with a standard error of 3 % on 100 images, so that 19 % is the end.
@pytest.mark.parametrize(("right", "guesses"), [(0, True), (10, True), (19, True), (20, False)])
def test_guessing_ends_three_standard_errors_above_chance(right: int, guesses: bool) -> None:
    answers = np.where(np.arange(100) < right, LABELS, (LABELS + 1) % 10)
    told = warned(answers)
    assert bool(told) == guesses
    if guesses:
        assert f"accuracy {right}.00% on 100 images of 10 classes is that of guessing" in told
        assert "given unit: pixel / 255, 0 to 1" in told
        assert "--preprocess takes unit, raw, tf, caffe, torch, or 'mean=M std=S'" in told


def test_one_class_for_all_is_no_answer_however_many_are_right() -> None:
    data, labels = dataset_of(), np.array([0] * 90 + [1] * 10)
    told = guessing_warning(np.zeros(100, int), labels, data)
    assert "accuracy 90.00% on 100 images of 10 classes, each is taken for class 0." in told
    assert guessing_warning(np.zeros(100, int), np.zeros(100, int), data) == ""


def test_other_spellings_are_tried_and_the_best_comes_first() -> None:
    worth = {"raw": 0.8, "tf": 0.2, "caffe": 0.1, "torch": 0.3}
    told = warned(LABELS[::-1], try_another=lambda becomes: worth[becomes.name])
    assert "on the first 200 images: raw 80.0%, torch 30.0%, tf 20.0%, caffe 10.0%" in told
    grey = dataclasses.replace(dataset_of(PIXELS[..., :1]), preprocessing=RAW)
    told = warned(LABELS[::-1], grey, lambda becomes: 0.5)
    assert "images: unit 50.0%, tf 50.0%; " in told


def test_floats_have_no_other_spelling() -> None:
    floats = dataset_of(PIXELS.astype(np.float32))
    assert "given as they are: is the model made for their range?" in warned(LABELS[::-1], floats)
