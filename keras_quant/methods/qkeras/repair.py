"""What is broken in QKeras' own classes, mended in them.

`quantized_bits` and `quantized_relu` of QKeras 0.9 lose arguments when a model is saved; and its
activations cost five passes over memory a step. They are repaired in place, so that saved models
still say `quantized_relu(4,2)`.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from keras_quant.methods.layers import fake_quant
from keras_quant.tf import qkeras, tf


def _is_plain_relu(q: qkeras.quantizers.quantized_relu) -> bool:
    return q.is_quantized_clip and not (q.use_sigmoid or q.negative_slope) and _is_plain(q)


def _is_plain_bits(q: qkeras.quantizers.quantized_bits) -> bool:
    return q.alpha in (1, None) and q.bits > 1 and bool(q.keep_negative) and _is_plain(q)


def _is_plain(q: qkeras.quantizers.BaseQuantizer) -> bool:
    fixed = isinstance(q.integer, int) and not isinstance(q.qnoise_factor, tf.Variable)
    return fixed and q.qnoise_factor == 1 and q.use_ste and not q.use_stochastic_rounding


def _fake_quant_relu(q: qkeras.quantizers.quantized_relu, x: tf.Tensor) -> tf.Tensor:
    return fake_quant(x, step=2.0 ** (q.integer - q.bits), qmin=0, qmax=2**q.bits - 1)


def _fake_quant_bits(q: qkeras.quantizers.quantized_bits, x: tf.Tensor) -> tf.Tensor:
    q.scale = 1.0
    qmax = 2 ** (q.bits - 1) - 1
    qmin = -qmax if q.symmetric else -qmax - 1
    return fake_quant(x, step=2.0 ** (q.integer - q.bits + 1), qmin=qmin, qmax=qmax)


def _repair(cls: type, is_plain: Callable, fast: Callable, lost: str) -> None:
    """Gives a QKeras quantizer class the fast path, and the argument that saving loses."""
    slow, config = cls.__call__, cls.get_config

    def call(self: Any, x: tf.Tensor) -> tf.Tensor:
        return fast(self, x) if is_plain(self) else slow(self, x)

    def get_config(self: Any) -> dict[str, Any]:
        return {**config(self), lost: getattr(self, lost)}

    cls.__call__, cls.get_config = call, get_config


def _keep_output_padding(cls: type) -> None:
    """QConv2DTranspose computes with its output_padding, but its constructor drops it."""
    construct = cls.__init__

    @functools.wraps(construct)
    def init(self: Any, *args: Any, output_padding: Any = None, **kwargs: Any) -> None:
        construct(self, *args, **kwargs)
        if output_padding is not None:
            self.output_padding = tuple(output_padding)

    cls.__init__ = init


@functools.cache
def repair_qkeras() -> None:
    """Repairs two quantizers and QConv2DTranspose of QKeras 0.9, once, for this process.

    Also hides the warning that QKeras' layers set off whenever they tell their settings: they
    serialize quantizers as if they were constraints, which works.
    """
    warnings.filterwarnings("ignore", message=".*constraints.serialize.*fitted_bits")
    # QConv2DTranspose looks for it in a module of TensorFlow that no longer has it.
    qkeras.qconvolutional.array_ops.stack = tf.stack
    _keep_output_padding(qkeras.QConv2DTranspose)
    q = qkeras.quantizers
    _repair(q.quantized_relu, _is_plain_relu, _fake_quant_relu, "is_quantized_clip")
    _repair(q.quantized_bits, _is_plain_bits, _fake_quant_bits, "scale_axis")
