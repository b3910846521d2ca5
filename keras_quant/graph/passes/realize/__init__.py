"""The integers, scales and biases with which int8 kernels answer as a trained model does.

`realize` is the pass; from what it works with:

    channels    a node's output channels as arrays
    staircase   where their codes pass from one to the next
    pitch, solve  the integers that have the same thresholds
    room        how far biases must keep from ties, and how far they move for it
    place       the integers of channels, by all of this
    nodes       the integers of a graph's nodes
    realized    the same arrays, read from a node with integers
"""

from keras_quant.graph.passes.realize.nodes import INT8_MAX
from keras_quant.graph.passes.realize.realize import (
    ChannelReport,
    Realized,
    StoredLimits,
    realize,
)

__all__ = ["INT8_MAX", "ChannelReport", "Realized", "StoredLimits", "realize"]
