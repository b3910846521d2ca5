"""QKeras' activation quantizers are read as what they compute, or refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from keras_quant.errors import LoweringError
from keras_quant.graph.rounding import to_codes
from keras_quant.qparams import dequantize

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods.qkeras.activations import read_activation  # noqa: E402
from keras_quant.methods.qkeras.door import qkeras  # noqa: E402
from keras_quant.methods.qkeras.read import freeze_activation  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402

READ = (
    *(f"quantized_relu({bits},{integer})" for bits in (1, 4, 8) for integer in (0, 2)),
    *(f"quantized_relu({bits},2,negative_slope={slope})"
      for bits in (4, 8) for slope in (0.125, 0.5)),
    *(f"quantized_relu(6,3,relu_upper_bound={bound},is_quantized_clip={clip})"
      for bound in (0.5, 6.0, 7.5, 9.0) for clip in (False, True)),
    "quantized_relu(6,3,negative_slope=0.25,relu_upper_bound=1.5,is_quantized_clip=False)",
    "quantized_relu(4,2,is_quantized_clip=False)", "quantized_relu(4,1,use_sigmoid=1)",
    *(f"quantized_bits({bits},{integer},{symmetric},alpha={alpha})"
      for bits in (1, 2, 4, 8) for integer in (0, 2) for symmetric in (0, 1)
      for alpha in (None, 0.5)),
    "quantized_bits(4,1,keep_negative=False)", "quantized_bits(1,0,keep_negative=False)",
    *(f"quantized_hswish({bits},2,{symmetric})" for bits in (4, 8) for symmetric in (0, 1)),
    "quantized_hswish(6,1,relu_shift=2,relu_upper_bound=4)", "quantized_hswish(6,1,alpha=2)",
    *(f"quantized_{kind}({bits},symmetric={symmetric},use_real_{kind}={real})"
      for kind in ("tanh", "sigmoid") for bits in (2, 8) for symmetric in (False, True)
      for real in (False, True)),
    "binary()", "binary(alpha=1)", "binary(alpha=2)", "binary(use_01=True)", "stochastic_binary()",
    "ternary()", "ternary(alpha=1,threshold=0.5)", "ternary(alpha=4)", "stochastic_ternary()",
)  # fmt: skip


def values() -> np.ndarray:
    """Reals of both signs, among them all multiples of 1 / 256 up to 16."""
    rng = np.random.default_rng(0)
    parts = (np.arange(-4096, 4097) / 256, rng.normal(0, 1, 2000), rng.normal(0, 8, 2000))
    return np.concatenate(parts).astype(np.float32)


@pytest.mark.parametrize("text", READ)
def test_function_and_rounding_are_what_the_quantizer_computes(text: str) -> None:
    quantizer, x = eval(f"qkeras.quantizers.{text}"), values()
    found = read_activation(quantizer, "act")
    reals = x if found.function is None else np.asarray(found.function(tf.constant(x)))
    codes = to_codes(reals / np.float32(found.qparams.scale), found.qparams)
    expected = dequantize(codes, found.qparams).astype(np.float32)
    np.testing.assert_array_equal(quantizer(tf.constant(x)), expected)
    if found.line is not None:
        on_line = np.float32(found.line[0]) * x + np.float32(found.line[1])
        again = to_codes(on_line / np.float32(found.qparams.scale), found.qparams)
        np.testing.assert_array_equal(again, codes)


REFUSED = {
    "quantized_bits(4,0,1,alpha='auto')": r"fits its scale to each batch \(alpha='auto'\).*alpha=1",
    "binary(alpha='auto_po2')": r"fits its scale to each batch \(alpha='auto_po2'\)",
    "quantized_bits(4,alpha=0.3)": r"has alpha=0.3; 1, or another power of two, is lowered",
    "quantized_bits(4,alpha=np.float32([1, 2]))": "has scales of channels",
    "quantized_relu(10,2)": r"quantized_relu\(10, integer=2\) has 1,024 codes, 10 bits; .*8 bits",
    "quantized_bits(16,6)": r"has 65,536 codes, 16 bits; activations of up to 8 bits",
    "quantized_hswish(12,2)": r"quantized_hswish\(12, integer=2\) has 4,096 codes",
    "quantized_relu(4,2,qnoise_factor=0.8)": r"0.8 parts of quantized and 0.2 parts.*Set it to 1",
    "quantized_hswish(4,2,qnoise_factor=0.5)": "0.5 parts of quantized",
    "quantized_relu(3,3,relu_upper_bound=1.5,is_quantized_clip=False)": "is cut at 1.5, which",
    "quantized_relu(3,0,negative_slope=0.125)": r"is cut at -0.125 below 0.*at least 2\*\*-2 is",
    "quantized_relu(4,1,use_sigmoid=1,negative_slope=0.5)": "joins use_sigmoid with a slope",
    "quantized_tanh(1,symmetric=True)": "gives one value only",
    "quantized_ulaw(4)": r"quantized_ulaw\(4\) is not lowered; quantized_relu, .* are lowered",
    "quantized_po2(4)": r"quantized_po2\(4\) is not lowered; quantized_relu",
    "quantized_relu_po2(4)": r"quantized_relu_po2\(4\) is not lowered",
    "bernoulli()": r"bernoulli\(\) is not lowered",
}


@pytest.mark.parametrize("text", REFUSED)
def test_other_activations_are_refused_with_the_reason(text: str) -> None:
    quantizer = eval(f"qkeras.quantizers.{text}")
    with pytest.raises(LoweringError, match=f"layer act: activation.*{REFUSED[text]}"):
        read_activation(quantizer, "act")


def adaptive(kind: str, *, per_channel: bool, **options: float) -> keras.layers.Layer:
    layer = qkeras.QAdaptiveActivation(
        kind, 4, ema_decay=0.5, per_channel=per_channel, name="act", **options
    )
    x = np.random.default_rng(0).normal(0, 3, (64, 4, 4, 2)).astype(np.float32)
    for _ in range(4):
        layer(tf.constant(x * np.float32([1, 0.1])), training=True)
    return layer


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("quantized_relu", {}),
        ("quantized_relu", {"relu_upper_bound": 2.0}),
        ("quantized_relu", {"relu_neg_slope": 0.25}),
        ("quantized_relu", {"po2_rounding": True}),
        ("quantized_bits", {}),
        ("quantized_bits", {"symmetric": False}),
    ],
)
def test_adaptive_activation_is_read_as_its_ranges_say(kind: str, options: dict) -> None:
    layer = adaptive(kind, per_channel=False, **options)
    found = freeze_activation(layer, layer.name)
    x = np.stack([values()] * 2, axis=-1)
    reals = x if found.function is None else np.asarray(found.function(tf.constant(x)))
    codes = to_codes(reals / np.float32(found.qparams.scale), found.qparams)
    np.testing.assert_array_equal(layer(x), dequantize(codes, found.qparams).astype(np.float32))


def test_adaptive_activation_of_channels_is_refused() -> None:
    layer = adaptive("quantized_bits", per_channel=True)
    with pytest.raises(LoweringError, match="layer act: .* has a step for each channel; one for"):
        freeze_activation(layer, layer.name)


@pytest.mark.parametrize("mode", ["hard", "smooth", "real"])
@pytest.mark.parametrize("text", ["quantized_tanh(4)", "quantized_sigmoid(4)"])
def test_sigmoid_that_qkeras_is_set_to_is_read(text: str, mode: str) -> None:
    qkeras.quantizers.set_internal_sigmoid(mode)
    try:
        test_function_and_rounding_are_what_the_quantizer_computes(text)
    finally:
        qkeras.quantizers.set_internal_sigmoid("hard")
