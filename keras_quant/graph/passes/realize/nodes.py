"""Integers for each ideal node of a graph; what was found before is kept where nothing changed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_quant.errors import GraphError
from keras_quant.graph.exact import accumulator_range
from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.passes.realize.channels import Channels
from keras_quant.graph.passes.realize.place import Placement, place
from keras_quant.graph.passes.realize.rows import replace_rows, select_rows
from keras_quant.qparams import QParams

INT8_MAX = 127
# A bias of up to 2**22 still differs from its neighbours after a float32 rounding.
MAX_BIAS = 2.0**22
MAX_ACCUMULATOR = 2.0**31 - 1
# With activation scales in this range and multipliers of 2**-41 (a bias below 2**31, 8 bits
# of output) to 2**8, each product of scales is a normal float32.
MIN_SCALE, MAX_SCALE = 2.0**-40, 2.0**40


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NodeChannels:
    """An ideal node from codes to codes.

    Attributes:
        node: with the biases and scales that it was trained to.
        source: grid of the codes that it reads.
        trained: its channels.
        largest_code: (channels,) int64, magnitude of the largest weight code.
    """

    node: Node
    source: QParams
    trained: Channels
    largest_code: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlacedNode:
    """An ideal node, and its integers.

    Attributes:
        read: the node.
        max_factor: (channels,) int64, the most that its weight codes could be multiplied by.
        snap: whether its biases could be moved.
        move_gain: whether its gains could be, too.
        placement: its integers.
    """

    read: NodeChannels
    max_factor: np.ndarray
    snap: bool
    move_gain: bool
    placement: Placement


def place_nodes(
    graph: Graph,
    *,
    stored_max: int | Mapping[str, int] = INT8_MAX,
    snap: bool = True,
    immovable: Collection[str] = (),
    fixed_gain: Collection[str] = (),
    known: Mapping[str, PlacedNode] | None = None,
) -> dict[str, PlacedNode]:
    """Finds integers for each ideal node from codes to codes; arguments as for `realize`.

    Args:
        known: what this function gave for a graph with other biases and scales. Only channels
            that have changed since then are looked at.
    Raises:
        GraphError: some nodes cannot be realized; each is named with its reason.
    """
    known = known or {}
    read = [
        _read_channels(graph, node, known.get(node.name))
        for node in graph.nodes
        if _is_ideal(graph, node)
    ]
    problems = [f"{each.node.name}: {problem}" for each in read for problem in _problems(each)]
    if problems:
        raise GraphError("\n".join(problems))
    limits = stored_max if isinstance(stored_max, Mapping) else {}
    most = INT8_MAX if isinstance(stored_max, Mapping) else stored_max
    placed = {}
    for each in read:
        name = each.node.name
        placed[name] = _place_node(
            each,
            known.get(name),
            max_factor=_max_factor(each, limits.get(name, most)),
            snap=snap and name not in immovable,
            move_gain=name not in fixed_gain,
        )
    return placed


def _is_ideal(graph: Graph, node: Node) -> bool:
    if node.weight is None or node.weight.scale is None or node.weight.scale.dtype != np.float64:
        return False
    return None not in [graph.tensors[name].qparams for name in (*node.inputs, node.output)]


def _read_channels(graph: Graph, node: Node, known: PlacedNode | None) -> NodeChannels:
    """Reads the channels of an ideal node; what its codes say is kept where they are the same."""
    source, output = (graph.tensors[name].grid for name in (node.inputs[0], node.output))
    codes, scale = node.kernel.values, node.kernel.code_scale
    if known is not None and _has_codes(known.read, codes, source):
        lowest, highest = known.read.trained.lowest, known.read.trained.highest
        largest_code = known.read.largest_code
    else:
        lowest, highest = (n.astype(np.float64) for n in accumulator_range(codes, source))
        flat = codes.reshape(-1, codes.shape[-1])
        largest_code = np.maximum(flat.max(axis=0), -flat.min(axis=0).astype(np.int64))
    channels = Channels(
        input_scale=source.scale,
        output=output,
        weight_scale=scale,
        bias=np.zeros_like(scale) if node.bias is None else node.bias,
        lowest=lowest,
        highest=highest,
    )
    return NodeChannels(node=node, source=source, trained=channels, largest_code=largest_code)


def _has_codes(read: NodeChannels, codes: np.ndarray, source: QParams) -> bool:
    """Whether a node has these codes, and reads codes of this grid."""
    weight = read.node.weight
    return weight is not None and read.source is source and np.array_equal(weight.values, codes)


def _problems(read: NodeChannels) -> Iterator[str]:
    """What keeps a node from being realized."""
    node, channels = read.node, read.trained
    for name, scale in (
        (node.inputs[0], channels.input_scale),
        (node.output, channels.output.scale),
    ):
        if not MIN_SCALE <= scale <= MAX_SCALE:
            yield (
                f"the scale of tensor {name!r} is {scale:g}; float32 kernels allow "
                f"{MIN_SCALE:g} to {MAX_SCALE:g}. Calibrate it on data that reach the layer."
            )
    bad = np.flatnonzero(~np.isfinite(channels.bias))
    if bad.size > 0:
        yield f"bias is NaN or infinite in {bad.size} channel(s), the first is {bad[0]}"
    over = np.flatnonzero(channels.reach > MAX_ACCUMULATOR)
    if over.size > 0:
        yield (
            f"accumulators of {over.size} channel(s) can pass int32: channel {over[0]} reaches "
            f"{channels.lowest[over[0]]:.0f} to {channels.highest[over[0]]:.0f}. Use fewer bits."
        )


def _max_factor(read: NodeChannels, stored_max: int) -> NDArray[np.int64]:
    """(channels,) int64: 0 where even the factor 1 lets bias or accumulator leave int32."""
    channels = read.trained
    stored = np.maximum(stored_max // np.maximum(read.largest_code, 1), 1)
    with np.errstate(over="ignore"):  # an infinite offset leaves the factor 0
        offset = np.abs(channels.bias) / np.maximum(channels.unit, np.finfo(np.float64).tiny)
    told_apart = np.maximum(MAX_BIAS // (offset + 1), 1)
    # The search moves the offset by one step, and rounds the bias to one beside it.
    within_int32 = MAX_ACCUMULATOR // (channels.reach + offset + 2)
    factor: NDArray[np.float64] = np.minimum(stored, np.minimum(told_apart, within_int32))
    return factor.astype(np.int64)


def _place_node(
    read: NodeChannels,
    known: PlacedNode | None,
    *,
    max_factor: np.ndarray,
    snap: bool,
    move_gain: bool,
) -> PlacedNode:
    """Places the channels of a node; what is known is kept for those that have not changed."""
    moves = {"snap": snap, "move_gain": move_gain}
    if known is None or not _is_kept(known, read, moves):
        placement = place(read.trained, max_factor, **moves)
    else:
        changed = np.flatnonzero(
            (read.trained.bias != known.read.trained.bias)
            | (read.trained.weight_scale != known.read.trained.weight_scale)
            | (max_factor != known.max_factor)
        )
        few = select_rows(read.trained, changed)
        part = place(few, max_factor[changed], **moves)
        placement = replace_rows(known.placement, changed, part)
    return PlacedNode(
        read=read,
        max_factor=max_factor,
        placement=placement,
        **moves,
    )


def _is_kept(known: PlacedNode, read: NodeChannels, moves: Mapping[str, bool]) -> bool:
    """Whether what is known holds for a node, but where its biases or scales are others."""
    weight = read.node.weight
    return (
        weight is not None
        and _has_codes(known.read, weight.values, read.source)
        and known.read.trained.output is read.trained.output
        and {"snap": known.snap, "move_gain": known.move_gain} == moves
    )
