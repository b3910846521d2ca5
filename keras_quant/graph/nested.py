"""Graphs of several widths in one file, which keeps each kernel once: the widest's.

What a narrower width computes with are the first channels of that, or the upper bits
(`cut.cut_codes`), times what each channel has of its own: the sign that its batch norm gave it, and
the factor that a realized graph multiplies codes by. Norms, steps and biases are each width's, and
small. Every graph comes back as it was, to the byte. Like a graph's file it is a zip of JSON and
.npy files.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_quant.errors import GraphError
from keras_quant.graph.cut import cut_codes
from keras_quant.graph.ir import Graph, Weight
from keras_quant.graph.store import (
    checked,
    graph_from_json,
    graph_to_json,
    opened,
    read_array,
    write_array,
    write_json,
)

FORMAT_VERSION = 1
SUFFIX = ".kqnested"
FILE_NAME = f"widths{SUFFIX}"
"""In the folder of the run that trained the widths."""

_REMEDY = f"Give the {FILE_NAME} of a run of kq train --nested or --slim, as that wrote it."
_NUMBERS = ("bits", "qmin", "qmax", "of")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Cut:
    """How a kernel's codes come of base codes.

    Attributes:
        bits, qmin, qmax, of: see `cut_codes`.
        shape: of the kernel, whose values are the first ones along each axis.
        factor: int16 (channels,), what the codes of each are multiplied by.
    """

    bits: int
    qmin: int
    qmax: int
    of: int
    shape: tuple[int, ...]
    factor: np.ndarray

    def codes(self, base: np.ndarray) -> np.ndarray:
        """int8, in the kernel's shape."""
        part = _first(base, self.shape)
        codes = cut_codes(part, bits=self.bits, qmin=self.qmin, qmax=self.qmax, of=self.of)
        return np.asarray(codes * self.factor, np.int8)


def pack_nested(graphs: Mapping[str, Graph]) -> bytes:
    """Gives the bytes of a file of graphs; equal graphs give equal bytes.

    Args:
        graphs: by the names of widths, the widest first.
    Raises:
        GraphError: a kernel of codes is no part of the widest's, with the names of all.
    """
    widest, *others = graphs.values()
    base: dict[str, np.ndarray] = {}
    cuts: dict[int, tuple[str, _Cut]] = {}  # by the identity of a kernel's array
    refused = []
    for node, weight in _kernels(widest).items():
        family = [weight, *(_kernels(other).get(node) for other in others)]
        found = None if None in family else _common([one for one in family if one is not None])
        if found is None:
            refused.append(node)
            continue
        base[node] = found[0]
        for one, cut in zip(family, found[1], strict=True):
            assert one is not None
            cuts[id(one.values)] = node, cut
    refused += [node for other in others for node in _kernels(other) if node not in base]
    if refused or not base:
        names = ", ".join(dict.fromkeys(refused)) or "any layer"
        raise GraphError(
            f"the codes of kernels of {names} are no part of those of {next(iter(graphs))}; with "
            "--method nested they are"
        )
    return _written(graphs, base, cuts)


def _written(
    graphs: Mapping[str, Graph],
    base: Mapping[str, np.ndarray],
    cuts: Mapping[int, tuple[str, _Cut]],
) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        places = {node: write_array(archive, codes) for node, codes in base.items()}

        def store(array: np.ndarray | None) -> Any:
            if array is None:
                return None
            if id(array) not in cuts:
                return write_array(archive, array)
            node, cut = cuts[id(array)]
            factor = write_array(archive, cut.factor)
            numbers = {name: getattr(cut, name) for name in (*_NUMBERS, "shape")}
            return {"base": places[node], **numbers, "factor": factor}

        contents = {name: graph_to_json(graph, store) for name, graph in graphs.items()}
        write_json(archive, {"format_version": FORMAT_VERSION, "graphs": contents})
    return packed.getvalue()


