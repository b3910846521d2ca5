"""TF-MOT's layers, which are shorthand for others that compute the same in inference.

| layer | stands for |
|---|---|
| QuantizeLayer | what rounds to its quantizer's grid |
| QuantizeWrapper(V2) | its layer, with a rounded kernel; a rounding, the activation, a rounding |

each as far as the wrapper's config has it; for a layer without a kernel: it, and a rounding.

A kernel is taken as its quantizer gives it in inference, and said as codes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_quant.errors import LoweringError
from keras_quant.methods.layers import FixedGrid
from keras_quant.methods.method import Built, Movable
from keras_quant.methods.tfmot.door import quantize_aware_activation, quantize_wrapper, quantizers
from keras_quant.methods.tfmot.ranges import grid_of, nudge
from keras_quant.methods.tfmot.twin import KINDS, channels_of, twin_of
from keras_quant.qparams import QParams
from keras_quant.tf import keras

Shape = tuple[int | None, ...]

MAX_CODE = 127  # int8 weights leave out -128: LiteRT 8-bit quantization specification
FIXED_BITS = 8
"""Of a FixedQuantizer, whatever its num_bits says: TF-MOT 0.8.1 does not pass that on."""

# A kernel is fl(fl(k * scale) + lowest) in float32: two roundings of values up to 2 * |lowest|.
FLOAT32_ROUNDING = 2.0**-22

_RANGED = (
    quantizers.AllValuesQuantizer,
    quantizers.LastValueQuantizer,
    quantizers.MovingAverageQuantizer,
)
_KNOWN = "AllValuesQuantizer, LastValueQuantizer, MovingAverageQuantizer and FixedQuantizer"


def _quantize_layer(layer: Any, input_shape: Shape) -> Built:
    grid = _grid(layer.quantizer, getattr(layer, "quantizer_vars", None), layer.name)
    return [(_rounding(grid, layer.name), [])]


def _wrapper(wrapper: Any, input_shape: Shape) -> Built:
    inner = wrapper.layer
    has_activation = type(inner).__name__ in KINDS
    if wrapper._quantize_activations and not has_activation:
        raise LoweringError(
            f"layer {wrapper.name}: the activation of a {type(inner).__name__} is quantized; those "
            f"of {', '.join(KINDS)} are lowered"
        )
    parts = [_layer(wrapper, has_activation=has_activation)]
    if has_activation:
        parts += _activation(wrapper)
    if wrapper._output_quantizers:
        variables = wrapper._output_quantizer_vars
        grid = _grid(wrapper._output_quantizers[0], variables, wrapper.name)
        parts.append((lambda name: _rounding(grid, name), [], "output"))
    return _named(wrapper.name, parts)


_Part = tuple[Callable[[str], Any], list[np.ndarray], str]
"""What makes a layer of a name, its weights, and what it is called where it is not the last."""


def _named(name: str, parts: list[_Part]) -> Built:
    """The last part has the wrapper's name."""
    last = len(parts) - 1
    return [
        (make(name if place == last else f"{name}_{suffix}"), weights)
        for place, (make, weights, suffix) in enumerate(parts)
    ]


def _layer(wrapper: Any, *, has_activation: bool) -> _Part:
    """What a wrapper wraps, without an activation, its kernel rounded if it has a quantizer."""
    inner, rounded = wrapper.layer, wrapper._weight_vars
    if rounded:
        return _kernel_layer(wrapper)
    config = inner.get_config() | ({"activation": "linear"} if has_activation else {})
    suffix = "kernel" if has_activation else "layer"
    weights = inner.get_weights()
    return lambda name: type(inner).from_config(config | {"name": name}), weights, suffix


def _kernel_layer(wrapper: Any) -> _Part:
    inner, where = wrapper.layer, f"layer {wrapper.name}"
    kind = type(inner).__name__
    (variable, quantizer, ranges), *others = wrapper._weight_vars
    if others or kind not in KINDS:
        raise LoweringError(
            f"{where}: {len(wrapper._weight_vars)} weights of a {kind} are quantized; the kernels "
            f"of {', '.join(KINDS)} are lowered"
        )
    _check_kind(quantizer, where)
    codes, scale = _codes(quantizer, variable, ranges, where)
    width = int(max(codes.max(initial=0), -1 - codes.min(initial=0))).bit_length() + 1
    channels = tuple(axis for axis in range(codes.ndim) if scale.shape[axis] > 1)
    if not set(channels) <= set(own := channels_of(kind, codes.ndim)):
        raise LoweringError(
            f"{where}: its kernel has a range for each place along its last axis, which in a "
            f"{kind} are inputs, that are summed: integers have one scale for each output channel "
            f"(axis {own[0]}). Give its quantizer per_axis=False, and train on"
        )
    kernel, bias = (codes * scale).astype(np.float32), [inner.bias] if inner.use_bias else []

    def make(name: str) -> Any:
        return twin_of(
            inner,
            bits=max(width, int(quantizer.num_bits)),
            narrow_range=True,
            channels=channels,
            name=name,
        )

    weights = [kernel, *map(np.asarray, bias), scale.astype(np.float32)]
    return make, weights, "kernel"


