from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.lower import lower, lower_exactly  # noqa: E402
from keras_quant.lower.lower import lower_with_origins  # noqa: E402
from keras_quant.methods.layers import FixedGrid, InputGrid  # noqa: E402
from keras_quant.methods.qkeras.door import qkeras  # noqa: E402
from keras_quant.methods.qkeras.quantizers import fitted_bits  # noqa: E402
from keras_quant.methods.qkeras.repair import QConv2DTranspose  # noqa: E402
from keras_quant.proof.formats import FORMATS  # noqa: E402
from keras_quant.proof.parity import prove  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

SCALE_ROUNDING = 2.0**-22  # a fitted scale is float32, and so are the weights that it is fitted to

KINDS = {
    "conv2d": ((6, 6, 3), lambda q: qkeras.QConv2D(4, 3, kernel_quantizer=q)),
    "grouped": ((6, 6, 4), lambda q: qkeras.QConv2D(6, 3, groups=2, kernel_quantizer=q)),
    "conv1d": ((6, 3), lambda q: qkeras.QConv1D(4, 3, kernel_quantizer=q)),
    "dense": ((6,), lambda q: qkeras.QDense(4, kernel_quantizer=q)),
    "depthwise": (
        (6, 6, 3),
        lambda q: qkeras.QDepthwiseConv2D(3, depth_multiplier=2, depthwise_quantizer=q),
    ),
    "transposed": ((6, 6, 3), lambda q: QConv2DTranspose(4, 3, kernel_quantizer=q)),
}
AXES = {"depthwise": (2, 3), "transposed": 2}


def model_of(kind: str, quantizer: object | None = None, channels: int | None = None):
    """One layer without a batch norm, from pixels to 8-bit codes with real scales."""
    shape, make = KINDS[kind]
    quantizer = quantizer or fitted_bits(8, scale_axis=AXES.get(kind, -1), fit="search")
    inputs = keras.Input(shape, name="image")
    x = make(quantizer)(InputGrid(1 / 255, 0, 255, name="pixels")(inputs))
    model = keras.Model(inputs, FixedGrid(0.0123, 0, 255, 100, name="codes")(x))
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.2, w.shape) for w in model.get_weights()])
    return model


@pytest.mark.thinned(3)
@pytest.mark.parametrize("kind", KINDS)
def test_a_channel_times_a_gain_has_the_same_codes_and_so_much_larger_a_step(kind: str) -> None:
    model = model_of(kind)
    graph, origins = lower_with_origins(model)
    node = next(node for node in graph.nodes if node.weight)
    gain = origins[node.name].gamma
    assert (gain.numpy() == np.ones(node.weight.scale.shape)).all()
    gains = (1 + np.arange(len(node.weight.scale)) / 64).astype(np.float32)
    before = model.get_weights()
    read = gain.read(gains)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(read.values, node.weight.values)
    np.testing.assert_allclose(read.scale, node.weight.scale * gains, rtol=SCALE_ROUNDING)
    gain.assign(gains)
    (again,) = (node.weight for node in lower(model).nodes if node.weight)
    np.testing.assert_array_equal(again.values, read.values)
    np.testing.assert_array_equal(again.scale, read.scale)


@pytest.mark.parametrize(
    "quantizer",
    [
        lambda: qkeras.quantized_bits(8, 0, symmetric=1, alpha=1.0),
        lambda: fitted_bits(8, scale_axis=None),
    ],
    ids=["a step of its own", "one step for all channels"],
)
def test_a_kernel_whose_channels_have_no_steps_of_their_own_keeps_its_gain(quantizer) -> None:
    _, origins = lower_with_origins(model_of("conv2d", quantizer()))
    assert [origin.gamma for origin in origins.values()] == [None]


def test_gains_keep_float32_away_from_ties_where_no_batch_norm_follows() -> None:
    """In TensorRT's file, which is tried in floats: with gains of 1 it has 3 other codes."""
    model = model_of("conv2d")
    before = model.get_weights()
    snap = lower_exactly(model)
    kernel, bias = (b / a - 1 for a, b in zip(before, model.get_weights(), strict=True))
    assert 0 < np.abs(kernel).max() < 1e-3
    form = FORMATS["tensorrt"]
    pixels = np.random.default_rng(1).integers(0, 256, (2880, 6, 6, 3))
    images = pixels.astype(np.float32) / np.float32(255)
    proof = prove(
        snap.graph, form, form.definition.emit(snap.graph), {snap.graph.inputs[0]: images}
    )
    assert proof.codes_different == 0 and proof.codes_compared == 495_360
