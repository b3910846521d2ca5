"""Layers of QKeras that stand for others are lowered to their very codes, or refused by name."""

from __future__ import annotations

import pytest

from keras_quant.errors import LoweringError

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.lower import lower  # noqa: E402
from keras_quant.methods.qkeras.door import qkeras  # noqa: E402
from keras_quant.methods.qkeras.parts import PARTS  # noqa: E402
from keras_quant.methods.readers import parts_maker  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from tests.methods.qkeras.nets import act, net, share_different  # noqa: E402

L = keras.layers
W4, W3, W2 = (f"quantized_bits({bits},0,1,alpha=1)" for bits in (4, 3, 2))
RELU, B8, AUTO = (
    "quantized_relu(4,2)",
    "quantized_bits(8,2,1,alpha=1)",
    "quantized_bits(4,0,1,alpha='auto')",
)
IMAGE, SEQUENCE = (7, 6, 3), (8, 3)


def separable(first: str = W3, second: str = W3, **options) -> keras.layers.Layer:
    return qkeras.QSeparableConv2D(
        5, 3, depthwise_quantizer=first, pointwise_quantizer=second, name="both", **options
    )


def separable_1d(**options) -> keras.layers.Layer:
    return qkeras.QSeparableConv1D(
        5, 3, depthwise_quantizer=W3, pointwise_quantizer=W3, name="both", **options
    )


CASES = {
    "QBatchNormalization": [
        lambda: qkeras.QBatchNormalization(
            gamma_quantizer=None, beta_quantizer=None, mean_quantizer=None, variance_quantizer=None
        ),
        lambda: qkeras.QBatchNormalization(center=True, beta_quantizer=None),
        lambda: qkeras.QBatchNormalization(scale=False, beta_quantizer=None),
    ],
    "QConv2DBatchnorm": [
        lambda: qkeras.QConv2DBatchnorm(4, 3, kernel_quantizer=W4),
        lambda: qkeras.QConv2DBatchnorm(
            4, (2, 3), (2, 1), "same", kernel_quantizer=AUTO, use_bias=False
        ),
        lambda: qkeras.QConv2DBatchnorm(4, 3, dilation_rate=2, kernel_quantizer=W4),
        lambda: qkeras.QConv2DBatchnorm(4, 3, kernel_quantizer=W4, activation=RELU),
        lambda: qkeras.QConv2DBatchnorm(
            4, 3, kernel_quantizer=W4, folding_mode="batch_stats_folding", ema_freeze_delay=3
        ),
    ],
    "QDepthwiseConv2DBatchnorm": [
        lambda: qkeras.QDepthwiseConv2DBatchnorm(3, depthwise_quantizer=W4),
        lambda: qkeras.QDepthwiseConv2DBatchnorm(
            (2, 3), (2, 2), "same", depth_multiplier=2, depthwise_quantizer=W4, use_bias=False
        ),
    ],
    "QSeparableConv2D": [
        separable,
        lambda: separable(W4, W4, strides=2, padding="same", use_bias=False),
        lambda: separable(W2, AUTO, depth_multiplier=2),
        lambda: separable(dilation_rate=2, activation=RELU),
        lambda: separable("binary(alpha=1)", "ternary(alpha=1)"),
    ],
    "QSeparableConv1D": [
        separable_1d,
        lambda: separable_1d(padding="same", strides=2, use_bias=False),
        lambda: separable_1d(depth_multiplier=2, activation=RELU),
    ],
    "QAveragePooling2D": [
        lambda: qkeras.QAveragePooling2D(2),
        lambda: qkeras.QAveragePooling2D((2, 3), 1, "same", activation="quantized_relu(4,0)"),
        lambda: qkeras.QAveragePooling2D(3, 2, average_quantizer=B8),
        lambda: qkeras.QAveragePooling2D(
            3, average_quantizer="quantized_bits(6,0,1,alpha=1)", activation="quantized_relu(4,0)"
        ),
    ],
    "QGlobalAveragePooling2D": [
        lambda: qkeras.QGlobalAveragePooling2D(),
        lambda: qkeras.QGlobalAveragePooling2D(activation="quantized_relu(4,0)"),
        lambda: qkeras.QGlobalAveragePooling2D(average_quantizer=B8),
        lambda: qkeras.QGlobalAveragePooling2D(
            keepdims=True, average_quantizer=B8, activation="quantized_relu(4,0)"
        ),
    ],
}  # fmt: skip


def test_each_layer_with_parts_has_a_case() -> None:
    assert set(CASES) == set(PARTS)


@pytest.mark.thinned(5)
@pytest.mark.parametrize(
    ("kind", "place"), [(kind, place) for kind in CASES for place in range(len(CASES[kind]))]
)
def test_the_graph_has_the_codes_of_a_layer_with_parts(kind: str, place: int) -> None:
    layer = CASES[kind][place]()
    assert type(layer).__name__ == kind
    shape = SEQUENCE if kind.endswith("1D") else IMAGE
    model = net(lambda x: act("quantized_bits(4,1,1,alpha=1)")(layer(x)), shape)
    assert parts_maker(layer) is PARTS[kind]
    assert share_different(model) == 0


REFUSED = {
    r"codes up to \d+, where one int8 kernel takes 127.*QActivation between": lambda: separable(
        *["quantized_bits(6,0,1,alpha=1)"] * 2
    ),
    "one of its kernels is quantized and the other is not": lambda: separable(second=None),
    "over which the layer sums": lambda: separable(
        qkeras.quantized_bits(4, 0, 1, alpha="auto", scale_axis=2)
    ),
    "an average_quantizer and padding 'same' are not lowered": lambda: qkeras.QAveragePooling2D(
        3, padding="same", average_quantizer=B8, name="both"
    ),
    "makes 1 / 42 0, so that all averages are 0; give it more bits": lambda: (
        qkeras.QGlobalAveragePooling2D(average_quantizer=W4, name="both")
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_layer_that_no_parts_compute_is_refused_with_the_reason(reason: str) -> None:
    model = net(lambda x: act("quantized_bits(4,1,1,alpha=1)")(REFUSED[reason]()(x)), IMAGE)
    with pytest.raises(LoweringError, match=f"layer both: .*{reason}"):
        lower(model)
