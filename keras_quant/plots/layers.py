"""What each layer of a run is: the bits of its weights and of what it reads."""

from __future__ import annotations

from matplotlib.figure import Figure

from keras_quant.errors import UsageError
from keras_quant.graph.costs.cost import GraphCost
from keras_quant.plots.style import COLOURS, new_axes, plain_texts

_FLOAT_BITS = 32
_INCHES_A_LAYER = 0.22


@plain_texts()
def bits_of_layers(cost: GraphCost, *, title: str) -> Figure:
    """Draws a bar a layer with a kernel: bits of its weights, and of the activations it reads.

    Float is drawn as far as the scale reaches, and says so.

    Raises:
        UsageError: no layer has a kernel.
    """
    nodes = [node for node in cost.nodes if node.weight_bits is not None]
    if not nodes:
        raise UsageError("no layer has a kernel")
    figure, axes = new_axes(title, height=1.2 + _INCHES_A_LAYER * len(nodes))
    places = range(len(nodes))
    weights = [node.weight_bits or 0 for node in nodes]
    inputs = [node.activation_bits for node in nodes]
    most = max([bits for bits in (*weights, *inputs) if bits < _FLOAT_BITS], default=8) + 1
    for bits, shift, colour, hatch, label in (
        (weights, -0.2, COLOURS[0], "", "weights"),
        (inputs, 0.2, COLOURS[1], "///", "activations that it reads"),
    ):
        widths = [min(value, most) for value in bits]
        axes.barh(
            [place + shift for place in places],
            widths,
            height=0.38,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            label=label,
        )
        for place, value in zip(places, bits, strict=True):
            text = "float" if value == _FLOAT_BITS else str(value)
            axes.text(min(value, most) + 0.05, place + shift, text, va="center", fontsize=7)
    axes.set_yticks(places, [node.name for node in nodes], fontsize="small")
    axes.invert_yaxis()
    axes.set_xlim(0, most + 0.8)
    axes.set_xlabel("bits")
    figure.legend(fontsize="small", loc="outside lower center", ncols=2)
    return figure
