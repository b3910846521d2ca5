"""Turns an ideal graph into one that int8 kernels reproduce bit for bit.

A kernel has an integer bias and computes in float32. Rounding the bias to the accumulator's
grid is the only real loss: up to 1 % of all codes at 2 bits. Two remedies:

* threshold: a trained channel is a staircase with few steps, and another line through the
  integers often has exactly the same steps. Its equality is proven for every input.
* snapped: where there is none (outputs of 8 bits, mostly), the bias is rounded, and the
  report tells by how much to move the bias of the trained model so that it has the very
  staircase of the integers. Biases are also moved where an accumulator lies so near a tie that
  Keras' float32 does not know to which side to round it, and gains where no bias is far enough
  from all ties (`passes.room`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from keras_quant.errors import GraphError
from keras_quant.graph.exact import accumulator_range
from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.passes.fit import Fit, merge_fits, select_fits, solve
from keras_quant.graph.passes.pairs import pair_limit
from keras_quant.graph.passes.room import (
    find_cramped,
    needed_room,
    roomy_biases,
    roomy_gains,
    settle,
)
from keras_quant.graph.passes.staircase import (
    Channels,
    Staircase,
    ideal_staircase,
    kernel_multiplier,
    kernel_staircase,
    select_channels,
)

INT8_MAX = 127
StoredLimits = Callable[[Graph], Mapping[str, int]]
"""Gives the largest stored weight codes that a target allows, by node."""
# A bias of up to 2**22 is still told from its neighbours after a float32 rounding.
MAX_BIAS = 2.0**22
MAX_ACCUMULATOR = 2.0**31 - 1
SOLVED = -1
ALL_TRIES = None
# With activation scales in this range and multipliers of 2**-41 (a bias below 2**31, 8 bits
# of output) to 2**8, each product of scales is a normal float32.
MIN_SCALE, MAX_SCALE = 2.0**-40, 2.0**40


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChannelReport:
    """How the output channels of one node were realized.

    Attributes:
        node: name of the node.
        channels: how many output channels it has; each is one of the three below.
        threshold: channels equal to the ideal as trained, but for `wrong_thresholds`.
        snapped: channels that are equal once the model's bias and gain are moved.
        rounded: channels whose bias integers cannot say, left so because snapping was not
            wanted.
        delta: (channels,) float64, real, to add to the trained layer's bias; 0 but where
            snapped.
        gain: (channels,) float64, to multiply the trained layer's gain by; 1 but where snapped.
        largest_shift_steps: the largest of `delta`, in steps of the output.
        wrong_thresholds: thresholds that lie elsewhere than those of the ideal channel
            (after `delta` and `gain`); each can change codes by one step, for the accumulators
            between the two places only.
        thresholds: all thresholds within reach of the input.
    """

    node: str
    channels: int
    threshold: int
    snapped: int
    rounded: int
    delta: np.ndarray
    gain: np.ndarray
    largest_shift_steps: float
    wrong_thresholds: int
    thresholds: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Realized:
    """A graph without ideal nodes, and a report for each node that was one."""

    graph: Graph
    reports: tuple[ChannelReport, ...]


def realize(
    graph: Graph,
    *,
    stored_max: int | Mapping[str, int] = INT8_MAX,
    snap: bool = True,
    immovable: Collection[str] = (),
    fixed_gain: Collection[str] = (),
) -> Realized:
    """Gives each ideal node from codes to codes an int32 bias and float32 scales.

    Nodes with a float input or output, and nodes realized before, pass unchanged. A channel
    whose code is the same for every input gets weight codes 0: its scale need not be one
    that float32 can hold.

    Args:
        stored_max: largest stored weight code; weights are multiplied up towards it, which
            makes the bias finer, but not beyond `pairs.pair_limit`. 7 for kernels that take
            int4. By node, those that are not named have INT8_MAX.
        snap: False keeps the trained model as it is, and lets channels differ from it.
        immovable: names of nodes that are treated as with snap=False.
        fixed_gain: names of nodes whose bias may be moved, but not their gain.
    Raises:
        GraphError: some nodes cannot be realized; each is named with its reason.
    """
    ideal = [(node, _channels(graph, node)) for node in graph.nodes if _is_ideal(graph, node)]
    problems = [
        f"{node.name}: {problem}"
        for node, channels in ideal
        for problem in (*_scale_problems(graph, node), *_channel_problems(channels))
    ]
    if problems:
        raise GraphError("\n".join(problems))
    limits = stored_max if isinstance(stored_max, Mapping) else {}
    most = INT8_MAX if isinstance(stored_max, Mapping) else stored_max
    made, reports = {}, []
    for node, channels in ideal:
        limit = limits.get(node.name, most)
        made[node.name], report = _realize_node(
            node,
            channels,
            stored_max=min(limit, pair_limit(graph, node)),
            snap=snap and node.name not in immovable,
            move_gain=node.name not in fixed_gain,
        )
        reports.append(report)
    nodes = tuple(made.get(node.name, node) for node in graph.nodes)
    return Realized(graph=replace(graph, nodes=nodes), reports=tuple(reports))


def _is_ideal(graph: Graph, node: Node) -> bool:
    if node.weight is None or node.weight.scale is None or node.weight.scale.dtype != np.float64:
        return False
    return None not in [graph.tensors[name].qparams for name in (*node.inputs, node.output)]


def _scale_problems(graph: Graph, node: Node) -> Iterator[str]:
    for name in (node.inputs[0], node.output):
        qparams = graph.tensors[name].qparams
        assert qparams is not None, name
        if not MIN_SCALE <= qparams.scale <= MAX_SCALE:
            yield (
                f"the scale of tensor {name!r} is {qparams.scale:g}; float32 kernels allow "
                f"{MIN_SCALE:g} to {MAX_SCALE:g}. Calibrate it on data that reach the layer."
            )


def _channel_problems(channels: Channels) -> Iterator[str]:
    bad = np.flatnonzero(~np.isfinite(channels.bias))
    if bad.size > 0:
        yield f"bias is NaN or infinite in {bad.size} channel(s), the first is {bad[0]}"
    over = np.flatnonzero(_reach(channels) > MAX_ACCUMULATOR)
    if over.size > 0:
        yield (
            f"accumulators of {over.size} channel(s) can pass int32: channel {over[0]} reaches "
            f"{channels.lowest[over[0]]:.0f} to {channels.highest[over[0]]:.0f}. Use fewer bits."
        )


def _realize_node(
    node: Node, trained: Channels, *, stored_max: int, snap: bool, move_gain: bool
) -> tuple[Node, ChannelReport]:
    assert node.weight is not None, node.name
    max_factor = _max_factor(trained, node.weight.values, stored_max)
    stairs = ideal_staircase(trained)
    fit = solve(trained, stairs, max_factor)
    moved = trained
    if snap:
        fit, moved = _snap(trained, fit, max_factor, move_gain=move_gain)
    delta, answered = moved.bias - trained.bias, _answered(trained, fit)
    offset = fit.bias / np.maximum(fit.factor, 1)
    said = np.abs(offset - trained.bias / trained.unit) <= needed_room(trained)
    rounded = (fit.wrong > 0) & ~said if not snap else np.zeros(len(delta), bool)
    gain = moved.weight_scale / trained.weight_scale
    snapped = (delta != 0) | (gain != 1)
    changed = rounded | snapped
    report = ChannelReport(
        node=node.name,
        channels=len(changed),
        threshold=int((~changed).sum()),
        snapped=int(snapped.sum()),
        rounded=int(rounded.sum()),
        delta=delta,
        gain=gain,
        largest_shift_steps=float(np.abs(delta).max() / trained.output.scale),
        wrong_thresholds=int(np.count_nonzero(ideal_staircase(moved).above != answered.above)),
        thresholds=int(stairs.crossings.sum()),
    )
    return _store(node, fit), report


def _snap(
    trained: Channels, fit: Fit, max_factor: np.ndarray, *, move_gain: bool
) -> tuple[Fit, Channels]:
    """Biases, near the trained ones, that have the staircases of integers with room to spare.

    Where the integers of the trained bias leave too little, those of the likeliest bias beside
    it are looked for, then those of another gain; then of all biases, which takes long.

    Returns: the integers, and the channels with their real biases and gains.
    """
    moved = replace(trained, bias=settle(trained, _answered(trained, fit)))
    for tries in (1, ALL_TRIES):
        cramped = find_cramped(moved, _answered(moved, fit))
        if cramped.size == 0:
            break
        fit, moved = _search(trained, moved, fit, cramped, max_factor, tries)
        if move_gain:
            cramped = find_cramped(moved, _answered(moved, fit))
            scale = moved.weight_scale.copy()
            scale[cramped] *= roomy_gains(select_channels(moved, cramped))
            start = replace(moved, weight_scale=scale)
            fit, moved = _search(start, moved, fit, cramped, max_factor, tries)
    return fit, moved


def _search(
    start: Channels,
    moved: Channels,
    fit: Fit,
    cramped: np.ndarray,
    max_factor: np.ndarray,
    tries: int | None,
) -> tuple[Fit, Channels]:
    """Looks for integers of roomy biases around those of `start`; else keeps `moved` and `fit`.

    Args:
        cramped: positions of the channels to look at.
        tries: how many biases of a channel to try; None tries all.
    """
    cramped, bias, scale = cramped.copy(), moved.bias.copy(), moved.weight_scale.copy()
    wanted = roomy_biases(select_channels(start, cramped))
    for biases in wanted.T[:tries]:
        open_ = np.flatnonzero(np.isfinite(biases) & (cramped >= 0))
        channels = replace(select_channels(start, cramped[open_]), bias=biases[open_])
        tried = solve(channels, ideal_staircase(channels), max_factor[cramped[open_]])
        found = np.flatnonzero(tried.wrong == 0)
        index = cramped[open_[found]]
        fit = merge_fits(fit, index, select_fits(tried, found))
        bias[index], scale[index] = biases[open_[found]], start.weight_scale[index]
        cramped[open_[found]] = SOLVED
    return fit, replace(moved, bias=bias, weight_scale=scale)


def _answered(channels: Channels, fit: Fit) -> Staircase:
    """The staircases of a fit's integers, exactly as float32 kernels compute them."""
    multiplier = kernel_multiplier(channels.input_scale, fit.weight_scale, channels.output.scale)
    return kernel_staircase(channels, factor=fit.factor, bias=fit.bias, multiplier=multiplier)


