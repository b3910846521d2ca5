"""docs/qkeras.md says what is lowered of QKeras, and what is not: each of its rows is tried."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_quant.errors import LoweringError

pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore:The initializer|divide by zero|invalid value"),
]

from keras_quant.methods.qkeras.door import qkeras  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402
from tests.methods.qkeras.nets import act, net, share_different  # noqa: E402

L, Q = keras.layers, qkeras
PAGE = Path(__file__).parents[3] / "docs" / "qkeras.md"
FLOAT32_SHARE = 1e-3  # what the page allows where a function is computed on floats
IMAGE, SEQUENCE, VECTOR = (6, 6, 3), (8, 3), (7,)
W4, B4 = "quantized_bits(4,0,1,alpha=1)", "quantized_bits(4,1,1,alpha=1)"


def rows(heading: str) -> dict[str, list[str]]:
    """The cells of the table behind a heading, by their rows' first."""
    text = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {first: others for first, *others in lines[1:]}


def quantizer(text: str) -> Any:
    """Not by QKeras' own reader of texts, which knows neither None nor arrays."""
    names = {"quantizers": Q.quantizers, "np": np}
    return eval(f"quantizers.{text}", names) if "(" in text else text


def judge(verdict: str, body: Callable, shape: tuple[int, ...], reason: str) -> None:
    """Holds a net to what the page says of it: exact, float or refused, with a reason."""
    try:
        model = net(body, shape, spread=2.0 if reason else 0.0)
        share = share_different(model)
    except LoweringError as error:
        assert verdict == "refused", error
        assert "layer" in str(error) and reason in str(error), error
    else:
        assert verdict in ("exact", "float"), f"lowered, with a share of {share:g} different"
        assert share <= (FLOAT32_SHARE if verdict == "float" else 0)


# Kernels

