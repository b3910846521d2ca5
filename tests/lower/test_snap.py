from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keras_quant.errors import LoweringError

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.calibration.collect import collect  # noqa: E402
from keras_quant.calibration.quantize import choose_grids  # noqa: E402
from keras_quant.graph.passes.realize import realize  # noqa: E402
from keras_quant.lower import lower, lower_exactly  # noqa: E402
from keras_quant.lower import snap as snap_module  # noqa: E402
from keras_quant.methods import load_method  # noqa: E402
from keras_quant.methods.layers import InputGrid  # noqa: E402
from keras_quant.methods.qkeras.door import qkeras  # noqa: E402
from keras_quant.methods.qkeras.quantizers import fitted_bits  # noqa: E402
from keras_quant.prepare import plan, with_grids, wrap  # noqa: E402
from keras_quant.qparams import unsigned  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from tests.lower.codes import count_differences  # noqa: E402
from tests.lower.random_nets import Block, Net, images_of, quantized  # noqa: E402

# Keras sums in float32: this share of codes may be the neighbouring ones, where a sum ends next
# to the middle of two codes. Measured with net_of over 512 images (1.4 million codes, TensorFlow
# 2.21 on x86): 0 at 4 bits, 3.7e-6 at 8.
FLOAT32_NOISE = {"4": 0, "8": 1e-4}
LARGEST_CODE = 8  # of 4 bits, where a batch norm turns the sign of -8
HUNDREDTH = 0.01  # of an output step: what the README promises of moved biases
# A bias of about 1, moved in float32: half of its last place, in steps of 2**-5.
FLOAT32_BIAS_STEPS = 2.0**-24 / 2.0**-8


def net_of(activation: str) -> Net:
    conv = Block(
        kind="conv",
        size=(3, 3),
        stride=1,
        padding="same",
        filters=9,
        gamma="signed",
        relu="relu",
    )
    residual = dataclasses.replace(conv, kind="residual")
    depthwise = dataclasses.replace(conv, kind="depthwise", stride=2, gamma="some zero")
    return Net(
        shape=(9, 9, 3),
        blocks=(conv, residual, depthwise),
        ending="mean",
        hidden=7,
        weight="4",
        activation=activation,
        uniform=False,
        extreme=False,
        seed=3,
    )


@pytest.mark.slow
@pytest.mark.parametrize("activation", FLOAT32_NOISE)
@pytest.mark.parametrize("limit", [127, 7])
def test_model_and_realized_graph_agree_on_codes(activation: str, limit: int) -> None:
    net = net_of(activation)
    images = images_of(net, 64)
    model = quantized(net, images)
    snap = lower_exactly(
        model, limits=lambda ideal: dict.fromkeys((node.name for node in ideal.nodes), limit)
    )
    kernels = [node.weight for node in snap.graph.nodes if node.weight and node.weight.bits == 4]
    assert max(np.abs(kernel.values).max() for kernel in kernels) <= max(limit, LARGEST_CODE)
    different, compared = count_differences(model, snap.graph, images)
    assert compared > 10_000
    assert different <= FLOAT32_NOISE[activation] * compared


