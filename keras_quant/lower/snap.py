"""Moving a model's biases to where integers can say them, so that the file answers as it does.

A bias that is no multiple of input scale times weight scale would be rounded in the file, and
one that puts values on ties would be rounded one way by Keras' float32 and another way by
integers. In place of letting the file differ from the model, the model's own bias (batch norm's
beta) is moved, usually by less than a hundredth of an output code, before the model is evaluated
for the last time.

A layer that is called more than once has one bias for all its calls. Each channel is moved as the
call wants it that asks for the longest move, until no call asks for more: where the grids of the
calls differ by powers of two, what the coarsest can say the others can say too. Calls that do not
come to agree are treated as if their bias could not be moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_quant.errors import LoweringError
from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.passes.realize import ChannelReport, realize
from keras_quant.lower.lower import lower
from keras_quant.tf import keras
from keras_quant.topology import layers_by_name

# A moved bias is rounded to float32, and may come near a tie again; seen to settle in two, and
# in as many where calls share it.
MAX_ROUNDS = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snap:
    """A realized graph, and what was moved in the model to get it.

    Attributes:
        graph: the realized graph.
        layers: names of the layers with kernels whose bias, or whose batch norm's beta, moved.
        channels: output channels of all integer nodes.
        moved: how many of them had their bias moved; the rest are proven equal as trained.
        largest_shift_steps: the largest move, in steps of the output it belongs to.
    """

    graph: Graph
    layers: tuple[str, ...]
    channels: int
    moved: int
    largest_shift_steps: float


def lower_exactly(model: keras.Model) -> Snap:
    """Lowers a model to a realized graph, moving those biases that need it.

    A second call on the same model moves nothing.

    Args:
        model: its weights change, unless every channel is exact as trained.
    Raises:
        LoweringError: layers that cannot be lowered, or a bias that cannot be moved.
    """
    before = model.get_weights()
    try:
        return _snap(model)
    except LoweringError:
        model.set_weights(before)
        raise


def _snap(model: keras.Model) -> Snap:
    ideal = lower(model)
    layers = layers_by_name(model)
    nodes = [node for node in ideal.nodes if node.weight]
    biases = {node.name: _last_bias(layers, node) for node in nodes}
    immovable = [name for name, bias in biases.items() if bias is None]
    calls = _calls(biases)
    moves: dict[tuple[str, ...], np.ndarray] = {}
    steps = 0.0
    for _ in range(MAX_ROUNDS):
        realized = realize(ideal, immovable=immovable)
        _check_immovable(realized.reports, immovable)
        deltas = {names: _longest(names, realized.reports) for names in calls}
        deltas = {names: delta for names, delta in deltas.items() if delta.any()}
        if not deltas:
            break
        for names, delta in deltas.items():
            biases[names[0]].assign_add(delta.astype(np.float32))
            moves[names] = moves.get(names, 0) + delta
        steps = max(steps, *(report.largest_shift_steps for report in realized.reports))
        ideal = lower(model)
    else:
        disagreeing = [name for names in deltas if len(names) > 1 for name in names]
        if disagreeing:
            immovable += disagreeing
            realized = realize(ideal, immovable=immovable)
            _check_immovable(realized.reports, immovable)
    moved = {name for names in moves for name in names}
    return Snap(
        graph=realized.graph,
        layers=tuple(dict.fromkeys(node.layers[0] for node in nodes if node.name in moved)),
        channels=sum(report.channels for report in realized.reports),
        moved=sum(len(names) * int(np.count_nonzero(total)) for names, total in moves.items()),
        largest_shift_steps=steps,
    )


def _calls(biases: Mapping[str, keras.Variable | None]) -> list[tuple[str, ...]]:
    """Names of the nodes of each bias that may move."""
    nodes: dict[int, list[str]] = {}
    for name, bias in biases.items():
        if bias is not None:
            nodes.setdefault(id(bias), []).append(name)
    return [tuple(names) for names in nodes.values()]


def _longest(names: Sequence[str], reports: Sequence[ChannelReport]) -> np.ndarray:
    """(channels,) float64: for each channel the longest move that one of the nodes asks for."""
    wanted = [report.delta for report in reports if report.node in names]
    longest = np.zeros(1)
    for delta in wanted:
        longest = np.where(np.abs(delta) > np.abs(longest), delta, longest)
    return longest


def _check_immovable(reports: Sequence[ChannelReport], immovable: Sequence[str]) -> None:
    rounded = [r.node for r in reports if r.node in immovable and r.rounded]
    if rounded:
        raise LoweringError(
            f"the biases of these layers cannot be moved to what integers can say: "
            f"{', '.join(rounded)}. Each needs use_bias=True without a bias quantizer, or a batch "
            "norm with center=True behind it; and where a layer is called more than once, inputs "
            "whose steps differ by powers of two, or a batch norm of its own for each call"
        )


def _last_bias(layers: Mapping[str, keras.layers.Layer], node: Node) -> keras.Variable | None:
    """The (channels,) variable that a node's layers add last; None where nothing may move it."""
    folded = [layers[name] for name in node.layers]
    norms = [layer for layer in folded if isinstance(layer, keras.layers.BatchNormalization)]
    if norms:
        return norms[-1].beta
    return None if getattr(folded[0], "bias_quantizer_internal", None) else folded[0].bias
