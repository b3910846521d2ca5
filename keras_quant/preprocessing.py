"""How the pixels of an image become the reals that a model takes.

Plain data, without numpy: it is kept in the record of a run and in what every export says of
itself. `keras_quant.pixels` computes with it.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass

from keras_quant.errors import ModelError, UsageError, close_names, shown
from keras_quant.json_codec import from_plain, to_json

PIXEL_MAX = 255
ORDERS = ("rgb", "bgr")
CUSTOM = "mean/std"
"""The name of numbers that are the user's own."""
METADATA_KEY = "keras_quant.preprocess"
"""Under which a file keeps its preprocessing, as JSON."""

# The models of torchvision and of keras.applications with mode "torch" take pixels of 0 to 1 less
# a mean, over a deviation; here both are counted in pixels of 0 to 255.
_TORCH_MEAN, _TORCH_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """real = (pixel - mean) / std, channel by channel.

    Attributes:
        name: of PREPROCESSINGS, or CUSTOM.
        mean: in pixels of 0 to 255; one for all channels, or one for each in the model's order.
        std: what the difference is divided by, likewise; > 0.
        order: in which the model takes the channels of an image, "rgb" or "bgr".
    """

    name: str
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    order: str = "rgb"

    @property
    def channels(self) -> int | None:
        """How many channels an image must have; None where any number will do."""
        count = max(len(self.mean), len(self.std))
        return count if count > 1 else 3 if self.order == "bgr" else None

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest real that a pixel becomes."""
        count = max(len(self.mean), len(self.std))
        pairs = list(zip(_repeated(self.mean, count), _repeated(self.std, count), strict=True))
        return (
            min((0 - mean) / std for mean, std in pairs),
            max((PIXEL_MAX - mean) / std for mean, std in pairs),
        )

    def problems(self) -> list[str]:
        """What is out of range, one text each."""
        found = [
            f"{field}[{index}] is {value}; {allowed} is allowed"
            for field, values, allowed in (
                ("mean", self.mean, "a number"),
                ("std", self.std, "a number above 0"),
            )
            for index, value in enumerate(values)
            if not math.isfinite(value) or (field == "std" and value <= 0)
        ]
        lengths = {len(self.mean), len(self.std)} - {1}
        if 0 in lengths or len(lengths) > 1:
            found.append(
                f"mean has {len(self.mean)} numbers and std {len(self.std)}; one each, or one for "
                "each channel, is allowed"
            )
        if self.order not in ORDERS:
            found.append(f"order is {shown(self.order)}; {' or '.join(ORDERS)} is allowed")
        return found


def _repeated(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    return values if len(values) == count else values * count


PREPROCESSINGS = {
    entry.name: entry
    for entry in (
        Preprocessing(name="unit", std=(255.0,)),
        Preprocessing(name="raw"),
        Preprocessing(name="tf", mean=(127.5,), std=(127.5,)),
        Preprocessing(name="caffe", mean=(103.939, 116.779, 123.68), order="bgr"),
        Preprocessing(
            name="torch",
            mean=tuple(round(PIXEL_MAX * mean, 6) for mean in _TORCH_MEAN),
            std=tuple(round(PIXEL_MAX * std, 6) for std in _TORCH_STD),
        ),
    )
}
"""By name. "tf", "caffe" and "torch" are the modes, and the constants, of preprocess_input in
keras.applications (keras/src/applications/imagenet_utils.py, _preprocess_numpy_input)."""

UNIT, RAW = PREPROCESSINGS["unit"], PREPROCESSINGS["raw"]


def describe(preprocessing: Preprocessing) -> str:
    """Says in words what the model takes: "tf: (pixel - 127.5) / 127.5, -1 to 1"."""
    mean, std = _said(preprocessing.mean), _said(preprocessing.std)
    formula = "pixel" if mean == "0" else f"(pixel - {mean})"
    formula += "" if std == "1" else f" / {std}"
    low, high = (f"{end:.4g}" for end in preprocessing.range)
    order = ", channels in the order BGR" if preprocessing.order == "bgr" else ""
    return f"{preprocessing.name}: {formula}, {low} to {high}{order}"


def _said(values: tuple[float, ...]) -> str:
    texts = [f"{value:g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else f"({', '.join(texts)})"


def spellings() -> str:
    """What --preprocess takes, with the range that each stands for."""
    return "; ".join(describe(entry) for entry in PREPROCESSINGS.values()) + (
        "; or numbers in pixels of 0 to 255, for all channels or for each: 'mean=127.5 std=64', "
        "'mean=120,115,104 std=60,59,61 order=bgr'"
    )


def parse_preprocessing(text: str) -> Preprocessing:
    """Reads what stands behind --preprocess.

    Args:
        text: a name, or "mean=M,... std=S,... order=bgr" with at least one of the three.
    Raises:
        UsageError: it is neither; all problems at once.
    """
    if text in PREPROCESSINGS:
        return PREPROCESSINGS[text]
    if "=" not in text:
        raise UsageError(
            f"--preprocess {text!r} is not known{close_names(text, PREPROCESSINGS)}; allowed are "
            f"{spellings()}"
        )
    settings, problems = _settings(text)
    given = Preprocessing(
        name=CUSTOM,
        mean=_numbers("mean", settings, (0.0,), problems),
        std=_numbers("std", settings, (1.0,), problems),
        order=settings.get("order", "rgb"),
    )
    problems += given.problems() if not problems else []
    if not problems and _looks_like_unit(given):
        problems.append(
            f"mean {_said(given.mean)} and std {_said(given.std)} look like those of pixels of 0 "
            f"to 1; count them in pixels of 0 to 255: {_in_pixels(given)}"
        )
    if problems:
        raise UsageError(f"--preprocess {text!r}: {'; '.join(problems)}")
    same = [known for known in PREPROCESSINGS.values() if _is_same(known, given)]
    return same[0] if same else given


def _settings(text: str) -> tuple[dict[str, str], list[str]]:
    """The texts behind mean=, std= and order=, and what else there is."""
    parts = re.split(r"(?:^|[\s,;]+)([a-z]+)=", text)
    keys, values = parts[1::2], parts[2::2]
    known = ("mean", "std", "order")
    problems = [
        f"{key} is not known{close_names(key, known)}; known are {', '.join(known)}"
        for key in keys
        if key not in known
    ]
    problems += [f"{key} is given twice" for key in dict.fromkeys(keys) if keys.count(key) > 1]
    if parts[0].strip():
        problems.append(f"{parts[0].strip()!r} stands before mean=, std= or order=")
    return dict(zip(keys, values, strict=True)), problems


def _numbers(
    key: str, settings: dict[str, str], default: tuple[float, ...], problems: list[str]
) -> tuple[float, ...]:
    if key not in settings:
        return default
    try:
        return tuple(float(item) for item in re.split(r"[\s,/]+", settings[key].strip()))
    except ValueError:
        problems.append(f"{key} is {settings[key]!r}; numbers with commas between are needed")
        return default


def _looks_like_unit(given: Preprocessing) -> bool:
    small = all(abs(value) <= 1 for value in (*given.mean, *given.std))
    return small and set(given.std) != {1.0} and any(given.mean)


def _in_pixels(given: Preprocessing) -> str:
    mean, std = (
        ",".join(f"{PIXEL_MAX * value:g}" for value in values) for values in (given.mean, given.std)
    )
    return f"mean={mean} std={std}"


def _is_same(known: Preprocessing, given: Preprocessing) -> bool:
    return (known.mean, known.std, known.order) == (given.mean, given.std, given.order)


def preprocessing_to_json(preprocessing: Preprocessing) -> str:
    """One line of JSON, as files keep it under METADATA_KEY."""
    return json.dumps(json.loads(to_json(preprocessing)))


def preprocessing_from_json(text: str, where: str) -> Preprocessing:
    """Reads what a file says of its preprocessing.

    Args:
        where: the file, for the error.
    Raises:
        ModelError: it is no such JSON, or numbers are out of range.
    """
    problems: list[str] = []
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:  # nested too deep
        content, problems = None, [f"is not JSON ({error})"]
    found = None
    if isinstance(content, dict):
        found = from_plain(content, Preprocessing, problems)
        problems += found.problems() if found is not None else []
    elif not problems:
        problems.append(f"holds a {type(content).__name__}; an object is needed")
    if found is None or problems:
        raise ModelError(
            f"{where}: what it says of its input, {METADATA_KEY}, is damaged: "
            f"{'; '.join(problems)}. Export it again"
        )
    return found
