"""What a model file holds, as its runtime sees it: plain data that a child process can send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

INTEGER, HYBRID, FLOAT, CONVERSION = "integer", "hybrid", "float", "conversion"
"""What an operator computes in: codes; codes of weights, rounded sums of floats that are quantized
at run time; floats; or it turns one into the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorContents:
    """A tensor that is given or computed.

    Attributes:
        name: as the file calls it.
        dtype: as numpy calls it.
        scale: of its codes; None where it has none, 0 where the file's is no positive number.
        zero_point: of its codes.
        low, high: the codes that its operator can give; those of its dtype where nothing is known.
        is_bounded: whether `high` is where a function ends, as that of a ReLU6, and not the grid.
    """

    name: str
    dtype: str
    scale: float | None = None
    zero_point: int = 0
    low: int = 0
    high: int = 0
    is_bounded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelContents:
    """An operator's constant weights.

    Attributes:
        dtype: "int8", "int4", "float32", ...
        channels: of what the operator puts out.
        scales: how many scales there are; 0 for floats.
        spread: greatest range of a channel over the least one that is not 0, in reals.
        dead: channels whose weights are all 0.
        used: share of the largest code that the largest weight of a channel reaches, the median
            over channels; None for floats.
        at_bounds: share of codes at either end of the dtype; None for floats.
        is_broken: a scale is not a positive number.
    """

    dtype: str
    channels: int
    scales: int = 0
    spread: float | None = None
    dead: int = 0
    used: float | None = None
    at_bounds: float | None = None
    is_broken: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorContents:
    """An operator as its runtime runs it.

    Attributes:
        op: its type, as the runtime calls it.
        computes: INTEGER, HYBRID, FLOAT or CONVERSION.
        library: whose kernel it is.
        inputs: keys of the tensors that it reads, without constants.
        output: key of what it gives.
        kernel: its weights; None where it has none.
        moves: whether its values are those that it reads, in another order or shape.
    """

    op: str
    computes: str
    library: str
    inputs: tuple[str, ...]
    output: str
    kernel: KernelContents | None = None
    moves: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContents:
    """A file.

    Attributes:
        runtime: what runs it, with its version.
        channels_first: whether images lie as (batch, channels, height, width).
        tensors: by key; those that a probe gives, and those between operators that it cannot give.
        operators: each after those that it reads.
        inputs, outputs: keys of the model's own.
        notes: what is to be known of them.
    """

    runtime: str
    channels_first: bool
    tensors: Mapping[str, TensorContents]
    operators: tuple[OperatorContents, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    notes: tuple[str, ...] = ()


def a_row_an_image(
    computed: Mapping[str, np.ndarray], inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Leaves out what a runner computed that is not (images, ...) for as many images as inputs."""
    images = len(next(iter(inputs.values())))
    return {name: x for name, x in computed.items() if x.ndim and len(x) == images}
