"""Statistics in a file: collected once, chosen from as often as wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_quant.calibration.collect import Statistics
from keras_quant.calibration.histogram import BINS, MAX_EXPONENT, MIN_EXPONENT, Histogram
from keras_quant.calibration.statistics import ImageRanges, Moments, TensorStatistics
from keras_quant.errors import DataError
from keras_quant.files import atomic_write, check_is_file
from keras_quant.json_codec import from_plain, to_json
from keras_quant.qparams import QParams

FORMAT_VERSION = 2
COLLECT_AGAIN = "Remove it, or leave out --statistics: then statistics are collected again"
_CHANNELS = "channels/{}"  # an array of its own for each tensor that has them
_SCALES = "scales/{}"  # for each that was scaled


@dataclass(frozen=True, slots=True, kw_only=True)
class _About:
    """What the arrays of a file are: those of Statistics, a row for each of the names."""

    format_version: int
    model: str
    images: int
    fresh: bool
    names: tuple[str, ...]
    pixels: QParams | None = None
    scaled: tuple[str, ...] = ()


def save_statistics(statistics: Statistics, path: Path) -> None:
    """Writes statistics as a compressed .npz file.

    Raises:
        FileError: the system refuses; an earlier file of that name is left as it was.
    """
    about = _About(
        format_version=FORMAT_VERSION,
        model=statistics.model,
        images=statistics.images,
        fresh=statistics.fresh,
        names=tuple(statistics.tensors),
        pixels=statistics.pixels,
        scaled=tuple(statistics.scales),
    )
    tensors = list(statistics.tensors.values())
    whole = [(t.moments.count, t.histogram.zeros, t.histogram.exponent) for t in tensors]
    arrays: dict[str, Any] = {  # Any, since savez_compressed has an option that is no array
        "about": np.array(to_json(about)),
        "whole": np.array(whole, np.int64).reshape(-1, 3),
        "moments": np.array([_row(t.moments) for t in tensors]).reshape(-1, 4),
        "ranges": np.array(
            [(t.ranges.images, t.ranges.low, t.ranges.high) for t in tensors]
        ).reshape(-1, 3),
        "bins": np.array([t.histogram.counts for t in tensors]).reshape(-1, 2 * BINS),
    }
    for place, tensor in enumerate(tensors):
        if tensor.channels is not None:
            arrays[_CHANNELS.format(place)] = _row(tensor.channels)
    for place, scale in enumerate(statistics.scales.values()):
        arrays[_SCALES.format(place)] = scale
    with atomic_write(path, "wb") as stream:
        np.savez_compressed(stream, **arrays)


def load_statistics(path: Path) -> Statistics:
    """Reads what `save_statistics` wrote.

    Raises:
        DataError: there is no such file, it is damaged or holds something else, or it is of a
            newer version.
    """
    arrays = _read(path)
    try:
        about = _about(arrays)
        tensors = {name: _tensor(arrays, place) for place, name in enumerate(about.names)}
        scales = {name: _scale(arrays, place) for place, name in enumerate(about.scaled)}
    except (
        *(KeyError, IndexError, TypeError, ValueError, AssertionError),
        *(OverflowError, RecursionError),
    ) as error:
        raise DataError(
            f"{path}: no statistics of kq, or damaged ({error}). {COLLECT_AGAIN}"
        ) from error
    return Statistics(
        model=about.model,
        images=about.images,
        fresh=about.fresh,
        tensors=tensors,
        pixels=about.pixels,
        scales=scales,
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, whatever they are; never a pickle."""
    check_is_file(path, DataError, give="give the statistics.npz of a run")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # broken bytes can end in any error of zipfile and numpy
        raise DataError(f"{path}: is no whole .npz file ({error}). {COLLECT_AGAIN}") from error


def _about(arrays: Mapping[str, np.ndarray]) -> _About:
    """What a file says of itself.

    Raises:
        ValueError: nothing that can be understood.
    """
    content = json.loads(str(arrays["about"]))
    if isinstance(content, dict) and content.get("format_version", 0) > FORMAT_VERSION:
        raise ValueError(
            f"format {content['format_version']}; this kq reads up to {FORMAT_VERSION}: pip "
            "install --upgrade keras_quant"
        )
    problems: list[str] = []
    about = from_plain(content, _About, problems) if isinstance(content, dict) else None
    if about is None or problems:
        raise ValueError("; ".join(problems) or "about is no object")
    return about


def _tensor(arrays: Mapping[str, np.ndarray], place: int) -> TensorStatistics:
    """The statistics in one row of all arrays.

    Raises:
        ValueError: they contradict each other.
    """
    count, zeros, exponent = (int(number) for number in arrays["whole"][place])
    bins, channels = arrays["bins"][place], arrays.get(_CHANNELS.format(place))
    counted = (
        bins.shape == (2 * BINS,)
        and bins.dtype == np.int64
        and bins.min() >= 0
        and zeros >= 0
        and int(bins.sum()) + zeros == count > 0
        and MIN_EXPONENT <= exponent <= MAX_EXPONENT
    )
    if not counted:
        raise ValueError(f"the counts of tensor {place} contradict each other")
    return TensorStatistics(
        moments=_moments(arrays["moments"][place], (), count),
        histogram=Histogram(exponent=exponent, counts=bins, zeros=zeros),
        channels=None if channels is None else _moments(channels, channels.shape[1:], count),
        ranges=_ranges(arrays["ranges"][place]) if "ranges" in arrays else ImageRanges(),
    )


def _scale(arrays: Mapping[str, np.ndarray], place: int) -> np.ndarray:
    """What the channels of a tensor were divided by.

    Raises:
        ValueError: they are no such numbers.
    """
    scale = np.asarray(arrays[_SCALES.format(place)], np.float64)
    if scale.ndim != 1 or not (np.isfinite(scale).all() and (scale > 0).all()):
        raise ValueError(f"the scales of channels {place} are no such numbers")
    return scale


def _ranges(row: np.ndarray) -> ImageRanges:
    """Those of images.

    Raises:
        ValueError: they are no such numbers.
    """
    images, low, high = (float(number) for number in row)
    if not (np.isfinite(row).all() and images >= 0 and low <= high and images.is_integer()):
        raise ValueError("the ranges of images are no such numbers")
    return ImageRanges(images=int(images), low=low, high=high)


def _row(moments: Moments) -> np.ndarray:
    return np.array([moments.low, moments.high, moments.total, moments.squares])


def _moments(rows: np.ndarray, shape: tuple[int, ...], count: int) -> Moments:
    """Those of all values, or of channels.

    Raises:
        ValueError: they are no such numbers.
    """
    low, high, total, squares = rows
    channels = int(np.prod(shape))
    sound = len(shape) <= 1 and channels > 0 and count % channels == 0
    sound = sound and bool(np.isfinite(rows).all() and (low <= high).all() and (squares >= 0).all())
    if not sound:
        raise ValueError(f"the moments of {channels} channels are no such numbers")
    return Moments(count=count // channels, low=low, high=high, total=total, squares=squares)
