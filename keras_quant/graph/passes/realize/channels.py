"""The ideal output channels of a node, as arrays with one entry a channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_quant.graph.passes.realize.rows import Rows
from keras_quant.qparams import QParams


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Channels(Rows):
    """The ideal output channels of one node.

    The code of accumulator n is
    clip(round_half_even((n * unit + bias) / output.scale) + zero_point), all in float64.

    Attributes:
        input_scale: scale of the input codes, > 0.
        output: grid of the output codes.
        weight_scale: (channels,) float64, > 0.
        bias: (channels,) float64, real.
        lowest: (channels,) float64, an integer: no input makes n lower; at most 0.
        highest: (channels,) float64, an integer: no input makes n higher; at least 0.
    """

    input_scale: float
    output: QParams
    weight_scale: NDArray[np.float64]
    bias: NDArray[np.float64]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]

    @property
    def unit(self) -> NDArray[np.float64]:
        """(channels,) float64: the real value of one accumulator step."""
        return self.input_scale * self.weight_scale

    @property
    def pitch(self) -> NDArray[np.float64]:
        """(channels,) float64: accumulator steps an output step."""
        return self.output.scale / self.unit

    @property
    def offset(self) -> NDArray[np.float64]:
        """(channels,) float64: the bias in accumulator steps."""
        return self.bias / self.unit

    @property
    def reach(self) -> NDArray[np.float64]:
        """(channels,) float64: the largest magnitude of an accumulator."""
        return np.maximum(self.highest, -self.lowest)

    @property
    def levels(self) -> NDArray[np.float64]:
        """(levels,) float64, the integers qmin + 1 - zero_point .. qmax - zero_point."""
        output = self.output
        return np.arange(output.qmin + 1, output.qmax + 1, dtype=np.float64) - output.zero_point

    @property
    def heights(self) -> NDArray[np.float64]:
        """(levels,) float64: outputs, in output steps, at which a level begins; never 0."""
        return self.levels - 0.5


def ideal_steps(channels: Channels, n: NDArray[np.float64]) -> NDArray[np.float64]:
    """The output steps (code - zero_point) of one accumulator of each channel.

    Args:
        n: (channels,) float64, integers.
    Returns: (channels,) float64, integers.
    """
    output = channels.output
    steps = np.rint((n * channels.unit + channels.bias) / output.scale)
    return np.clip(steps, output.qmin - output.zero_point, output.qmax - output.zero_point)


def count_thresholds(channels: Channels) -> NDArray[np.int64]:
    """Counts the levels that are passed within reach, (channels,) int64."""
    ends = (ideal_steps(channels, n) for n in (channels.lowest, channels.highest))
    lowest, highest = ends
    return (highest - lowest).astype(np.int64)
