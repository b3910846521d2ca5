from __future__ import annotations

import json

import pytest

from keras_quant.errors import ModelError, UsageError
from keras_quant.preprocessing import (
    PREPROCESSINGS,
    RAW,
    UNIT,
    Preprocessing,
    describe,
    parse_preprocessing,
    preprocessing_from_json,
    preprocessing_to_json,
)


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_a_name_stands_for_its_entry(name: str) -> None:
    assert parse_preprocessing(name) == PREPROCESSINGS[name]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unit", "unit: pixel / 255, 0 to 1"),
        ("raw", "raw: pixel, 0 to 255"),
        ("tf", "tf: (pixel - 127.5) / 127.5, -1 to 1"),
        (
            "caffe",
            "caffe: (pixel - (103.939, 116.779, 123.68)), -123.7 to 151.1, channels in the order "
            "BGR",
        ),
        (
            "torch",
            "torch: (pixel - (123.675, 116.28, 103.53)) / (58.395, 57.12, 57.375), -2.118 to 2.64",
        ),
    ],
)
def test_words_say_formula_range_and_order(name: str, words: str) -> None:
    assert describe(PREPROCESSINGS[name]) == words


def test_own_numbers_are_one_for_all_channels_or_one_for_each() -> None:
    assert parse_preprocessing("mean=100 std=64") == Preprocessing(
        name="mean/std", mean=(100.0,), std=(64.0,)
    )
    assert parse_preprocessing("mean=1,2,3,std=4,5,6,order=bgr") == Preprocessing(
        name="mean/std", mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0), order="bgr"
    )
    assert parse_preprocessing("mean=1/2/3").std == (1.0,)


@pytest.mark.parametrize(
    ("numbers", "known"), [("std=255", UNIT), ("mean=0", RAW), ("mean=127.5 std=127.5", "tf")]
)
def test_own_numbers_of_a_known_one_get_its_name(numbers: str, known: Preprocessing | str) -> None:
    assert parse_preprocessing(numbers) == (
        PREPROCESSINGS[known] if isinstance(known, str) else known
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kaffe", r"'kaffe' is not known; close names: caffe; allowed are unit: pixel / 255"),
        ("mean=a std=0", r"mean is 'a'; numbers"),
        ("mean=1 std=0", r"std\[0\] is 0.0; a number above 0 is allowed"),
        ("mean=nan", r"mean\[0\] is nan; a number is allowed"),
        ("mean=1,2 std=1,2,3", r"mean has 2 numbers and std 3; one each"),
        ("mean=1 order=brg", r"order is 'brg'; rgb or bgr is allowed"),
        ("mean=1 stdd=2", r"stdd is not known; close names: std"),
        ("mean=1 mean=2", r"mean is given twice"),
        ("tf mean=1", r"'tf' stands before mean="),
        ("mean=.485 std=.229", r"pixels of 0 to 1; .* mean=123.675 std=58.395"),
    ],
)
def test_what_cannot_be_read_is_named_with_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_preprocessing(text)


def test_problems_of_several_settings_are_told_at_once() -> None:
    with pytest.raises(UsageError, match=r"foo is not known.*mean is 'x'.*std is ''"):
        parse_preprocessing("mean=x foo=1 std=")


@pytest.mark.parametrize("entry", PREPROCESSINGS.values(), ids=str)
def test_json_gives_back_what_was_written(entry: Preprocessing) -> None:
    assert preprocessing_from_json(preprocessing_to_json(entry), "a file") == entry


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "holds a list; an object is needed"),
        ('{"name": "x", "std": [0]}', r"std\[0\] is 0.0; a number above 0"),
        ('{"name": "x", "std": []}', "mean has 1 numbers and std 0"),
        ('{"mean": ["a"]}', r"name: missing; mean\[0\]: is 'a'; a number is needed"),
        (json.dumps({"name": "x", "scale": 1}), "scale: unknown field"),
    ],
)
def test_damaged_json_is_named_with_its_file(content: str, message: str) -> None:
    with pytest.raises(ModelError, match=f"(?s)model.onnx: .*{message}.*Export it again"):
        preprocessing_from_json(content, "model.onnx")


def test_range_spans_all_channels() -> None:
    assert PREPROCESSINGS["caffe"].range == (-123.68, 255 - 103.939)
    assert Preprocessing(name="x", mean=(10.0,), std=(1.0, 2.0, 5.0)).range == (-10.0, 245.0)


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("raw", None),
        ("caffe", 3),
        ("mean=1,2", 2),
        ("std=1,2,3,4", 4),
        ("mean=9 order=bgr", 3),
        ("mean=9,8 std=7", 2),
    ],
)
def test_images_have_as_many_channels_as_there_are_numbers(text: str, channels: int | None) -> None:
    assert parse_preprocessing(text).channels == channels


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("mean=0.5 std=0.5", True),
        ("mean=1 std=0.5", True),
        ("mean=0,0.5,0 std=0.2", True),
        ("mean=1.5 std=0.5", False),
        ("mean=0.5 std=2", False),
        ("mean=0.5 std=1", False),
        ("std=0.5", False),
    ],
)
def test_numbers_of_pixels_of_0_to_1_are_refused(text: str, refused: bool) -> None:
    if not refused:
        parse_preprocessing(text)
        return
    with pytest.raises(UsageError, match="look like those of pixels of 0 to 1"):
        parse_preprocessing(text)
