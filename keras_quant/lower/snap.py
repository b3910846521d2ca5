"""Moving a model's biases to where integers can say them, so that the file answers as it does.

A bias that is no multiple of input scale times weight scale would be rounded in the file, and
one that puts values on ties would be rounded one way by Keras' float32 and another way by
integers. In place of letting the file differ from the model, the model's own bias (batch norm's
beta) is moved, usually by less than a hundredth of an output code, before the model is evaluated
for the last time. Where no bias is far enough from all ties, batch norm's gamma is moved too, by
less than a thousandth; where no batch norm follows, the channel's kernel (`gain`).

A layer that is called more than once has one bias for all its calls. Each channel is moved as the
call wants it that asks for the longest move, until no call asks for more: where the grids of the
calls differ by powers of two, what the coarsest can say the others can say too. Their gain is never
moved. What goes to and fro is put beside where it is to go, by a few of float32's steps. What then
does not come to rest stays at the place, of the last ones, that integers say best, and is treated
as if it could not be moved.

All of this is computed on the lowered graph; the model gets its new biases at the end, once
integers for all of them are found.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from keras_quant.errors import LoweringError
from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.passes.realize import ChannelReport, StoredLimits
from keras_quant.graph.passes.realize.nodes import PlacedNode, place_nodes
from keras_quant.graph.passes.realize.realize import is_rounded, report, store_integers
from keras_quant.graph.passes.sums import settle_sums
from keras_quant.lower.gain import KernelGain
from keras_quant.lower.lower import lower_with_origins
from keras_quant.lower.origin import Origin, with_kernel, with_variables
from keras_quant.tf import keras

# A moved bias is rounded to float32, and may come near a tie again. Seen to settle in 3 to 5, of
# which the first takes nearly all the time.
MAX_ROUNDS = 24
# A gain's target is so sharp that float32 may miss it by too much, and lead to another target, from
# which the way leads back. From this round on, what moves still is put beside its target.
BESIDE_FROM = 4
# What has not come to rest by then goes round in circles, mostly between two places.
WEIGHED = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snap:
    """A realized graph, and what was moved in the model to get it.

    Attributes:
        graph: the realized graph.
        layers: names of the layers with kernels whose bias, or whose batch norm's beta, moved.
        channels: output channels of all integer nodes.
        moved: how many of them had their bias, or gain, moved; the rest are proven equal as
            trained.
        largest_shift_steps: the largest move of a bias, in steps of the output it belongs to.
    """

    graph: Graph
    layers: tuple[str, ...]
    channels: int
    moved: int
    largest_shift_steps: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Owner:
    """What may be moved of the nodes that share it: the calls of one layer.

    Attributes:
        nodes: their names.
        origins: of each.
        bias: the variable that is added last, in all of them.
        gamma: that which multiplies, where there is one.
    """

    nodes: tuple[str, ...]
    origins: tuple[Origin, ...]
    bias: keras.Variable
    gamma: keras.Variable | None

    @property
    def has_free_gain(self) -> bool:
        """Whether the gain belongs to one node alone, and can be moved."""
        return len(self.nodes) == 1 and self.gamma is not None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Values:
    """What an owner's variables hold, or are to hold: (channels,) float32 each."""

    bias: np.ndarray
    gamma: np.ndarray | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Settled:
    """An ideal graph whose integers ask for no more moves.

    Attributes:
        ideal: with biases and gains as moved.
        placed: its integers.
        values: of each owner.
    """

    ideal: Graph
    placed: Mapping[str, PlacedNode]
    values: Mapping[_Owner, _Values]


def lower_exactly(model: keras.Model, *, limits: StoredLimits = lambda ideal: {}) -> Snap:
    """Lowers a model to a realized graph, moving those biases that need it.

    A second call on the same model moves nothing; but what went round in circles, by float32's
    rounding.

    Args:
        model: its weights change, unless every channel is exact as trained.
        limits: gives the ideal graph's largest stored codes by node, see `realize`.
    Raises:
        LoweringError: layers that cannot be lowered, or a bias that cannot be moved; then the
            model is as before.
    """
    trained, origins = lower_with_origins(model)
    trained = settle_sums(trained)
    owners = _owners(origins)
    before = {owner: _read(owner) for owner in owners}
    settled = _settle(trained, before, limits(trained))
    graph = store_integers(settled.ideal, settled.placed)
    for owner, values in settled.values.items():
        _assign(owner, values)
    changed = {owner: _changed(before[owner], settled.values[owner]) for owner in owners}
    names = {name for owner in owners for name in owner.nodes if changed[owner].any()}
    layers = [node.layers[0] for node in trained.nodes if node.name in names]
    return Snap(
        graph=graph,
        layers=tuple(dict.fromkeys(layers)),
        channels=sum(len(placed.max_factor) for placed in settled.placed.values()),
        moved=sum(len(owner.nodes) * int(changed[owner].sum()) for owner in owners),
        largest_shift_steps=_largest_shift(trained, settled),
    )