DENSE: Callable[[Any], L.Layer] = lambda q: Q.QDense(4, kernel_quantizer=q, name="layer")  # noqa: E731
KERNEL_LAYERS: dict[str, tuple[Callable[[Any], L.Layer], tuple[int, ...]]] = {
    "dense": (DENSE, VECTOR),
    "conv1d": (lambda q: Q.QConv1D(4, 3, kernel_quantizer=q, name="layer"), SEQUENCE),
    "conv2d": (lambda q: Q.QConv2D(4, 3, kernel_quantizer=q, name="layer"), IMAGE),
    "transpose": (
        lambda q: Q.QConv2DTranspose(4, 3, strides=2, kernel_quantizer=q, name="layer"), IMAGE
    ),
    "depthwise": (
        lambda q: Q.QDepthwiseConv2D(3, depthwise_quantizer=q, name="layer"), IMAGE
    ),
}  # fmt: skip
ALL = tuple(KERNEL_LAYERS)
# By row: quantizers with the layers that have them, and of refused ones a part of the reason.
KERNELS: dict[str, list[tuple[str, tuple[str, ...], str]]] = {
    "quantized_bits of up to 8 bits, alpha a number, an array, 'auto', 'auto_po2' or None": [
        ("quantized_bits(8,0,1,alpha=1)", ALL, ""),
        ("quantized_bits(4,1,0,alpha=0.37)", ("dense", "transpose"), ""),
        ("quantized_bits(4,0,1,alpha=np.float32([1, 0.37, 2, 3]))", ("dense", "conv2d"), ""),
        ("quantized_bits(4,0,1,alpha='auto')", ("dense", "conv1d", "conv2d", "depthwise"), ""),
        ("quantized_bits(2,0,0,alpha='auto_po2')", ("conv2d", "transpose"), ""),
        ("quantized_bits(4,alpha=None)", ("dense", "depthwise"), ""),
    ],
    "quantized_bits of 1 bit": [("quantized_bits(1,1,alpha=1)", ("dense", "conv2d"), "")],
    "quantized_bits, keep_negative=False, up to 7 bits": [
        (f"quantized_bits({bits},0,keep_negative=False,alpha=1)", ("dense", "transpose"), "")
        for bits in (1, 4, 7)
    ],
    "binary, ternary, stochastic_binary, stochastic_ternary": [
        (f"{kind}()", ("conv2d", "depthwise"), "")
        for kind in ("binary", "ternary", "stochastic_binary", "stochastic_ternary")
    ],
    "quantized_po2, where a channel's weights are within a factor of 64": [
        ("quantized_po2(3,1)", ("conv2d", "transpose"), ""),
        ("quantized_po2(4)", ("dense",), ""),
    ],
    "scales along the inputs that are multiples of a common step, with codes within 127": [
        ("quantized_bits(4,0,1,alpha=np.float32([2, 3, 2, 3, 2, 3, 2])[:, None])", ("dense",), ""),
        ("quantized_bits(4,0,1,alpha='auto_po2')", ("transpose",), ""),
    ],
    "scales along the inputs that are not: alpha='auto' in a QConv2DTranspose, scale_axis, an "
    "array": [
        ("quantized_bits(4,alpha='auto')", ("transpose",), "over which the layer sums"),
        ("quantized_bits(4,alpha='auto',scale_axis=0)", ("dense",), "over which the layer sums"),
        (
            "quantized_bits(4,alpha=np.float32([1, 0.37, 1, 1, 1, 1, 1])[:, None])",
            ("dense",),
            "over which the layer sums",
        ),
    ],
    "quantized_bits of more than 8 bits, where codes pass 127": [
        (
            "quantized_bits(9,0,1,alpha=1)",
            ("dense", "transpose"),
            "9 bits, where kernels of up to 8 bits",
        )
    ],
    "quantized_bits(8) with weights at -128": [
        ("quantized_bits(8,0,0,alpha=1)", ("dense", "conv2d"), "Give it symmetric=1")
    ],
    "quantized_po2 of a wider range": [
        (
            "quantized_po2(6)",
            ("dense", "depthwise"),
            "up to a factor of 64 fits int8. Narrow them with bits",
        )
    ],
    "quantized_bits(1, alpha='auto'), which is NaN": [
        ("quantized_bits(1,0,1,alpha='auto')", ("dense",), "of 1 bit, use binary(alpha='auto')")
    ],
    "bernoulli, quantized_tanh and other quantizers": [
        ("bernoulli()", ("dense",), "is random in inference too"),
        ("quantized_tanh(4)", ("dense",), "is not lowered; kernels of"),
        ("quantized_relu(4)", ("dense",), "is not lowered; kernels of"),
    ],
    "any with qnoise_factor below 1": [
        ("quantized_bits(4,alpha=1,qnoise_factor=0.5)", ("dense",), "Set it to 1"),
        ("quantized_po2(4,qnoise_factor=0.5)", ("dense",), "Set it to 1"),
    ],
}


def test_each_row_of_kernels_is_tried() -> None:
    assert list(KERNELS) == list(rows("Kernels"))


@pytest.mark.slow
@pytest.mark.parametrize("row", KERNELS)
def test_kernels_are_lowered_as_the_page_says(row: str) -> None:
    (verdict,) = rows("Kernels")[row]
    for text, kinds, reason in KERNELS[row]:
        assert verdict == ("refused" if reason else "exact")
        for kind in kinds:
            make, shape = KERNEL_LAYERS[kind]
            judge(verdict, lambda x, m=make, t=text: act(B4)(m(quantizer(t))(x)), shape, reason)


# Activations


def behind_kernel(given: L.Layer) -> Callable:
    return lambda x: given(Q.QConv2D(4, 3, kernel_quantizer=W4)(x))


def behind_norm(given: L.Layer) -> Callable:
    return lambda x: given(L.BatchNormalization()(Q.QConv2D(4, 3, kernel_quantizer=W4)(x)))


def behind_addition(given: L.Layer) -> Callable:
    return lambda x: given(L.Add()([act(B4)(Q.QConv2D(3, 1, kernel_quantizer=W4)(x)), act(B4)(x)]))


def behind_codes(given: L.Layer) -> Callable:
    return lambda x: given(L.MaxPooling2D(2)(x))


