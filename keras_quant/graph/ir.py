"""The integer graph: what a trained model computes, in codes and scales.

A graph is plain data. Tensors carry QParams, or None where they stay in float32; nodes
carry weights as integer codes with one scale a channel. There are no multipliers and no
shifts: each target makes its own from the scales.

A graph comes in two forms, told apart by the dtype of a node's bias:

* ideal: bias is float64, the real value that the trained model has. The output code is
  round_half_even((n * s_x * s_w + bias) / s_out) in float64, n the integer accumulator.
* realized: bias is int32 in units of s_x * s_w, weight codes may be multiplied up to fill
  int8, and the output code is round_half_even(float32(n + bias) * M) with
  M = float32(float32(s_x * s_w) / s_out), which is what int8 kernels compute
  (`graph.passes.realize` makes the second from the first).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_quant.qparams import QParams

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A value that flows between nodes.

    Attributes:
        name: unique within the graph.
        shape: without the batch axis, channels last; () for a scalar an image.
        qparams: None for a float32 tensor.
    """

    name: str
    shape: Shape
    qparams: QParams | None = None

    @property
    def grid(self) -> QParams:
        """The qparams of a tensor that has codes."""
        assert self.qparams is not None, self.name
        return self.qparams


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weight:
    """The kernel of a node that has one; output channels on the last axis.

    Layouts: conv2d (height, width, in / groups, out), conv2d_transpose (height, width, in, out),
    depthwise_conv2d (height, width, channels), dense (in, out).

    Attributes:
        values: int8 codes, or float32 where the layer stays in float.
        scale: (channels,) float64 (ideal) or float32 (realized), > 0; None for float values.
        bits: logical width that the scheme asked for; 32 for float values.
        multiplier: (channels,) int32: stored codes are this many times the logical ones;
            None means 1 everywhere.
    """

    values: np.ndarray
    scale: np.ndarray | None = None
    bits: int = 32
    multiplier: np.ndarray | None = None

    @property
    def code_scale(self) -> np.ndarray:
        """The scale of values that are codes."""
        assert self.scale is not None, self.values.dtype
        return self.scale


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Node:
    """One operation. `graph.ops.OPS` says what each op takes and what it means.

    Attributes:
        name: unique within the graph; the name of the Keras layer that computes it.
        op: a key of graph.ops.OPS.
        inputs: names of the tensors it reads, in order.
        output: name of the tensor it writes (each node writes one).
        attrs: plain values: strides, padding, pool_size, ...
        weight: see Weight.
        bias: (channels,) float64 (ideal), int32 (realized), or float32 where the output is
            float; None means 0.
        layers: names of the Keras layers that were folded into this node.
        table: of a lookup: int32 codes, or float32 reals where the output is float, for each
            code of its input from qmin on: (codes,), or (channels, codes) where channels differ.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    output: str
    attrs: Mapping[str, Any] = field(default_factory=dict)
    weight: Weight | None = None
    bias: np.ndarray | None = None
    layers: tuple[str, ...] = ()
    table: np.ndarray | None = None

    @property
    def kernel(self) -> Weight:
        """The weight of a node that has one."""
        assert self.weight is not None, self.name
        return self.weight

    @property
    def entries(self) -> np.ndarray:
        """The table of a lookup."""
        assert self.table is not None, self.name
        return self.table


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Graph:
    """Nodes in an order in which each reads only what was written before it.

    Attributes:
        inputs: names of the tensors that the caller gives: float32, or codes where they have
            qparams, as what an earlier stage hands over (`graph.passes.stages`).
        outputs: names of the tensors that the caller gets.
        tensors: every tensor by name.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    nodes: tuple[Node, ...]

    def producer(self, tensor: str) -> Node | None:
        """The node that writes a tensor; None for an input of the graph."""
        return next((node for node in self.nodes if node.output == tensor), None)

    def consumers(self, tensor: str) -> tuple[Node, ...]:
        """The nodes that read a tensor."""
        return tuple(node for node in self.nodes if tensor in node.inputs)