@pytest.mark.slow
def test_snapping_again_moves_nothing_but_float32_dust() -> None:
    net = net_of("8")
    model = quantized(net, images_of(net, 64))
    before = model.get_weights()
    first = lower_exactly(model)
    assert first.moved > 0
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
    assert first.largest_shift_steps > 10 * FLOAT32_BIAS_STEPS
    snapped = [np.copy(w) for w in model.get_weights()]
    second = lower_exactly(model)
    assert second.largest_shift_steps <= FLOAT32_BIAS_STEPS
    for a, b in zip(snapped, model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_low_bits_move_little_and_only_where_outputs_are_wide() -> None:
    net = net_of("2")
    snap = lower_exactly(quantized(net, images_of(net, 64)))
    assert snap.channels == 9 + 9 + 9 + 7
    tensors = snap.graph.tensors
    bits = {
        node.name: tensors[node.output].qparams.bits
        for node in snap.graph.nodes
        if node.bias is not None and tensors[node.output].qparams
    }
    assert {name for name in snap.layers if bits[name] == 2} == set()
    assert snap.largest_shift_steps < HUNDREDTH


def model_of(*, norm: dict | None = None, **options) -> keras.Model:
    """One convolution whose 8-bit outputs have biases that integers cannot say."""
    inputs = keras.Input((5, 5, 3), name="image")
    x = InputGrid(1 / 255, 0, 255, name="pixels")(inputs)
    layer = qkeras.QConv2D(4, 3, kernel_quantizer=fitted_bits(8), name="conv", **options)
    x = layer(x)
    if norm is not None:
        x = keras.layers.BatchNormalization(name="norm", **norm)(x)
    x = qkeras.QActivation("quantized_relu(8,2)", name="relu")(x)
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.1, 1, w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize(
    ("model", "owners"),
    [
        (lambda: model_of(), {"conv/bias:0", "conv/kernel:0"}),
        (lambda: model_of(norm={}), {"norm/beta:0", "norm/gamma:0"}),
        (lambda: model_of(norm={}, use_bias=False), {"norm/beta:0", "norm/gamma:0"}),
        (lambda: model_of(norm={"scale": False}), {"norm/beta:0"}),
    ],
)
def test_the_last_bias_and_gain_are_what_moves(model, owners: set[str]) -> None:
    model = model()
    before = {w.name: w.numpy() for w in model.weights}
    snap = lower_exactly(model)
    assert snap.moved > 0 and snap.layers == ("conv",)
    moved = {w.name for w in model.weights if (w.numpy() != before[w.name]).any()}
    assert moved == owners
    images = np.random.default_rng(1).random((64, 5, 5, 3)).astype(np.float32)
    different, compared = count_differences(model, snap.graph, images)
    assert different <= FLOAT32_NOISE["8"] * compared


@pytest.mark.parametrize(
    "options",
    [
        {"norm": {"center": False}, "use_bias": False},
        {"norm": {"center": False}, "bias_quantizer": "quantized_bits(4,0,1,alpha=1)"},
        {"bias_quantizer": "quantized_bits(4,0,1,alpha=1)"},
    ],
    ids=str,
)
def test_bias_that_cannot_move_is_told_and_nothing_moves(options: dict) -> None:
    model = model_of(**options)
    before = [np.copy(w) for w in model.get_weights()]
    with pytest.raises(LoweringError, match="cannot be moved to what integers can say: conv. Each"):
        lower_exactly(model)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def with_and_without_norm(x) -> list:
    """A layer whose bias one call adds last, and the other in front of a batch norm."""
    conv = qkeras.QConv2D(4, 3, kernel_quantizer=fitted_bits(8), name="conv")
    return [conv(x), keras.layers.BatchNormalization(name="norm")(conv(x))]


def before_another_norm(x) -> list:
    """A batch norm that is added last in one call, and in front of another one in the other."""
    norm = keras.layers.BatchNormalization(name="norm")
    first, second = (
        qkeras.QConv2D(4, 3, kernel_quantizer=fitted_bits(8), use_bias=False, name=name)(x)
        for name in ("conv", "other")
    )
    return [norm(first), keras.layers.BatchNormalization(name="behind")(norm(second))]


def norm_of_itself(x) -> list:
    conv = qkeras.QConv2D(4, 3, kernel_quantizer=fitted_bits(8), use_bias=False, name="conv")
    norm = keras.layers.BatchNormalization(name="norm")
    return [norm(norm(conv(x)))]


@pytest.mark.parametrize("build", [with_and_without_norm, before_another_norm, norm_of_itself])
def test_what_something_else_is_computed_with_is_not_moved(build) -> None:
    inputs = keras.Input((5, 5, 3), name="image")
    values = build(InputGrid(1 / 255, 0, 255, name="pixels")(inputs))
    outputs = [
        qkeras.QActivation("quantized_relu(8,2)", name=f"relu{n}")(x) for n, x in enumerate(values)
    ]
    model = keras.Model(inputs, outputs)
    rng = np.random.default_rng(0)
    before = [rng.uniform(0.1, 1, w.shape).astype(np.float32) for w in model.get_weights()]
    model.set_weights(before)
    with pytest.raises(LoweringError, match=r"cannot be moved.*: conv\w*\. .*norm of its own for"):
        lower_exactly(model)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_layer_without_any_bias_is_left_as_it_is_even_near_a_tie() -> None:
    inputs = keras.Input((4,), name="image")
    x = InputGrid(1.0, 0, 15, name="grid")(inputs)
    x = qkeras.QDense(1, kernel_quantizer=fitted_bits(4), use_bias=False, name="dense")(x)
    model = keras.Model(inputs, qkeras.QActivation("quantized_relu(4,4)", name="codes")(x))
    # 7 * 0.2142857 is 1.5 but for float32's rounding of the scale, 0.2142857 = 1.5 / 7.
    model.get_layer("dense").set_weights([np.full((4, 1), 1.5, np.float32)])
    before = model.get_weights()
    snap = lower_exactly(model)
    assert snap.moved == 0
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def test_lowering_a_second_time_moves_nothing() -> None:
    net = net_of("8")
    model = quantized(net, images_of(net, 64))
    first = lower_exactly(model)
    weights = [np.copy(w) for w in model.get_weights()]
    second = lower_exactly(model)
    assert first.moved > 0 and second.moved == 0
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(first.graph.nodes, second.graph.nodes, strict=True):
        if a.weight is not None:
            np.testing.assert_array_equal(a.weight.values, b.weight.values)
            np.testing.assert_array_equal(a.bias, b.bias)


def test_moves_that_float32_cannot_say_are_not_made() -> None:
    # Among long sums at 8 bits are channels whose thresholds no integers put where they are. The
    # best of their biases is one point, and batch norm's mean and beta meet it but in part.
    inputs = keras.Input((1, 1, 512), name="image")
    x = InputGrid(1 / 255, 0, 255, name="pixels")(inputs)
    x = qkeras.QConv2D(256, 1, kernel_quantizer=fitted_bits(8), use_bias=False, name="conv")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    model = keras.Model(inputs, qkeras.QActivation("quantized_bits(8,2,1,alpha=1)", name="q")(x))
    rng = np.random.default_rng(0)
    model.get_layer("conv").set_weights([rng.normal(0, 0.05, (1, 1, 512, 256))])
    gamma, variance, beta, mean = rng.uniform(0.5, 1.5, (4, 256))
    model.get_layer("norm").set_weights([gamma, beta, mean, variance])
    assert lower_exactly(model).moved > 0
    assert lower_exactly(model).moved == 0


@pytest.mark.slow
def test_what_is_not_at_rest_when_rounds_end_is_checked_as_it_is(monkeypatch) -> None:
    monkeypatch.setattr(snap_module, "MAX_ROUNDS", 1)
    net = net_of("8")
    model = quantized(net, images_of(net, 64))
    snap = lower_exactly(model)
    assert snap.moved > 0
    realized = realize(lower(model), snap=False)
    assert sum(report.rounded for report in realized.reports) == 0
    for a, b in zip(realized.graph.nodes, snap.graph.nodes, strict=True):
        if a.weight is not None:
            np.testing.assert_array_equal(a.weight.values, b.weight.values)
            np.testing.assert_array_equal(a.bias, b.bias)


def swish_head(seed: int) -> tuple[keras.Model, np.ndarray]:
    """A mean, a layer of many channels and a swish, w8a8 on 12 images: a MobileNetV3's last layers.

    Their means hardly differ, so that steps of the output are small beside its bias.
    """
    layers, rng = keras.layers, np.random.default_rng(seed)
    x = inputs = keras.Input((4, 4, 3), name="image")
    x = layers.Conv2D(480, 1, activation="relu", name="many")(x)
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Conv2D(512, 1, name="head")(x)
    x = layers.Flatten()(layers.Activation("swish")(x))
    model = keras.Model(inputs, layers.Dense(10, name="logits")(x))
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.004 if len(weight.shape) == 1 else 0.05, weight.shape))
    images = rng.integers(0, 256, (12, 4, 4, 3)).astype(np.float32) / np.float32(255)
    planned = plan(model, scheme_from_bits("w8a8"))
    planned = with_grids(planned, choose_grids(planned, collect(planned, model, images)))
    return wrap(planned, model, load_method("qkeras"), unsigned(8, 1 / 255)), images


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 14])
def test_gains_that_float32_misses_come_to_rest_beside_their_target(seed: int) -> None:
    """Two of 16 seeds that went to and fro between two gains until the rounds were over."""
    model, images = swish_head(seed)
    snap = lower_exactly(model)
    different, compared = count_differences(model, snap.graph, images)
    assert (different, compared > 12 * 512) == (0, True)