def load_nested(path: str | Path) -> dict[str, Graph]:
    """Reads a file of `pack_nested`'s bytes, and verifies its graphs.

    Returns: by the names of widths.
    Raises:
        GraphError: the file is missing, broken, newer than this package, or breaks a rule.
    """
    with opened(path, version=FORMAT_VERSION, remedy=_REMEDY) as (archive, content):

        def fetch(place: Any) -> np.ndarray | None:
            if not isinstance(place, dict):
                return None if place is None else read_array(archive, place)
            cut = _Cut(
                factor=read_array(archive, place["factor"]),
                shape=tuple(int(size) for size in place["shape"]),
                **{name: int(place[name]) for name in _NUMBERS},
            )
            return cut.codes(read_array(archive, place["base"]))

        return {
            name: checked(graph_from_json(graph, fetch), path)
            for name, graph in content["graphs"].items()
        }


def _kernels(graph: Graph) -> dict[str, Weight]:
    """The kernels of codes, by the names of their nodes."""
    return {
        node.name: node.weight
        for node in graph.nodes
        if node.weight is not None and node.weight.scale is not None
    }


def _common(family: Sequence[Weight]) -> tuple[np.ndarray, list[_Cut]] | None:
    """The base codes that all kernels of a layer are parts of, the first of which is whole.

    They are the first one's, but for the sign of each channel, which its batch norm may have
    turned: the one with which the others are cut from them. None where there is none.
    """
    codes, whole = [_logical(one) for one in family], family[0].bits
    if any(not _holds(codes[0], own) for own in codes):
        return None
    kept = np.ones(codes[0].shape[-1], bool)
    turned = np.ones_like(kept)
    for one, own in zip(family[1:], codes[1:], strict=True):
        channels = own.shape[-1]
        part = _first(codes[0], own.shape)
        kept[:channels] &= _signs(part, own, one.bits, whole) != 0
        turned[:channels] &= _signs(-part, own, one.bits, whole) != 0
    if not (kept | turned).all():
        return None
    base = (codes[0] * np.where(kept, 1, -1)).astype(np.int8)
    cuts = []
    for one, own in zip(family, codes, strict=True):
        part = _first(base, own.shape)
        qmin, qmax = _range(part, own, one.bits, whole)
        cut = cut_codes(part, bits=one.bits, qmin=qmin, qmax=qmax, of=whole)
        factor = _sign_between(cut, own)
        if one.multiplier is not None:
            factor = factor * one.multiplier
        cuts.append(
            _Cut(
                bits=one.bits,
                qmin=qmin,
                qmax=qmax,
                of=whole,
                shape=own.shape,
                factor=factor.astype(np.int16),
            )
        )
    exact = all(
        np.array_equal(cut.codes(base), one.values) for cut, one in zip(cuts, family, strict=True)
    )
    return (base, cuts) if exact else None


def _first(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    return values[tuple(slice(0, size) for size in shape)]


def _holds(whole: np.ndarray, part: np.ndarray) -> bool:
    sizes = zip(whole.shape, part.shape, strict=False)
    return whole.ndim == part.ndim and all(size >= less for size, less in sizes)


def _logical(weight: Weight) -> np.ndarray:
    """int32 codes as the scheme has them, without what a realized graph multiplies them by."""
    codes = weight.values.astype(np.int32)
    return codes if weight.multiplier is None else codes // weight.multiplier


def _ranges(bits: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The codes of so many bits, narrow and full."""
    highest = max(1, 2 ** (bits - 1) - 1)
    return (-highest, highest), (-highest - 1, highest)


def _range(base: np.ndarray, own: np.ndarray, bits: int, of: int) -> tuple[int, int]:
    """Of the two the one that a width has cut its codes to."""
    narrow, full = _ranges(bits)
    cut = cut_codes(base, bits=bits, qmin=narrow[0], qmax=narrow[1], of=of)
    return narrow if (_sign_between(cut, own) != 0).all() else full


def _signs(base: np.ndarray, own: np.ndarray, bits: int, of: int) -> np.ndarray:
    """(channels,): 1 or -1 where a width's codes are those cut from base codes, times it; or 0."""
    if bits > of:
        return np.zeros(own.shape[-1], int)
    found = [
        _sign_between(cut_codes(base, bits=bits, qmin=qmin, qmax=qmax, of=of), own)
        for qmin, qmax in _ranges(bits)
    ]
    return np.where(found[0] != 0, found[0], found[1])


def _sign_between(cut: np.ndarray, own: np.ndarray) -> np.ndarray:
    axes = tuple(range(own.ndim - 1))
    same, turned = (own == cut).all(axes), (own == -cut.astype(np.int32)).all(axes)
    return np.where(same, 1, np.where(turned, -1, 0))
