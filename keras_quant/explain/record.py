"""explain.npz: what was seen of a quantized model's values and answers, for pictures."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_quant.errors import RunError
from keras_quant.files import atomic_path
from keras_quant.json_codec import from_plain

FILE_NAME = "explain.npz"
FORMAT_VERSION = 1
_HEADER = "header"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor that is rounded; its numbers are arrays of the record.

    Attributes:
        name: of the layer.
        kind: "weights" or "activations".
        bits: of its codes.
        unit: what values are counted in: "scales" of their channel, or "reals".
    """

    name: str
    kind: str
    bits: int
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """All but the arrays.

    Attributes:
        images: whose activations were seen.
        split: part of the data that the answers are to.
        float_model: that the quantized one is compared with; "" without one.
        class_names: one a class.
        layer_names: whose maps are shown, of the float and the quantized model; () without maps.
    """

    images: int
    split: str
    float_model: str
    class_names: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    layer_names: tuple[str, ...] = ()
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Histogram:
    """Values before and after rounding.

    Attributes:
        edges: float64 (bins + 1,), of bins of equal width; the outer two hold all beyond them too.
        before: int64 (bins,): how many values lay in each, before they were rounded.
        levels: float64 (levels,): the values of the grid.
        after: int64 (levels,): how many values became each.
    """

    edges: np.ndarray
    before: np.ndarray
    levels: np.ndarray
    after: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Maps:
    """Where two models look, for some images.

    Attributes:
        images: uint8 (images, height, width, 1 or 3), for showing.
        classes: int64 (images,): whose score the maps explain, the float model's answer.
        of_float, of_quantized: float32 (images, height, width), 0 to 1.
    """

    images: np.ndarray
    classes: np.ndarray
    of_float: np.ndarray
    of_quantized: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explained:
    """Everything that was seen.

    Attributes:
        histograms: one a tensor of the header.
        confusion: int64 (models, classes, classes), of the quantized model, or of the float one
            and it: rows are what images show, columns what was answered; None without labels.
        maps: None without a float model, or where no layer has maps.
    """

    header: Header
    histograms: tuple[Histogram, ...]
    confusion: np.ndarray | None = None
    maps: Maps | None = None


def save(explained: Explained, run: Path) -> Path:
    """Writes a record into a run's folder.

    Returns: the file.
    Raises:
        FileError: the system refuses.
    """
    arrays: dict[str, np.ndarray] = {_HEADER: np.array(json.dumps(asdict(explained.header)))}
    for place, histogram in enumerate(explained.histograms):
        for name in Histogram.__slots__:
            arrays[f"{place}/{name}"] = getattr(histogram, name)
    if explained.confusion is not None:
        arrays["confusion"] = explained.confusion
    if explained.maps is not None:
        arrays |= {f"maps/{name}": getattr(explained.maps, name) for name in Maps.__slots__}
    path = run / FILE_NAME
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
    return path


def load(run: Path) -> Explained:
    """Reads the record of a run; no code of it is run.

    Raises:
        RunError: it is missing, broken, or of a newer format.
    """
    path = run / FILE_NAME
    if not path.exists():
        raise RunError(f"{run}: has no {FILE_NAME} yet; kq explain {run} writes it")
    remedy = f"Make it again: kq explain {run} --overwrite"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return _read({name: arrays[name] for name in arrays.files})
    except RunError as error:
        raise RunError(f"{path}: {error}. {remedy}") from None
    except Exception as error:  # zipfile, zlib and numpy raise what they like of damaged bytes
        raise RunError(f"{path}: damaged ({type(error).__name__}: {error}). {remedy}") from error


def _read(arrays: dict[str, np.ndarray]) -> Explained:
    content: Any = json.loads(str(arrays[_HEADER]))
    version = content.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise RunError(f"written by a newer kq (format {version}; this one reads {FORMAT_VERSION})")
    problems: list[str] = []
    header = from_plain(content, Header, problems)
    if header is None:
        raise RunError("; ".join(problems))
    histograms = tuple(
        Histogram(**{name: arrays[f"{place}/{name}"] for name in Histogram.__slots__})
        for place in range(len(header.tensors))
    )
    maps = None
    if header.layer_names:
        maps = Maps(**{name: arrays[f"maps/{name}"] for name in Maps.__slots__})
    found = Explained(
        header=header, histograms=histograms, confusion=arrays.get("confusion"), maps=maps
    )
    if problems := _problems(found):
        raise RunError("; ".join(problems))
    return found


def _problems(found: Explained) -> list[str]:
    """Arrays whose shapes do not go together, or whose values are not what they stand for."""
    problems = []
    for tensor, one in zip(found.header.tensors, found.histograms, strict=True):
        if (
            one.before.ndim != 1
            or one.levels.ndim != 1
            or one.edges.shape != (len(one.before) + 1,)
            or one.levels.shape != one.after.shape
        ):
            problems.append(f"{tensor.name}: its arrays do not go together")
        elif not all(map(_rise, (one.edges, one.levels))):
            problems.append(f"{tensor.name}: edges and levels are finite floats that rise")
        elif not all(map(_are_counts, (one.before, one.after))):
            problems.append(f"{tensor.name}: before and after are counts, whole numbers from 0 on")
    classes = len(found.header.class_names)
    confusion, maps = found.confusion, found.maps
    if confusion is not None and confusion.shape not in (
        (1, classes, classes),
        (2, classes, classes),
    ):
        problems.append(f"confusion is {confusion.shape}, of {classes} classes")
    elif confusion is not None and not _are_counts(confusion):
        problems.append("confusion: is of counts, whole numbers from 0 on")
    if maps is not None:
        shapes = {maps.of_float.shape, maps.of_quantized.shape, maps.images.shape[:3]}
        if len(shapes) > 1 or maps.images.ndim != 4 or maps.classes.shape != maps.images.shape[:1]:
            problems.append("maps: their arrays do not go together")
    return problems


def _rise(values: np.ndarray) -> bool:
    if values.dtype.kind != "f" or not values.size or not np.isfinite(values).all():
        return False
    return bool((values[1:] > values[:-1]).all())


def _are_counts(values: np.ndarray) -> bool:
    return values.dtype.kind in "iu" and bool(values.size) and bool(values.min() >= 0)
