"""The table of operations: what each takes, what it gives, and what it means.

All arrays are channels-last with a leading batch axis; shapes in a graph have none.

| op | meaning |
|---|---|
| quantize | clip(rint(x * float32(1 / scale)) + zero_point), float32 |
| dequantize | float32(scale) * (code - zero_point) |
| requantize | clip(rint((code - zero_point) * float32(s_in / s_out)) + zero_point), float32 |
| conv2d, depthwise_conv2d, dense | ideal, realized or real, see `graph.ir` |
| add | clip(rint((real_a + real_b) / s_out) + zero_point), float64 |
| multiply | clip(rint(float32(code_a * code_b) * M) + zero_point), codes less zero points |
| lookup | table[code - qmin], or table[channel, code - qmin] |
| max_pool | greatest code or real of each window |
| avg_pool, mean | clip(rint(float32(sum) * M) + zero_point), see `graph.kernels` |
| pad, reshape | codes and reals pass unchanged; padded pixels are real 0 |
| relu, softmax, pointwise | float32; pointwise by the names of `graph.pointwise` |

rint rounds halves to even everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keras_quant.graph import kernels, rules
from keras_quant.graph.ir import Node, Shape, Tensor
from keras_quant.graph.linear import bind_linear
from keras_quant.graph.pointwise import POINTWISE
from keras_quant.graph.rounding import ACTIVATIONS, Kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Attr:
    """A plain value that tunes a node.

    Attributes:
        allowed: what it may be, in words.
        accepts: whether a value is allowed.
        required: whether a node must give it; the kernels know a default otherwise.
    """

    allowed: str
    accepts: Callable[[Any], bool]
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OpDef:
    """One operation.

    Attributes:
        shape: the shape rule, see `graph.rules`.
        qparams: the qparams rule, see `graph.rules`.
        bind: prepares a node: (node, input tensors, output tensor) to a function of the input
            arrays to the output array; codes in `rounding.code_dtype`, reals in float32.
        arity: how many tensors it reads.
        attrs: what tunes it.
        weight_rank: axes of its kernel, 0 where it has none.
        has_table: whether its nodes carry a table.
    """

    shape: Callable[[Node, Sequence[Shape]], Shape]
    qparams: Callable[[Node, Sequence[Tensor], Tensor], list[str]]
    bind: Callable[[Node, Sequence[Tensor], Tensor], Kernel]
    arity: int = 1
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    weight_rank: int = 0
    has_table: bool = False


def _is_pair(value: Any, least: int) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and all(isinstance(item, int) and item >= least for item in value)
    )


def _is_padding(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(_is_pair(pair, 0) for pair in value)


_STRIDES = Attr(allowed="(height, width), each at least 1", accepts=lambda v: _is_pair(v, 1))
_SIZE = Attr(allowed=_STRIDES.allowed, accepts=_STRIDES.accepts, required=True)
_SAME_OR_VALID = Attr(allowed='"same" or "valid"', accepts=lambda v: v in ("same", "valid"))
_MARGINS = Attr(allowed="((top, bottom), (left, right))", accepts=_is_padding, required=True)
_ACTIVATION = Attr(allowed=", ".join(ACTIVATIONS), accepts=lambda v: v in tuple(ACTIVATIONS))
_MAX_VALUE = Attr(allowed="None or 6.0", accepts=lambda v: v in (None, 6.0))
_FUNCTION = Attr(
    allowed=", ".join(POINTWISE), accepts=lambda v: v in tuple(POINTWISE), required=True
)

_CONV = {
    "strides": _STRIDES,
    "padding": _SAME_OR_VALID,
    "dilation": _STRIDES,
    "activation": _ACTIVATION,
}
_POOL = {"pool_size": _SIZE, "strides": _SIZE, "padding": _SAME_OR_VALID}

OPS: dict[str, OpDef] = {
    "quantize": OpDef(
        shape=rules.same_shape,
        qparams=rules.takes_reals_gives_codes,
        bind=kernels.bind_quantize,
    ),
    "dequantize": OpDef(
        shape=rules.same_shape,
        qparams=rules.takes_codes_gives_reals,
        bind=kernels.bind_dequantize,
    ),
    "requantize": OpDef(
        shape=rules.same_shape,
        qparams=rules.codes_only,
        bind=kernels.bind_requantize,
    ),
    "conv2d": OpDef(
        shape=rules.conv2d_shape,
        qparams=rules.linear_forms,
        bind=bind_linear,
        attrs=_CONV,
        weight_rank=4,
    ),
    "depthwise_conv2d": OpDef(
        shape=rules.depthwise_shape,
        qparams=rules.linear_forms,
        bind=bind_linear,
        attrs=_CONV,
        weight_rank=3,
    ),
    "dense": OpDef(
        shape=rules.dense_shape,
        qparams=rules.linear_forms,
        bind=bind_linear,
        attrs={"activation": _ACTIVATION},
        weight_rank=2,
    ),
    "add": OpDef(
        shape=rules.same_shape,
        qparams=rules.all_codes_or_all_reals,
        bind=kernels.bind_add,
        arity=2,
        attrs={"activation": _ACTIVATION},
    ),
    "multiply": OpDef(
        shape=rules.broadcast_shape,
        qparams=rules.all_codes_or_all_reals,
        bind=kernels.bind_multiply,
        arity=2,
        attrs={"activation": _ACTIVATION},
    ),
    "lookup": OpDef(
        shape=rules.same_shape,
        qparams=rules.table_fits,
        bind=kernels.bind_lookup,
        has_table=True,
    ),
    "max_pool": OpDef(
        shape=rules.pool_shape,
        qparams=rules.keeps_qparams,
        bind=kernels.bind_max_pool,
        attrs=_POOL,
    ),
    "avg_pool": OpDef(
        shape=rules.avg_pool_shape,
        qparams=rules.all_codes_or_all_reals,
        bind=kernels.bind_avg_pool,
        attrs=_POOL,
    ),
    "mean": OpDef(
        shape=rules.mean_shape,
        qparams=rules.all_codes_or_all_reals,
        bind=kernels.bind_mean,
    ),
    "pad": OpDef(
        shape=rules.pad_shape,
        qparams=rules.keeps_qparams,
        bind=kernels.bind_pad,
        attrs={"padding": _MARGINS},
    ),
    "reshape": OpDef(
        shape=rules.flat_shape,
        qparams=rules.keeps_qparams,
        bind=kernels.bind_reshape,
    ),
    "relu": OpDef(
        shape=rules.same_shape,
        qparams=rules.reals_only,
        bind=kernels.bind_relu,
        attrs={"max_value": _MAX_VALUE},
    ),
    "pointwise": OpDef(
        shape=rules.same_shape,
        qparams=rules.reals_only,
        bind=kernels.bind_pointwise,
        attrs={"function": _FUNCTION},
    ),
    "softmax": OpDef(
        shape=rules.same_shape,
        qparams=rules.reals_only,
        bind=kernels.bind_softmax,
    ),
}
