"""Graphs of several widths in one file, which keeps each kernel once, in 8 bits.

What a narrower width computes with are the upper bits of that (`cut.cut_codes`), times what each of
its channels has of its own: the sign that its batch norm gave it, and the factor that a realized
graph multiplies codes by. Norms, steps and biases are each width's, and small. Every graph comes
back as it was, to the byte. Like a graph's file it is a zip of JSON and .npy files.
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
from keras_quant.graph.cut import STORED_BITS, cut_codes
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Cut:
    """How a kernel's codes come of stored ones.

    Attributes:
        bits, qmin, qmax: see `cut_codes`.
        factor: int16 (channels,), what the codes of each are multiplied by.
    """

    bits: int
    qmin: int
    qmax: int
    factor: np.ndarray

    def of(self, stored: np.ndarray) -> np.ndarray:
        codes = cut_codes(stored, bits=self.bits, qmin=self.qmin, qmax=self.qmax)
        return (codes * self.factor).astype(np.int8)


def pack_nested(graphs: Mapping[str, Graph]) -> bytes:
    """Gives the bytes of a file of graphs; equal graphs give equal bytes.

    Args:
        graphs: by the names of widths, the widest first, whose kernels have 8 bits.
    Raises:
        GraphError: a kernel of codes is not cut from the widest's, with the names of all.
    """
    widest, *others = graphs.values()
    stored: dict[str, np.ndarray] = {}
    cuts: dict[int, tuple[str, _Cut]] = {}  # by the identity of a kernel's array
    refused = []
    for node, weight in _kernels(widest).items():
        family = [weight, *(_kernels(other).get(node) for other in others)]
        found = None if None in family else _common([one for one in family if one is not None])
        if found is None:
            refused.append(node)
            continue
        stored[node] = found[0]
        for one, cut in zip(family, found[1], strict=True):
            assert one is not None
            cuts[id(one.values)] = node, cut
    refused += [node for other in others for node in _kernels(other) if node not in stored]
    if refused or not stored:
        names = ", ".join(dict.fromkeys(refused)) or "any layer"
        raise GraphError(
            f"kernels of {names} are not cut from 8-bit ones of {next(iter(graphs))}: train with "
            "--nested and its own method"
        )
    return _written(graphs, stored, cuts)


def _written(
    graphs: Mapping[str, Graph],
    stored: Mapping[str, np.ndarray],
    cuts: Mapping[int, tuple[str, _Cut]],
) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        places = {node: write_array(archive, codes) for node, codes in stored.items()}

        def store(array: np.ndarray | None) -> Any:
            if array is None:
                return None
            if id(array) not in cuts:
                return write_array(archive, array)
            node, cut = cuts[id(array)]
            numbers = {"bits": cut.bits, "qmin": cut.qmin, "qmax": cut.qmax}
            return {"stored": places[node], **numbers, "factor": write_array(archive, cut.factor)}

        contents = {name: graph_to_json(graph, store) for name, graph in graphs.items()}
        write_json(archive, {"format_version": FORMAT_VERSION, "graphs": contents})
    return packed.getvalue()


def load_nested(path: str | Path) -> dict[str, Graph]:
    """Reads a file of `pack_nested`'s bytes, and verifies its graphs.

    Returns: by the names of widths.
    Raises:
        GraphError: the file is missing, broken, newer than this package, or breaks a rule.
    """
    with opened(path, version=FORMAT_VERSION) as (archive, content):

        def fetch(place: Any) -> np.ndarray | None:
            if not isinstance(place, dict):
                return None if place is None else read_array(archive, place)
            cut = _Cut(
                factor=read_array(archive, place["factor"]),
                **{name: int(place[name]) for name in ("bits", "qmin", "qmax")},
            )
            return cut.of(read_array(archive, place["stored"]))

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
    """The stored codes that all kernels of a layer are cut from, the first of which has 8 bits.

    They are the first one's, but for the sign of each channel, which its batch norm may have
    turned: the one with which the others are cut from them. None where there is none.
    """
    first = family[0]
    if first.bits != STORED_BITS or any(one.values.shape != first.values.shape for one in family):
        return None
    codes = [_logical(one) for one in family]
    turned = np.ones(first.values.shape[-1], bool)
    kept = np.ones_like(turned)
    for one, own in zip(family[1:], codes[1:], strict=True):
        kept &= _signs(codes[0], own, one.bits) != 0
        turned &= _signs(-codes[0], own, one.bits) != 0
    if not (kept | turned).all():
        return None
    stored = (codes[0] * np.where(kept, 1, -1)).astype(np.int8)
    cuts = []
    for one, own in zip(family, codes, strict=True):
        qmin, qmax = _range(stored, own, one.bits)
        cut = cut_codes(stored, bits=one.bits, qmin=qmin, qmax=qmax)
        factor = _sign_between(cut, own)
        if one.multiplier is not None:
            factor = factor * one.multiplier
        cuts.append(_Cut(bits=one.bits, qmin=qmin, qmax=qmax, factor=factor.astype(np.int16)))
    exact = all(
        np.array_equal(cut.of(stored), one.values) for cut, one in zip(cuts, family, strict=True)
    )
    return (stored, cuts) if exact else None


def _logical(weight: Weight) -> np.ndarray:
    """int32 codes as the scheme has them, without what a realized graph multiplies them by."""
    codes = weight.values.astype(np.int32)
    return codes if weight.multiplier is None else codes // weight.multiplier


def _ranges(bits: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The codes of so many bits, narrow and full."""
    highest = 2 ** (bits - 1) - 1
    return (-highest, highest), (-highest - 1, highest)


def _range(stored: np.ndarray, own: np.ndarray, bits: int) -> tuple[int, int]:
    """Of the two the one that a width has cut its codes to."""
    narrow, full = _ranges(bits)
    cut = cut_codes(stored, bits=bits, qmin=narrow[0], qmax=narrow[1])
    return narrow if (_sign_between(cut, own) != 0).all() else full


def _signs(stored: np.ndarray, own: np.ndarray, bits: int) -> np.ndarray:
    """(channels,): 1 or -1 where a width's codes are those cut from stored ones, times it; or 0."""
    found = [
        _sign_between(cut_codes(stored, bits=bits, qmin=qmin, qmax=qmax), own)
        for qmin, qmax in _ranges(bits)
    ]
    return np.where(found[0] != 0, found[0], found[1])


def _sign_between(cut: np.ndarray, own: np.ndarray) -> np.ndarray:
    axes = tuple(range(own.ndim - 1))
    same, turned = (own == cut).all(axes), (own == -cut.astype(np.int32)).all(axes)
    return np.where(same, 1, np.where(turned, -1, 0))