SUMS = (behind_kernel, behind_norm, behind_addition)
# By row: quantizers, and of those refused somewhere a part of the reason.
ACTIVATIONS: dict[str, list[tuple[str, str]]] = {
    "quantized_relu, with is_quantized_clip or without": [
        ("quantized_relu(4,2)", ""),
        ("quantized_relu(4,2,is_quantized_clip=False)", ""),
    ],
    "quantized_relu with relu_upper_bound on its grid": [
        ("quantized_relu(4,2,relu_upper_bound=1.5,is_quantized_clip=False)", "")
    ],
    "quantized_bits, alpha None or a power of two": [
        ("quantized_bits(4,1,alpha=None)", ""),
        ("quantized_bits(4,1,1,alpha=0.5)", ""),
    ],
    "quantized_tanh": [("quantized_tanh(4)", "")],
    "quantized_sigmoid": [("quantized_sigmoid(4)", "")],
    "quantized_tanh with use_real_tanh, quantized_sigmoid with use_real_sigmoid": [
        ("quantized_tanh(4,use_real_tanh=True)", ""),
        ("quantized_sigmoid(4,use_real_sigmoid=True)", ""),
    ],
    "quantized_hswish": [("quantized_hswish(5,2,1)", "")],
    "binary, ternary, quantized_bits of 1 bit": [
        (text, "in front of it")
        for text in ("binary()", "ternary()", "quantized_bits(1,0,alpha=1)")
    ],
    "quantized_relu with negative_slope": [
        ("quantized_relu(4,1,negative_slope=0.25)", "in front of it")
    ],
    "quantized_relu with use_sigmoid, quantized_sigmoid with symmetric": [
        ("quantized_relu(4,1,use_sigmoid=1)", "in front of it"),
        ("quantized_sigmoid(4,symmetric=True)", "in front of it"),
    ],
    "quantized_relu with a bound or a slope that ends off its grid": [
        ("quantized_relu(3,3,relu_upper_bound=1.5,is_quantized_clip=False)", "is cut at 1.5"),
        ("quantized_relu(3,0,negative_slope=0.125)", "is cut at -0.125 below 0"),
    ],
    "alpha='auto' and 'auto_po2', fitted to each batch; other alphas than powers of two": [
        ("quantized_bits(4,0,1,alpha='auto')", "fits its scale to each batch"),
        ("binary(alpha='auto_po2')", "fits its scale to each batch"),
        ("quantized_bits(4,alpha=0.3)", "1, or another power of two, is lowered"),
    ],
    "more than 8 bits": [("quantized_bits(16,6,alpha=1)", "activations of up to 8 bits")],
    "quantized_ulaw, quantized_po2, quantized_relu_po2, bernoulli": [
        (f"{kind}()", "is not lowered")
        for kind in ("quantized_ulaw", "quantized_po2", "quantized_relu_po2", "bernoulli")
    ],
    "any with qnoise_factor below 1": [("quantized_relu(4,2,qnoise_factor=0.5)", "Set it to 1")],
}
PLAIN = "QActivation of a plain function, as 'relu' or 'hard_tanh'"
BEHIND_KERNEL = "exact behind a kernel, else refused"


def test_each_row_of_activations_is_tried() -> None:
    assert {*ACTIVATIONS, PLAIN} == set(rows("Activations"))


@pytest.mark.slow
@pytest.mark.parametrize("row", ACTIVATIONS)
def test_activations_are_lowered_as_the_page_says(row: str) -> None:
    behind_sums, verdict = rows("Activations")[row]
    for text, reason in ACTIVATIONS[row]:
        judge(verdict, behind_codes(act(quantizer(text))), IMAGE, reason)
        for place in SUMS:
            said = behind_sums
            if behind_sums == BEHIND_KERNEL:
                said = "refused" if place is behind_addition else "exact"
            judge(said, place(act(quantizer(text))), IMAGE, reason if said == "refused" else "")


@pytest.mark.slow
@pytest.mark.parametrize("function", ["relu", "hard_tanh"])
def test_plain_functions_are_lowered_as_the_page_says(function: str) -> None:
    assert rows("Activations")[PLAIN] == ["as the Keras function", "exact"]
    given = keras.Sequential([act(function), act("quantized_bits(4,1,1,alpha=1)")])
    judge("exact", behind_codes(given), IMAGE, "")
    reason = "" if function == "relu" else "quantize the layer in front of it"
    judge("refused" if reason else "exact", behind_kernel(given), IMAGE, reason)


# Layers

