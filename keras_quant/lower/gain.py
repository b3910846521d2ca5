"""The gain of a kernel that no batch norm follows: multiplied into the kernel itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_quant.graph.ir import Weight
from keras_quant.lower.weights import kernel_of
from keras_quant.model.operations import Operation
from keras_quant.tf import keras


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KernelGain:
    """What stands for a batch norm's gamma where there is none: a variable that holds ones.

    The kernel's step goes with its values, so that a channel multiplied by g has the same codes and
    g times the step, but for float32's rounding: a weight next to a tie may get the code beside it.

    Attributes:
        operation: that the kernel is of.
        kernel: the variable.
    """

    operation: Operation
    kernel: keras.Variable

    def numpy(self) -> np.ndarray:
        """What the channels are multiplied by: (channels,) float32 ones."""
        return np.ones(self._by_channel(self.kernel.numpy()).shape[0], np.float32)

    def assign(self, gains: np.ndarray) -> None:
        """Multiplies the channels of the kernel.

        Args:
            gains: (channels,) float32.
        """
        values = self.kernel.numpy()
        if self.operation.kind == "depthwise_conv2d":
            gains = gains.reshape(values.shape[-2:])
        if self.operation.kind == "conv2d_transpose":
            gains = gains[:, np.newaxis]
        self.kernel.assign(values * gains)

    def read(self, gains: np.ndarray) -> Weight:
        """The kernel that lowering reads, were its channels multiplied; it stays as it is."""
        before = self.kernel.numpy().copy()
        try:
            self.assign(gains)
            return kernel_of(self.operation)
        finally:
            self.kernel.assign(before)

    def _by_channel(self, values: np.ndarray) -> np.ndarray:
        """One row an output channel."""
        if self.operation.kind == "depthwise_conv2d":
            values = values.reshape(values.shape[0] * values.shape[1], -1)
        axis = -2 if self.operation.kind == "conv2d_transpose" else -1
        return np.moveaxis(values, axis, 0)
