"""What a node's scale and bias were made from, and what they become with other numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from keras_quant.graph.ir import Node, Weight
from keras_quant.lower.weights import fold_batch_norm, read_norm
from keras_quant.methods.readers import read_bias
from keras_quant.tf import keras

Kernel = tuple[Weight, np.ndarray | None]
"""In the graph's layout; and its bias, (channels,) float64, real; None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Origin:
    """A kernel, and the last layer that its scale and bias were made from.

    Attributes:
        kernel: with all that is folded into it.
        unfolded: in front of the last batch norm; the kernel itself where there is none.
        layer: whose kernel it is; None of a batch norm that follows no other.
        norm: the last batch norm; None where there is none.
    """

    kernel: Kernel
    unfolded: Kernel
    layer: keras.layers.Layer | None
    norm: keras.layers.BatchNormalization | None = None

    @property
    def bias(self) -> keras.Variable | None:
        """The (channels,) variable that is added last; None where nothing may move it."""
        if self.norm is not None:
            return self.norm.beta
        if self.layer is None or read_bias(self.layer) is not None:
            return None
        return getattr(self.layer, "bias", None)

    @property
    def gamma(self) -> keras.Variable | None:
        """The (channels,) variable that the norm multiplies by; None where there is none."""
        return self.norm.gamma if self.norm is not None and self.norm.scale else None


def in_front_of_norms(kernel: Kernel, layer: keras.layers.Layer | None) -> Origin:
    """A kernel into which nothing is folded yet."""
    return Origin(kernel=kernel, unfolded=kernel, layer=layer)


def behind_norm(origin: Origin, norm: keras.layers.BatchNormalization) -> Origin:
    """The kernel with a batch norm folded into it that follows."""
    kernel = fold_batch_norm(*origin.kernel, read_norm(norm))
    return Origin(kernel=kernel, unfolded=origin.kernel, layer=origin.layer, norm=norm)


def with_variables(origin: Origin, *, bias: np.ndarray, gamma: np.ndarray | None) -> Kernel:
    """The kernel that lowering reads, had its variables other values.

    Args:
        bias: (channels,) float32, in place of that of `origin.bias`.
        gamma: likewise; None where there is none.
    """
    if origin.norm is None:
        return origin.kernel[0], bias.astype(np.float64)
    norm = replace(read_norm(origin.norm), beta=bias, gamma=gamma)
    return fold_batch_norm(*origin.unfolded, norm)


def with_kernel(node: Node, kernel: Kernel, *, in_codes: bool) -> Node:
    """The node with a kernel and its bias.

    Args:
        in_codes: whether the node puts out codes; a bias that is added to reals is float32.
    """
    weight, bias = kernel
    if bias is not None and not in_codes:
        bias = bias.astype(np.float32)
    return replace(node, weight=weight, bias=bias)