B8, RELU = "quantized_bits(8,2,1,alpha=1)", "quantized_relu(4,2)"
AUTO = "quantized_bits(4,0,1,alpha='auto')"
POOL, GLOBAL_POOL = Q.QAveragePooling2D, Q.QGlobalAveragePooling2D


def separable(make: type, first: Any, second: Any = W4) -> L.Layer:
    return make(4, 3, depthwise_quantizer=first, pointwise_quantizer=second, name="layer")


def adaptive(*, per_channel: bool) -> L.Layer:
    """Two channels have one range where the third has another, by a factor of 10."""
    layer = Q.QAdaptiveActivation("quantized_relu", 4, ema_decay=0.5, per_channel=per_channel)
    x = np.random.default_rng(0).normal(0, 2, (64, 4, 4, 3)) * [1, 1, 0.1]
    for _ in range(4):
        layer(tf.constant(x, tf.float32), training=True)
    return layer


# By row: layers, each with the shape of what it reads, and of refused ones a part of the reason.
LAYERS: dict[str, list[tuple[Callable[[], Any], tuple[int, ...], str]]] = {
    "QDense, QConv1D, QConv2D, QConv2DTranspose, QDepthwiseConv2D": [
        (lambda make=make: make(W4), shape, "") for make, shape in KERNEL_LAYERS.values()
    ],
    "QBatchNormalization, QConv2DBatchnorm, QDepthwiseConv2DBatchnorm": [
        (lambda: Q.QBatchNormalization(beta_quantizer=None), IMAGE, ""),
        (lambda: Q.QConv2DBatchnorm(4, 3, kernel_quantizer=W4), IMAGE, ""),
        (lambda: Q.QDepthwiseConv2DBatchnorm(3, depthwise_quantizer=W4), IMAGE, ""),
    ],
    "QSeparableConv1D, QSeparableConv2D, as one convolution: nothing is rounded between its "
    "kernels": [
        (lambda: separable(Q.QSeparableConv1D, W4), SEQUENCE, ""),
        (lambda: separable(Q.QSeparableConv2D, W4), IMAGE, ""),
    ],
    "the same where products of codes pass 127, or the depthwise scales differ": [
        (lambda: separable(Q.QSeparableConv2D, *[B8] * 2), IMAGE, "one int8 kernel takes 127"),
        (
            lambda: separable(Q.QSeparableConv2D, quantizer(AUTO[:-1] + ",scale_axis=2)")),
            IMAGE,
            "over which the layer sums",
        ),
    ],
    "QAveragePooling2D, QGlobalAveragePooling2D, with average_quantizer or without": [
        (lambda make=make, options=options: make(**options), IMAGE, "")
        for make in (POOL, GLOBAL_POOL)
        for options in ({}, {"average_quantizer": B8})
    ],
    "QAveragePooling2D with average_quantizer and padding 'same'": [
        (lambda: POOL(3, padding="same", average_quantizer=B8), IMAGE, "padding 'valid' is")
    ],
    "QAdaptiveActivation": [(lambda: adaptive(per_channel=False), IMAGE, "")],
    "QAdaptiveActivation with per_channel, where channels have unlike steps": [
        (lambda: adaptive(per_channel=True), IMAGE, "has a step for each channel")
    ],
    "QActivation of a quantizer object, and of its text": [
        (lambda: act(RELU), IMAGE, ""),
        (lambda: act(quantizer(RELU)), IMAGE, ""),
    ],
    "QSimpleRNN, QLSTM, QGRU, QBidirectional": [
        # QSimpleRNN and QGRU of QKeras 0.9 ask TensorFlow for nest.is_sequence, which is gone.
        (lambda: Q.QLSTM(4), SEQUENCE, "QLSTM: not supported"),
        (lambda: Q.QBidirectional(Q.QLSTM(4)), SEQUENCE, "QBidirectional: not supported"),
    ],
}


def test_each_row_of_layers_is_tried() -> None:
    assert list(LAYERS) == list(rows("Layers"))


@pytest.mark.slow
@pytest.mark.parametrize("row", LAYERS)
def test_layers_are_lowered_as_the_page_says(row: str) -> None:
    (verdict,) = rows("Layers")[row]
    for make, shape, reason in LAYERS[row]:
        assert verdict == ("refused" if reason else "exact")
        judge(verdict, lambda x, m=make: act(B4)(m()(x)), shape, reason)
