"""Models that users trained with QKeras' own quantizers are read right, or refused by name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keras_quant.qparams import dequantize, quantize, signed, unsigned

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods.qkeras.door import qkeras  # noqa: E402
from keras_quant.methods.qkeras.read import (  # noqa: E402
    freeze_activation,
    freeze_kernel,
)
from keras_quant.tf import keras  # noqa: E402

FLOAT32_ULP = 2.0**-23

# Quantizer: logical bits, lowest and highest code, and the steps of four channels of weights.
KERNELS = {
    "quantized_bits(4,0,1,alpha=1)": (4, -7, 7, [0.125]),
    "quantized_bits(4,0,0,alpha=1)": (4, -8, 7, [0.125]),
    "quantized_bits(6,1,1,alpha=1)": (6, -31, 31, [0.0625]),
    "quantized_bits(4,0,1,alpha='auto')": (4, -7, 7, None),
    "quantized_bits(4,0,1,alpha='auto_po2')": (4, -7, 7, None),
    "quantized_bits(4,2,1,alpha='auto')": (4, -7, 7, None),
    "binary(alpha=1)": (1, -1, 1, [1.0]),
    "binary(alpha='auto')": (1, -1, 1, None),
    "binary(alpha='auto_po2')": (1, -1, 1, None),
    "stochastic_binary(alpha='auto')": (1, -1, 1, None),
    "ternary(alpha=1)": (2, -1, 1, [1.0]),
    "ternary(alpha='auto')": (2, -1, 1, None),
    "stochastic_ternary(alpha='auto')": (2, -1, 1, None),
    "quantized_po2(3,1)": (6, -16, 16, None),  # powers of two up to 16 need 6 bits
}


def conv_with(quantizer: str, *, zero_channel: bool) -> tuple[keras.layers.Layer, np.ndarray]:
    layer = qkeras.QConv2D(4, (3, 2), kernel_quantizer=quantizer, name="conv")
    layer.build((None, 6, 6, 2))
    kernel = np.random.default_rng(0).normal(0, 0.4, (3, 2, 2, 4)).astype(np.float32)
    if zero_channel:
        kernel[..., 1] = 0
    layer.kernel.assign(kernel)
    return layer, np.asarray(layer.kernel_quantizer_internal(layer.kernel))


@pytest.mark.parametrize("zero_channel", [False, True])
@pytest.mark.parametrize("quantizer", KERNELS)
def test_stock_kernel_quantizers_are_frozen_to_their_own_values(
    quantizer: str, zero_channel: bool
) -> None:
    layer, values = conv_with(quantizer, zero_channel=zero_channel)
    bits, qmin, qmax, steps = KERNELS[quantizer]
    frozen = freeze_kernel(layer)
    assert frozen.bits == bits
    assert qmin <= frozen.values.min() and frozen.values.max() <= qmax
    assert (frozen.scale > 0).all()
    if steps is not None:
        np.testing.assert_array_equal(frozen.scale.ravel(), steps)
    # QKeras multiplies scale, step and code in another order.
    np.testing.assert_allclose(frozen.values * frozen.scale, values, rtol=2 * FLOAT32_ULP, atol=0)


ACTIVATIONS = {
    "quantized_relu(4,2)": unsigned(4, 0.25),
    "quantized_relu(1,0)": unsigned(1, 0.5),
    "quantized_relu(8,3)": unsigned(8, 2.0**-5),
    "quantized_bits(4,1,1,alpha=1)": signed(4, 0.25, narrow_range=True),
    "quantized_bits(4,1,0,alpha=1)": signed(4, 0.25, narrow_range=False),
    "quantized_bits(8,0,0,alpha=1)": signed(8, 2.0**-7, narrow_range=False),
}


@pytest.mark.parametrize("text", ACTIVATIONS)
def test_stock_activations_are_read_as_their_grid(text: str) -> None:
    layer, expected = qkeras.QActivation(text), ACTIVATIONS[text]
    found = freeze_activation(layer, layer.name)
    assert found.function is None
    assert dataclasses.astuple(found.qparams) == dataclasses.astuple(expected)
    x = np.random.default_rng(0).normal(0, 3, 1000).astype(np.float32)
    np.testing.assert_array_equal(layer(x), dequantize(quantize(x, expected), expected))