def _settle(
    trained: Graph, before: Mapping[_Owner, _Values], stored_max: Mapping[str, int]
) -> _Settled:
    """Moves biases and gains until integers ask for no more.

    Args:
        trained: ideal.
        before: what the owners of its biases hold.
        stored_max: largest stored codes by node.
    Raises:
        LoweringError: biases that would have to move, and cannot.
    """
    names = [node.name for node in trained.nodes if node.weight]
    movable = {name for owner in before for name in owner.nodes}
    free = {name for owner in before for name in owner.nodes if owner.has_free_gain}
    immovable = [name for name in names if name not in movable]
    fixed_gain = [name for name in names if name not in free]
    place = functools.partial(place_nodes, stored_max=stored_max, fixed_gain=fixed_gain)
    ideal, values, placed = trained, dict(before), None
    held: list[dict[_Owner, _Values]] = []
    for turn in range(MAX_ROUNDS):
        placed = place(ideal, immovable=immovable, known=placed)
        _check_immovable(placed)
        wanted = _wanted_values(ideal, values, placed)
        if not wanted:
            return _Settled(ideal=ideal, placed=placed, values=values)
        if turn >= BESIDE_FROM:
            steps = turn - BESIDE_FROM + 1
            wanted |= {o: _beside(values[o], wanted[o], steps) for o in wanted if o.has_free_gain}
        values = values | wanted
        held.append(values)
        ideal = _with_values(ideal, wanted)
    restless = [name for owner in wanted for name in owner.nodes]
    place = functools.partial(place, immovable=immovable + restless, known=placed)
    best = _best_said(ideal, [{o: each[o] for o in wanted} for each in held[-WEIGHED:]], place)
    ideal, values = _with_values(ideal, best), values | best
    placed = place(ideal)
    _check_immovable(placed, restless)
    return _Settled(ideal=ideal, placed=placed, values=values)