def _codes(
    quantizer: Any, variable: Any, ranges: Mapping[str, Any], where: str
) -> tuple[np.ndarray, np.ndarray]:
    """What a quantizer makes of a kernel, in inference.

    Returns: int64 codes of real 0 at 0, and float64 scales that broadcast to them.
    Raises:
        LoweringError: they do not fit int8, or are not what the quantizer gives.
    """
    low, high = (np.asarray(ranges[name], np.float32) for name in ("min_var", "max_var"))
    empty = (low == 0) & (high == 0)
    _check_range(low[~empty], high[~empty], where)
    values = np.asarray(quantizer(variable, False, weights=ranges), np.float32)
    low, high = np.where(empty, -1, low), np.where(empty, 1, high)
    grid = nudge(low, high, bits=int(quantizer.num_bits), narrow_range=quantizer.narrow_range)
    codes = grid.codes_of(values) - grid.zero_point
    scale = grid.scale.astype(np.float64)
    reach = FLOAT32_ROUNDING * (np.abs(grid.qmin - grid.zero_point) * scale + np.abs(values))
    if (np.abs(values - codes * scale) > reach).any():
        raise LoweringError(
            f"{where}: what {type(quantizer).__name__} makes of its kernel are no codes of its "
            f"range; the kernels of {_KNOWN} are lowered"
        )
    if np.abs(codes).max(initial=0) > MAX_CODE:
        raise LoweringError(
            f"{where}: its kernel has codes from {codes.min()} to {codes.max()}, counted from that "
            f"of 0, where int8 kernels take -{MAX_CODE} to {MAX_CODE}. Give its quantizer "
            "symmetric=True and narrow_range=True, and train on"
        )
    return codes, scale.reshape((1,) * (codes.ndim - scale.ndim) + scale.shape)


def _activation(wrapper: Any) -> list[_Part]:
    """The activation of a layer with a kernel, and what is rounded around it."""
    if not wrapper._quantize_activations:
        function = wrapper.layer.activation
        return [] if _is_linear(function) else [_function(function)]
    (aware,) = wrapper._quantize_activations
    parts: list[_Part] = []
    if aware._should_pre_quantize():
        grid = _grid(aware.quantizer, aware._pre_activation_vars, wrapper.name)
        parts.append((lambda name: _rounding(grid, name), [], "before"))
    if not _is_linear(aware.activation):
        parts.append(_function(aware.activation))
    if aware._should_post_quantize():
        after = _grid(aware.quantizer, aware._post_activation_vars, wrapper.name)
        parts.append((lambda name: _rounding(after, name), [], "behind"))
    return parts


def _function(function: Any) -> _Part:
    return lambda name: keras.layers.Activation(function, name=name), [], "activation"


def _is_linear(function: Any) -> bool:
    no_op = isinstance(function, quantize_aware_activation.NoOpActivation)
    return function is None or function is keras.activations.linear or no_op


def _grid(quantizer: Any, ranges: Mapping[str, Any] | None, name: str) -> QParams | None:
    """What a quantizer of a tensor rounds to; None where it rounds nothing.

    Raises:
        LoweringError: no quantizer of TF-MOT's, one of channels, or one without a range.
    """
    where = f"layer {name}"
    if quantizer is None or isinstance(quantizer, quantizers.NoQuantizer):
        return None
    if isinstance(quantizer, quantizers.FixedQuantizer):
        low, high = np.float32(quantizer.init_min), np.float32(quantizer.init_max)
        bits = FIXED_BITS
    else:
        _check_kind(quantizer, where)
        assert ranges is not None, name
        low, high = (np.asarray(ranges[kind], np.float32) for kind in ("min_var", "max_var"))
        bits = int(quantizer.num_bits)
    if low.shape:
        raise LoweringError(
            f"{where}: its activations have a range for each channel; one for all is lowered"
        )
    _check_range(low, high, where)
    return grid_of(float(low), float(high), bits=bits, narrow_range=bool(quantizer.narrow_range))


def _rounding(grid: QParams | None, name: str) -> Any:
    """The layer that rounds to a grid, or passes values on."""
    if grid is None:
        return keras.layers.Activation("linear", name=name)
    return FixedGrid(grid.scale, grid.qmin, grid.qmax, grid.zero_point, name=name)


def _check_kind(quantizer: Any, where: str) -> None:
    if not isinstance(quantizer, _RANGED):
        raise LoweringError(
            f"{where}: a quantizer {type(quantizer).__name__} is not lowered; {_KNOWN} are"
        )
    if not 2 <= int(quantizer.num_bits) <= 8:
        raise LoweringError(
            f"{where}: its quantizer has {quantizer.num_bits} bits; 2 to 8 are lowered"
        )


def _check_range(low: np.ndarray, high: np.ndarray, where: str) -> None:
    if np.all(low < high) and np.isfinite(low).all() and np.isfinite(high).all():
        return
    given = f"{np.min(low):g} to {np.max(high):g}"
    raise LoweringError(
        f"{where}: its quantizer has the range {given}, which has no codes. It is found in "
        "training: train a step, or call the model with training=True on some images"
    )


def movable_of(layer: Any) -> Movable | None:
    """The variables that may be moved of what a wrapper wraps; None for any other layer.

    Biases alone: gammas, moved to keep all values off ties, would take the files further from the
    model that was trained than the few codes next to ties do.
    """
    if not isinstance(layer, quantize_wrapper.QuantizeWrapper):
        return None
    inner = layer.layer
    if isinstance(inner, keras.layers.BatchNormalization):
        return Movable(bias=inner.beta)
    return Movable(bias=getattr(inner, "bias", None))


PARTS: Mapping[str, Callable[[Any, Shape], Built]] = {
    "QuantizeLayer": _quantize_layer,
    "QuantizeWrapper": _wrapper,
    "QuantizeWrapperV2": _wrapper,
}
"""By class: a function of a layer and its input's shape, without the batch axis.

Each gives the parts, the last of which has the layer's name, or raises LoweringError.
"""
