"""Moving a model's biases to where integers can say them, so that the file answers as it does.

A bias that is no multiple of input scale times weight scale would be rounded in the file, and
one that puts values on ties would be rounded one way by Keras' float32 and another way by
integers. In place of letting the file differ from the model, the model's own bias (batch norm's
beta) is moved, usually by less than a hundredth of an output code, before the model is evaluated
for the last time. Where no bias is far enough from all ties, batch norm's gamma is moved too, by
less than a thousandth.

A layer that is called more than once has one bias for all its calls. Each channel is moved as the
call wants it that asks for the longest move, until no call asks for more: where the grids of the
calls differ by powers of two, what the coarsest can say the others can say too. Calls that do not
come to agree are treated as if their bias could not be moved; their gain never is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_quant.errors import LoweringError
from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.passes.realize import ChannelReport, Realized, StoredLimits, realize
from keras_quant.lower.lower import lower
from keras_quant.methods.readers import read_bias
from keras_quant.model.topology import layers_by_name
from keras_quant.tf import keras

# A moved bias is rounded to float32, and may come near a tie again; seen to settle in two, and
# in as many where calls share it.
MAX_ROUNDS = 4

_Value = tuple[Any, np.ndarray]  # a variable, and what is to be in it


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
        bias: what they add last; the norm's beta where there is a norm.
        norm: the batch norm behind them, if there is one.
    """

    nodes: tuple[str, ...]
    bias: keras.Variable
    norm: keras.layers.BatchNormalization | None

    @property
    def has_free_gain(self) -> bool:
        """Whether the gain belongs to one node alone, and can be moved."""
        return len(self.nodes) == 1 and self.norm is not None and self.norm.scale


def lower_exactly(model: keras.Model, *, limits: StoredLimits = lambda ideal: {}) -> Snap:
    """Lowers a model to a realized graph, moving those biases that need it.

    A second call on the same model moves nothing.

    Args:
        model: its weights change, unless every channel is exact as trained.
        limits: gives the ideal graph's largest stored codes by node, see `realize`.
    Raises:
        LoweringError: layers that cannot be lowered, or a bias that cannot be moved; then the
            model is as before.
    """
    before = model.get_weights()
    try:
        return _snap(model, limits)
    except LoweringError:
        model.set_weights(before)
        raise


def _snap(model: keras.Model, limits: StoredLimits) -> Snap:
    ideal = lower(model)
    owners = _owners(model, ideal)
    movable = {name for owner in owners for name in owner.nodes}
    free = {name for owner in owners for name in owner.nodes if owner.has_free_gain}
    names = [node.name for node in ideal.nodes if node.weight]
    immovable = [name for name in names if name not in movable]
    fixed_gain = [name for name in names if name not in free]
    moves: dict[_Owner, np.ndarray] = {}
    steps = 0.0
    for _ in range(MAX_ROUNDS):
        realized = _realized(ideal, limits, immovable=immovable, fixed_gain=fixed_gain)
        nodes = {node.name: node for node in ideal.nodes}
        wanted = {o: _values(o, nodes[o.nodes[0]], realized.reports) for o in owners}
        wanted = {owner: values for owner, values in wanted.items() if _changed(values).any()}
        if not wanted:
            break
        for owner, values in wanted.items():
            moves[owner] = moves.get(owner, False) | _changed(values)
            for variable, value in values:
                variable.assign(value)
        steps = max(steps, *(report.largest_shift_steps for report in realized.reports))
        ideal = lower(model)
    else:
        disagreeing = [name for owner in wanted for name in owner.nodes if len(owner.nodes) > 1]
        if disagreeing:
            immovable += disagreeing
            realized = _realized(ideal, limits, immovable=immovable, fixed_gain=fixed_gain)
    layers = [node.layers[0] for o in moves for node in ideal.nodes if node.name in o.nodes]
    return Snap(
        graph=realized.graph,
        layers=tuple(dict.fromkeys(layers)),
        channels=sum(report.channels for report in realized.reports),
        moved=sum(len(owner.nodes) * int(moved.sum()) for owner, moved in moves.items()),
        largest_shift_steps=steps,
    )


def _realized(
    ideal: Graph, limits: StoredLimits, *, immovable: Sequence[str], fixed_gain: Sequence[str]
) -> Realized:
    """Realizes a graph.

    Raises:
        LoweringError: biases that would have to move, and cannot.
    """
    realized = realize(ideal, stored_max=limits(ideal), immovable=immovable, fixed_gain=fixed_gain)
    rounded = [r.node for r in realized.reports if r.node in immovable and r.rounded]
    if rounded:
        raise LoweringError(
            f"the biases of these layers cannot be moved to what integers can say: "
            f"{', '.join(rounded)}. Each needs use_bias=True without a bias quantizer, or a batch "
            "norm with center=True behind it; and where a layer is called more than once, inputs "
            "whose steps differ by powers of two, or a batch norm of its own for each call"
        )
    return realized


def _wanted(owner: _Owner, reports: Sequence[ChannelReport]) -> tuple[np.ndarray, np.ndarray]:
    """What to add to the bias, and to multiply the gain by, both (channels,) float64.

    For each channel it is the longest move that one of the owner's nodes asks for.
    """
    delta, gain = np.zeros(1), np.ones(1)
    for report in reports:
        if report.node in owner.nodes:
            delta = np.where(np.abs(report.delta) > np.abs(delta), report.delta, delta)
            gain = gain * report.gain
    return delta, gain


def _values(owner: _Owner, node: Node, reports: Sequence[ChannelReport]) -> list[_Value]:
    """What the owner's variables are to be, each (channels,) float32.

    The bias takes back what the gain does to all that is added in front of it.

    Args:
        node: the owner's, ideal, as lowered from the layer; the first of several.
    """
    delta, gain = _wanted(owner, reports)
    before = np.asarray(owner.bias, np.float64)
    scaled = 0.0 if node.bias is None else node.bias - before
    values = [(owner.bias, (before + delta - scaled * (gain - 1)).astype(np.float32))]
    if owner.norm is not None and (gain != 1).any():
        gamma = np.asarray(owner.norm.gamma, np.float64)
        values.append((owner.norm.gamma, (gamma * gain).astype(np.float32)))
    return values


def _changed(values: Sequence[_Value]) -> np.ndarray:
    """(channels,) bool: a move too small for float32 changes nothing, however often it is made."""
    return np.any([np.asarray(variable) != value for variable, value in values], axis=0)


def _owners(model: keras.Model, graph: Graph) -> list[_Owner]:
    """What may be moved, each with all nodes with a kernel that share it."""
    layers = layers_by_name(model)
    nodes: dict[int, list[str]] = {}
    found: dict[int, _Owner] = {}
    for node in graph.nodes:
        folded = [layers[name] for name in node.layers if name in layers]
        norms = [layer for layer in folded if isinstance(layer, keras.layers.BatchNormalization)]
        norm = norms[-1] if norms else None
        bias = _last_bias(folded, norm) if node.weight else None
        if bias is not None:
            names = nodes.setdefault(id(bias), [])
            names.append(node.name)
            found[id(bias)] = _Owner(nodes=tuple(names), bias=bias, norm=norm)
    return list(found.values())


def _last_bias(
    layers: Sequence[keras.layers.Layer], norm: keras.layers.BatchNormalization | None
) -> keras.Variable | None:
    """The (channels,) variable that layers add last; None where nothing may move it."""
    if norm is not None:
        return norm.beta
    if not layers or read_bias(layers[0]) is not None:
        return None
    return getattr(layers[0], "bias", None)