def _beside(held: _Values, wanted: _Values, turn: int) -> _Values:
    """Puts gains of channels that move beside what is wanted, by 1, -1, 2, -2 ... float32 steps.

    Args:
        turn: 1 or more; which of these it is.
    """
    assert wanted.gamma is not None
    end = np.float32(np.inf if turn % 2 else -np.inf)
    gamma = wanted.gamma
    for _ in range((turn + 1) // 2):
        gamma = np.nextafter(gamma, end)
    return replace(wanted, gamma=np.where(_changed(held, wanted), gamma, wanted.gamma))


def _best_said(
    ideal: Graph,
    held: Sequence[Mapping[_Owner, _Values]],
    place: Callable[[Graph], Mapping[str, PlacedNode]],
) -> dict[_Owner, _Values]:
    """Of what owners have held, channel by channel, what integers of all their nodes say best.

    Calls that differ in their highest code only want unlike room around other ties, for ever; but
    the biases of the one with more of them suit the others, whose ties are among its own.

    Args:
        ideal: the graph.
        held: of the same owners, what they held in each of several rounds.
        place: finds integers without moving these owners' biases.
    """
    tried = [place(_with_values(ideal, values)) for values in held]
    found = {}
    for owner in held[0]:
        costs = [[_cost(placed[name]) for name in owner.nodes] for placed in tried]
        best = np.sum(costs, axis=1).argmin(axis=0)
        pick = functools.partial(np.choose, best)
        gammas = [values[owner].gamma for values in held]
        found[owner] = _Values(
            bias=pick([values[owner].bias for values in held]),
            gamma=None if gammas[0] is None else pick(gammas),
        )
    return found


def _cost(placed: PlacedNode) -> np.ndarray:
    """(channels,) float64: 1 where a bias would be rounded, and below 1 what thresholds are off."""
    placement = placed.placement
    return is_rounded(placed) + placement.wrong / (1.0 + placement.thresholds)


def _check_immovable(placed: Mapping[str, PlacedNode], restless: Collection[str] = ()) -> None:
    """Looks for nodes whose biases would have to move, and cannot.

    Args:
        restless: names of nodes whose biases moved in each round.
    Raises:
        LoweringError: names them.
    """
    rounded = [name for name, node in placed.items() if not node.snap and report(node).rounded]
    if rounded:
        still = [name for name in rounded if name in restless]
        rest = f" ({', '.join(still)}: not in {MAX_ROUNDS} round(s))" if still else ""
        raise LoweringError(
            f"the biases of these layers cannot be moved to what integers can say: "
            f"{', '.join(rounded)}{rest}. Each needs use_bias=True without a bias quantizer, or a "
            "batch norm with center=True behind it; and where a layer is called more than once, "
            "inputs whose steps differ by powers of two, or a batch norm of its own for each call"
        )


def _wanted_values(
    ideal: Graph, values: Mapping[_Owner, _Values], placed: Mapping[str, PlacedNode]
) -> dict[_Owner, _Values]:
    """What the variables of owners are to hold, of those where that is not what they hold.

    A move too small for float32 changes nothing, however often it is made.
    """
    nodes = {node.name: node for node in ideal.nodes}
    wanted = {}
    for owner, held in values.items():
        pairs = zip(owner.nodes, owner.origins, strict=True)
        asked = [(report(placed[name]), origin.slope) for name, origin in pairs if name in placed]
        moved = _moved(held, nodes[owner.nodes[0]], asked)
        if _changed(held, moved).any():
            wanted[owner] = moved
    return wanted


def _moved(held: _Values, node: Node, asked: Sequence[tuple[ChannelReport, np.ndarray]]) -> _Values:
    """What an owner's variables are to hold.

    Each channel's bias makes the longest move that one of the nodes asks for, and takes back what
    the gain does to all that is added in front of it.

    Args:
        node: the owner's, ideal; the first of several.
        asked: how its nodes are realized, and what their biases move by where the owner's does
            by 1. Where that is not 1, no gain is moved.
    """
    delta, gain = np.zeros(1), np.ones(1)
    for each, slope in asked:
        wanted = np.divide(each.delta, slope, out=np.zeros(each.delta.shape), where=slope != 0)
        delta = np.where(np.abs(wanted) > np.abs(delta), wanted, delta)
        gain = gain * each.gain
    before = held.bias.astype(np.float64)
    scaled = 0.0 if node.bias is None else node.bias - before
    bias = (before + delta - scaled * (gain - 1)).astype(np.float32)
    if held.gamma is None:
        return _Values(bias=bias, gamma=None)
    return _Values(bias=bias, gamma=(held.gamma.astype(np.float64) * gain).astype(np.float32))


def _changed(before: _Values, after: _Values) -> np.ndarray:
    """(channels,) bool: which channels hold something else."""
    changed: np.ndarray = before.bias != after.bias
    if before.gamma is not None:
        changed = changed | (before.gamma != after.gamma)
    return changed


def _with_values(ideal: Graph, values: Mapping[_Owner, _Values]) -> Graph:
    """The graph that lowering would give, did the owners hold these values."""
    made = {}
    for owner, held in values.items():
        for name, origin in zip(owner.nodes, owner.origins, strict=True):
            made[name] = with_variables(origin, bias=held.bias, gamma=held.gamma)
    nodes = [
        with_kernel(node, made[node.name], in_codes=ideal.tensors[node.output].qparams is not None)
        if node.name in made
        else node
        for node in ideal.nodes
    ]
    return replace(ideal, nodes=tuple(nodes))


def _largest_shift(trained: Graph, settled: _Settled) -> float:
    """The longest way from a trained bias to the settled one, in steps of the node's output."""
    before = {node.name: node.bias for node in trained.nodes if node.bias is not None}
    shifts = [
        np.abs(placed.read.trained.bias - before[name]).max() / placed.read.trained.output.scale
        for name, placed in settled.placed.items()
        if name in before
    ]
    return float(max(shifts, default=0.0))


def _owners(origins: Mapping[str, Origin]) -> list[_Owner]:
    """What may be moved, each with all nodes with a kernel that share it.

    Not what some node computes with in front of another batch norm, as a layer's bias is where one
    call has a batch norm behind it and another has none: that node would not answer as before.
    """
    shared: dict[int, list[str]] = {}
    uses: dict[int, list[str]] = {}
    for name, origin in origins.items():
        if origin.bias is not None:
            shared.setdefault(id(origin.bias), []).append(name)
        for variable in origin.variables:
            uses.setdefault(id(variable), []).append(name)
    owners = []
    for names in (names for bias, names in shared.items() if uses[bias] == names):
        first = origins[names[0]]
        gamma = first.gamma
        moved = gamma.kernel if isinstance(gamma, KernelGain) else gamma
        owners.append(
            _Owner(
                nodes=tuple(names),
                origins=tuple(origins[name] for name in names),
                bias=first.bias,
                gamma=gamma if moved is not None and uses[id(moved)] == names else None,
            )
        )
    return owners


def _read(owner: _Owner) -> _Values:
    gamma = None if owner.gamma is None else owner.gamma.numpy().copy()
    return _Values(bias=owner.bias.numpy().copy(), gamma=gamma)


def _assign(owner: _Owner, values: _Values) -> None:
    owner.bias.assign(values.bias)
    if owner.gamma is not None:
        owner.gamma.assign(values.gamma)
