"""Moving a model's biases to where integers can say them, so that the file answers as it does.

A bias that is no multiple of input scale times weight scale would be rounded in the file, and
one that puts values on ties would be rounded one way by Keras' float32 and another way by
integers. In place of letting the file differ from the model, the model's own bias (batch norm's
beta) is moved, usually by less than a hundredth of an output code, before the model is evaluated
for the last time. Where no bias is far enough from all ties, batch norm's gamma is moved too, by
less than a thousandth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_quant.errors import LoweringError
from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.passes.realize import ChannelReport, StoredLimits, realize
from keras_quant.lower.lower import lower
from keras_quant.tf import keras

# A moved bias is rounded to float32, and may come near a tie again; seen to settle in two.
MAX_ROUNDS = 4


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


def lower_exactly(model: keras.Model, *, limits: StoredLimits = lambda ideal: {}) -> Snap:
    """Lowers a model to a realized graph, moving those biases that need it.

    A second call on the same model moves nothing.

    Args:
        model: its weights change, unless every channel is exact as trained.
        limits: gives the ideal graph's largest stored codes by node, see `realize`.
    Raises:
        LoweringError: layers that cannot be lowered, or a bias that cannot be moved.
    """
    ideal = lower(model)
    nodes = {node.name: node for node in ideal.nodes if node.weight}
    norms = {name: _last_norm(model, node) for name, node in nodes.items()}
    biases = {name: _last_bias(model, node, norms[name]) for name, node in nodes.items()}
    immovable = [name for name, bias in biases.items() if bias is None]
    fixed_gain = [name for name, norm in norms.items() if norm is None or not norm.scale]
    moves: dict[str, np.ndarray] = {}
    steps = 0.0
    for _ in range(MAX_ROUNDS):
        realized = realize(
            ideal, stored_max=limits(ideal), immovable=immovable, fixed_gain=fixed_gain
        )
        _check_immovable(realized.reports, immovable)
        moved = [report for report in realized.reports if report.snapped]
        if not moved:
            break
        for report in moved:
            node = next(node for node in ideal.nodes if node.name == report.node)
            _move(node, report, biases[node.name], norms[node.name])
            here = (report.delta != 0) | (report.gain != 1)
            moves[node.name] = moves.get(node.name, False) | here
            steps = max(steps, report.largest_shift_steps)
        ideal = lower(model)
    return Snap(
        graph=realized.graph,
        layers=tuple(moves),
        channels=sum(report.channels for report in realized.reports),
        moved=sum(int(np.count_nonzero(channels)) for channels in moves.values()),
        largest_shift_steps=steps,
    )


def _check_immovable(reports: Sequence[ChannelReport], immovable: Sequence[str]) -> None:
    rounded = [r.node for r in reports if r.node in immovable and r.rounded]
    if rounded:
        raise LoweringError(
            f"the biases of these layers cannot be moved to what integers can say: "
            f"{', '.join(rounded)}. Each needs use_bias=True without a bias quantizer, or a batch "
            "norm with center=True behind it"
        )


def _move(
    node: Node,
    report: ChannelReport,
    bias: keras.Variable,
    norm: keras.layers.BatchNormalization | None,
) -> None:
    """Moves a layer's last bias and gain.

    The bias takes back what the gain does to all that is added in front of it.

    Args:
        node: ideal, as lowered from the layer.
        bias: the norm's beta where there is a norm.
    """
    before = np.asarray(bias, np.float64)
    scaled = 0.0 if node.bias is None else node.bias - before
    bias.assign((before + report.delta - scaled * (report.gain - 1)).astype(np.float32))
    if norm is not None and (report.gain != 1).any():
        norm.gamma.assign((np.asarray(norm.gamma, np.float64) * report.gain).astype(np.float32))


def _layers(model: keras.Model, node: Node) -> list[keras.layers.Layer]:
    by_name = {layer.name: layer for layer in model.layers}
    return [by_name[name] for name in node.layers if name in by_name]


def _last_norm(model: keras.Model, node: Node) -> keras.layers.BatchNormalization | None:
    norms = [n for n in _layers(model, node) if isinstance(n, keras.layers.BatchNormalization)]
    return norms[-1] if norms else None


def _last_bias(
    model: keras.Model, node: Node, norm: keras.layers.BatchNormalization | None
) -> keras.Variable | None:
    """The (channels,) variable that a node's layers add last; None where nothing may move it."""
    if norm is not None:
        return norm.beta
    layers = _layers(model, node)
    if not layers or getattr(layers[0], "bias_quantizer_internal", None):
        return None
    return getattr(layers[0], "bias", None)