def _channels(graph: Graph, node: Node) -> Channels:
    assert node.weight is not None and node.weight.scale is not None, node.name
    given, output = graph.tensors[node.inputs[0]].qparams, graph.tensors[node.output].qparams
    assert given is not None and output is not None, node.name
    lowest, highest = accumulator_range(node.weight.values, given)
    scale = node.weight.scale
    return Channels(
        input_scale=given.scale,
        output=output,
        weight_scale=scale,
        bias=np.zeros_like(scale) if node.bias is None else node.bias,
        lowest=lowest.astype(np.float64),
        highest=highest.astype(np.float64),
    )


def _max_factor(channels: Channels, codes: np.ndarray, stored_max: int) -> np.ndarray:
    """(channels,) int64: 0 where even the factor 1 lets bias or accumulator leave int32."""
    largest_code = np.abs(codes.reshape(-1, codes.shape[-1]).astype(np.int64)).max(axis=0)
    stored = np.maximum(stored_max // np.maximum(largest_code, 1), 1)
    with np.errstate(over="ignore"):  # an infinite offset leaves the factor 0
        offset = np.abs(channels.bias) / np.maximum(channels.unit, np.finfo(np.float64).tiny)
    told_apart = np.maximum(MAX_BIAS // (offset + 1), 1)
    # The search moves the offset by one step, and rounds the bias to one beside it.
    within_int32 = MAX_ACCUMULATOR // (_reach(channels) + offset + 2)
    return np.minimum(stored, np.minimum(told_apart, within_int32)).astype(np.int64)


def _reach(channels: Channels) -> np.ndarray:
    """(channels,) float64: the largest magnitude of an accumulator."""
    return np.maximum(channels.highest, -channels.lowest)


def _store(node: Node, fit: Fit) -> Node:
    assert node.weight is not None, node.name
    weight = replace(
        node.weight,
        values=(node.weight.values * fit.factor).astype(np.int8),
        scale=fit.weight_scale,
        multiplier=np.maximum(fit.factor, 1).astype(np.int32),
    )
    return replace(node, weight=weight, bias=fit.bias.astype(np.int32))
