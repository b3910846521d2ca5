"""The table of operations: what each takes, what it gives, and what it means.

All arrays are channels-last with a leading batch axis; shapes in a graph have none.

| op | meaning |
|---|---|
| quantize | clip(rint(x * float32(1 / scale)) + zero_point), float32 |
| dequantize | float32(scale) * (code - zero_point) |
| requantize | clip(rint((code - zero_point) * float32(s_in / s_out)) + zero_point), float32 |
| conv2d, depthwise_conv2d, conv2d_transpose, dense | ideal, realized or real, see `graph.ir` |
| add | clip(rint((real_a + real_b) / s_out) + zero_point), float64 |
| multiply | clip(rint(float32(code_a * code_b) * M) + zero_point), codes less zero points |
| lookup | table[code - qmin], or table[channel, code - qmin] |
| max_pool | greatest code or real of each window; padded pixels never win |
| avg_pool, mean | clip(rint(float32(sum) * M) + zero_point), see `graph.kernels` |
| pad, reshape, transpose, upsample | codes and reals pass unchanged; padded pixels are real 0 |
| concat | codes of one scale and zero point, or reals, pass unchanged |
| clip | float32, cut off at a minimum, a maximum, or both |
| relu, softmax, pointwise | float32; pointwise by the names of `graph.pointwise` |

rint rounds halves to even everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keras_quant.graph import kernels, rules
from keras_quant.graph.ir import Node, Shape, Tensor
from keras_quant.graph.linear import bind_linear
from keras_quant.graph.pointwise import ACTIVATIONS, POINTWISE
from keras_quant.graph.rounding import Kernel


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
        arity: how many tensors it reads; None means one or more.
        attrs: what tunes it.
        weight_rank: axes of its kernel, 0 where it has none.
        has_table: whether its nodes carry a table.
    """

    shape: Callable[[Node, Sequence[Shape]], Shape]
    qparams: Callable[[Node, Sequence[Tensor], Tensor], list[str]]
    bind: Callable[[Node, Sequence[Tensor], Tensor], Kernel]
    arity: int | None = 1
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    weight_rank: int = 0
    has_table: bool = False


def _is_pair(value: Any, least: float, most: float = math.inf) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and all(isinstance(item, int) and least <= item <= most for item in value)
    )


def _is_padding(value: Any) -> bool:
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    return all(_is_pair(p, 0) for p in value) or all(_is_pair(p, -math.inf, 0) for p in value)


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(n, int) and n >= 1 for n in value)


_STRIDES = Attr(allowed="(height, width), each at least 1", accepts=lambda v: _is_pair(v, 1))
_SIZE = Attr(allowed=_STRIDES.allowed, accepts=_STRIDES.accepts, required=True)
_OUTPUT_PADDING = Attr(
    allowed="None, or (height, width), each at least 0",
    accepts=lambda v: v is None or _is_pair(v, 0),
)
_SAME_OR_VALID = Attr(allowed='"same" or "valid"', accepts=lambda v: v in ("same", "valid"))
_PADDING = Attr(
    allowed='"same", "valid", or ((top, bottom), (left, right)), all at least 0',
    accepts=lambda v: v in ("same", "valid") or (_is_padding(v) and min(map(min, v)) >= 0),
)
_GROUPS = Attr(allowed="at least 1", accepts=lambda v: isinstance(v, int) and v >= 1)
_MARGINS = Attr(
    allowed="((top, bottom), (left, right)), all at least 0 to pad, or all at most 0 to crop",
    accepts=_is_padding,
    required=True,
)
_SHAPE = Attr(allowed="a shape, each axis at least 1", accepts=_is_shape)
_AXIS = Attr(
    allowed="an axis, 0 or more, without the batch",
    accepts=lambda v: isinstance(v, int) and v >= 0,
    required=True,
)
_PERMUTATION = Attr(
    allowed="the axes without the batch, from 0 on, in another order",
    accepts=lambda v: isinstance(v, tuple) and sorted(v) == list(range(len(v))),
    required=True,
)
_ACTIVATION = Attr(allowed=", ".join(ACTIVATIONS), accepts=lambda v: v in tuple(ACTIVATIONS))
_MAX_VALUE = Attr(allowed="None or 6.0", accepts=lambda v: v in (None, 6.0))
_END = Attr(allowed="a number", accepts=lambda v: isinstance(v, float) and math.isfinite(v))
_FUNCTION = Attr(
    allowed=", ".join(POINTWISE), accepts=lambda v: v in tuple(POINTWISE), required=True
)

_CONV = {
    "strides": _STRIDES,
    "padding": _PADDING,
    "dilation": _STRIDES,
    "activation": _ACTIVATION,
}
_POOL = {"pool_size": _SIZE, "strides": _SIZE, "padding": _PADDING}

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
        attrs=_CONV | {"groups": _GROUPS},
        weight_rank=4,
    ),
    "depthwise_conv2d": OpDef(
        shape=rules.depthwise_shape,
        qparams=rules.linear_forms,
        bind=bind_linear,
        attrs=_CONV,
        weight_rank=3,
    ),
    "conv2d_transpose": OpDef(
        shape=rules.transpose_shape,
        qparams=rules.linear_forms,
        bind=bind_linear,
        attrs={
            "strides": _STRIDES,
            "padding": _SAME_OR_VALID,
            "activation": _ACTIVATION,
            "output_padding": _OUTPUT_PADDING,
        },
        weight_rank=4,
    ),
    "dense": OpDef(
        shape=rules.dense_shape,
        qparams=rules.linear_forms,
        bind=bind_linear,
        attrs={"activation": _ACTIVATION},
        weight_rank=2,
    ),
    "add": OpDef(
        shape=rules.broadcast_shape,
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
        shape=rules.pool_shape,
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
        shape=rules.reshaped,
        qparams=rules.keeps_qparams,
        bind=kernels.bind_reshape,
        attrs={"shape": _SHAPE},
    ),
    "transpose": OpDef(
        shape=rules.transposed,
        qparams=rules.keeps_qparams,
        bind=kernels.bind_transpose,
        attrs={"perm": _PERMUTATION},
    ),
    "upsample": OpDef(
        shape=rules.upsampled_shape,
        qparams=rules.keeps_qparams,
        bind=kernels.bind_upsample,
        attrs={"size": _SIZE},
    ),
    "concat": OpDef(
        shape=rules.concat_shape,
        qparams=rules.holds_all_codes,
        bind=kernels.bind_concat,
        arity=None,
        attrs={"axis": _AXIS},
    ),
    "relu": OpDef(
        shape=rules.same_shape,
        qparams=rules.reals_only,
        bind=kernels.bind_relu,
        attrs={"max_value": _MAX_VALUE},
    ),
    "clip": OpDef(
        shape=rules.same_shape,
        qparams=rules.reals_only,
        bind=kernels.bind_clip,
        attrs={"minimum": _END, "maximum": _END},
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
