"""What an operation of the model gives while it is lowered: a tensor, or something still open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from keras_quant.graph.ir import Shape
from keras_quant.lower.origin import Origin
from keras_quant.model.operations import Operation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pending:
    """A node whose output is not decided yet.

    Attributes:
        name: of the node.
        operation: the last that is folded into it.
        shape: of what the op gives.
        final: in which shape it is read, see `layers.layout`.
        origin: its kernel, and what that was made from; None where there is none.
        layers: names of the layers that it computes.
        reals: of a lookup, what it gives for each code of its input, see `table.tabulate_codes`.
    """

    name: str
    operation: Operation
    op: str
    inputs: tuple[str, ...]
    shape: Shape
    final: Shape
    attrs: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin | None = None
    activation: str = "none"
    layers: tuple[str, ...] = ()
    reals: np.ndarray | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Held:
    """A node that only moves the values of its parts, whose grid is not decided yet.

    Attributes are those of Pending, but parts, which may be open themselves.
    """

    name: str
    operation: Operation
    op: str
    parts: tuple[Value, ...]
    shape: Shape
    final: Shape
    attrs: Mapping[str, Any] = field(default_factory=dict)


Value: TypeAlias = "str | Pending | Held"
"""A tensor's name, or what becomes one."""
