"""Each kind of convolution, from a float model to a file that answers as the trained one does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.calibration.collect import collect  # noqa: E402
from keras_quant.calibration.quantize import choose_grids  # noqa: E402
from keras_quant.emit.tflite.emit import emit_tflite  # noqa: E402
from keras_quant.graph.ir import Graph  # noqa: E402
from keras_quant.lower import lower, lower_exactly  # noqa: E402
from keras_quant.methods import load_method  # noqa: E402
from keras_quant.model.logits import AnswerFunction  # noqa: E402
from keras_quant.prepare import plan, with_grids, wrap  # noqa: E402
from keras_quant.proof.formats import FORMATS  # noqa: E402
from keras_quant.proof.parity import Parity, prove  # noqa: E402
from keras_quant.qparams import unsigned  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from tests.lower.codes import count_differences  # noqa: E402

L = keras.layers
IMAGE, SEQUENCE, VECTOR = (7, 6, 4), (9, 4), (10,)
BITS = ("1", "2", "wta4", "w4a8", "8")
# Keras sums in float32, in an order of its own: where a sum ends next to the middle of two
# codes, it may take the other one.
FLOAT32_ROUNDING = 1e-3
FLOAT32_SUM = 1e-5


def block(*layers: L.Layer) -> tuple[L.Layer, ...]:
    """Layers with a batch norm and a ReLU behind them."""
    return (*layers, L.BatchNormalization(), L.ReLU())


def residual(x: Any) -> Any:
    y = L.Add()([x, L.Conv2D(x.shape[-1], 3, padding="same")(x)])
    return L.ReLU()(L.BatchNormalization(name="norm")(y))


def residual_1d(x: Any) -> Any:
    x = L.Conv1D(6, 1, activation="relu")(x)
    return L.ReLU()(L.Add()([x, L.Conv1D(6, 3, padding="causal")(x)]))


def shared_norm(x: Any) -> Any:
    """A convolution that a batch norm and another layer read."""
    x = L.Conv2D(4, 3)(x)
    return L.Add()([L.ReLU()(L.BatchNormalization()(x)), L.Conv2D(4, 1)(x)])


# Input shape, and the layers in front of the logits.
NETS: dict[str, tuple[tuple[int, ...], Any]] = {
    "conv1d": (SEQUENCE, lambda: block(L.Conv1D(5, 3, strides=2))),
    "conv1d same": (SEQUENCE, lambda: block(L.Conv1D(5, 4, padding="same", dilation_rate=2))),
    "conv1d causal": (SEQUENCE, lambda: block(L.Conv1D(5, 3, padding="causal", dilation_rate=2))),
    "conv1d groups": (SEQUENCE, lambda: block(L.Conv1D(6, 3, groups=2))),
    "sequences": (SEQUENCE, lambda: [
        *block(L.Conv1D(5, 3)), L.ZeroPadding1D((2, 1)), L.MaxPooling1D(2),
        *block(L.Conv1D(6, 3, padding="same")), L.AveragePooling1D(2), L.GlobalAveragePooling1D(),
    ]),
    "sequence residual": (SEQUENCE, lambda: [residual_1d]),
    "transpose": (IMAGE, lambda: block(L.Conv2DTranspose(5, 3, strides=2))),
    "transpose same": (IMAGE, lambda: block(L.Conv2DTranspose(5, (3, 4), 2, padding="same"))),
    "transpose gaps": (IMAGE, lambda: block(L.Conv2DTranspose(5, (1, 2), strides=(2, 3)))),
    "transpose by one": (IMAGE, lambda: [L.Conv2DTranspose(5, 3, use_bias=False), L.ReLU()]),
    "transpose padded": (IMAGE, lambda: block(L.Conv2DTranspose(5, 3, 2, output_padding=(1, 0)))),
    "transpose padded same": (IMAGE, lambda: block(
        L.Conv2DTranspose(5, (3, 4), 2, "same", output_padding=(0, 1)))),
    "transpose dilated": (IMAGE, lambda: block(L.Conv2DTranspose(5, (2, 3), dilation_rate=2))),
    "transpose dilated same": (IMAGE, lambda: block(
        L.Conv2DTranspose(5, (2, 3), padding="same", dilation_rate=3))),
    "transpose1d": (SEQUENCE, lambda: block(L.Conv1DTranspose(5, 3, strides=2))),
    "transpose1d same": (SEQUENCE, lambda: block(
        L.Conv1DTranspose(5, 4, 3, "same", activation="relu", output_padding=1))),
    "transpose1d dilated": (SEQUENCE, lambda: block(L.Conv1DTranspose(5, 3, dilation_rate=2))),
    "separable": (IMAGE, lambda: block(L.SeparableConv2D(6, 3, padding="same", strides=2))),
    "separable multiplied": (IMAGE, lambda: block(L.SeparableConv2D(6, 2, depth_multiplier=2))),
    "separable fused": (IMAGE, lambda: [
        L.SeparableConv2D(6, 2, activation="relu", use_bias=False)]),
    "separable1d": (SEQUENCE, lambda: block(L.SeparableConv1D(6, 3, padding="same"))),
    "depthwise1d": (SEQUENCE, lambda: block(L.DepthwiseConv1D(3, strides=2, depth_multiplier=2))),
    "dilation": (IMAGE, lambda: block(L.Conv2D(5, 2, dilation_rate=(2, 3)))),
    "dilated depthwise": (IMAGE, lambda: block(
        L.DepthwiseConv2D(3, dilation_rate=2, padding="same"))),
    "depth multiplier": (IMAGE, lambda: block(
        L.DepthwiseConv2D((2, 3), strides=2, depth_multiplier=3, padding="same"))),
    "groups": (IMAGE, lambda: block(L.Conv2D(6, (3, 2), groups=2, strides=2, padding="same"))),
    "dense on images": (IMAGE, lambda: [L.Dense(5, activation="relu"), L.Dense(6), L.ReLU()]),
    "dense on sequences": (SEQUENCE, lambda: block(L.Dense(5))),
    "dense on more axes": ((2, 3, 4, 5), lambda: block(L.Dense(6))),
    "norm behind add": (IMAGE, lambda: [residual]),
    "norm behind relu": (IMAGE, lambda: [
        L.Conv2D(5, 3, activation="relu"), L.BatchNormalization(), L.Conv2D(3, 1)]),
    "norm first": (IMAGE, lambda: [L.BatchNormalization(), *block(L.Conv2D(5, 3))]),
    "norms": (IMAGE, lambda: [L.MaxPooling2D(), L.BatchNormalization(), L.BatchNormalization()]),
    "norm read twice": (IMAGE, lambda: [shared_norm]),
    "norm of a vector": (VECTOR, lambda: [L.Dense(7, activation="relu"), L.BatchNormalization()]),
    "rescaling": (IMAGE, lambda: [L.Rescaling(2.0, offset=-1.0), *block(L.Conv2D(5, 3))]),
    "rescaling channels": (IMAGE, lambda: [
        L.Rescaling([1.0, 2.0, 0.5, -3.0], offset=[0.1, -1.0, 0, 2.0]), L.Conv2D(5, 3)]),
    "normalization": (IMAGE, lambda: [
        L.Normalization(mean=[0.4, 0.5, 0.6, 0.1], variance=[0.1, 0.2, 0.01, 0.04]),
        *block(L.Conv2D(5, 3, padding="same"))]),
    "normalization of rows": (IMAGE, lambda: [
        L.Normalization(axis=1, mean=np.linspace(0.2, 0.8, 7), variance=np.linspace(0.1, 1, 7)),
        *block(L.Conv2D(5, 3, padding="same"))]),
    "normalization of positions": (IMAGE, lambda: [
        L.Normalization(axis=(1, 2, 3), mean=np.random.default_rng(0).random(IMAGE),
                        variance=np.random.default_rng(1).uniform(0.1, 0.5, IMAGE)),
        *block(L.Conv2D(5, 3, padding="same"))]),
    "normalization of a vector": (VECTOR, lambda: [
        L.Normalization(axis=None, mean=0.4, variance=0.1), L.Dense(5, activation="relu")]),
}  # fmt: skip


def build(name: str) -> keras.Model:
    """A float net with random weights: gammas of both signs, and some that are 0."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    shape, layers = NETS[name]
    x = inputs = keras.Input(shape, name="image")
    for layer in layers():
        x = layer(x)
    x = L.Flatten(name="flat")(x) if len(x.shape) > 2 else x
    model = keras.Model(inputs, L.Dense(3, name="logits")(x), name="net")
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            size = layer.gamma.shape
            gamma = rng.uniform(-1.5, 1.5, size) * (rng.random(size) > 0.2)
            mean, beta = rng.normal(0, 0.3, (2, *size))
            layer.set_weights([gamma, beta, mean, rng.uniform(0.1, 1.5, size)])
        elif getattr(layer, "use_bias", False):
            layer.bias.assign(rng.normal(0, 0.3, layer.bias.shape))
    return model


def images_of(name: str, count: int = 64) -> np.ndarray:
    shape = (count, *NETS[name][0])
    return np.random.default_rng(1).integers(0, 256, shape).astype(np.float32) / np.float32(255)


def proven(graph: Graph, images: np.ndarray, model: keras.Model) -> Parity:
    answers = dict(zip(graph.outputs, AnswerFunction(model)(images), strict=True))
    content = emit_tflite(graph)
    return prove(graph, FORMATS["tflite"], content, {"image": images}, keras=answers)


def quantized(name: str, bits: str) -> keras.Model:
    source, images = build(name), images_of(name)
    planned = plan(source, scheme_from_bits(bits))
    planned = with_grids(planned, choose_grids(planned, collect(planned, source, images)))
    return wrap(planned, source, load_method("qkeras"), unsigned(8, 1 / 255))


@pytest.mark.parametrize("name", NETS)
def test_float_graph_answers_as_the_model(name: str) -> None:
    model, images = build(name), images_of(name, 4)
    graph = lower(model)
    assert all(tensor.qparams is None for tensor in graph.tensors.values())
    parity = proven(graph, images, model)
    assert parity.passed
    assert parity.kernels == ("XNNPACK",)
    assert parity.outputs[0].keras_difference <= FLOAT32_SUM * 10


def check_file(name: str, bits: str) -> None:
    model, images = quantized(name, bits), images_of(name)
    snap = lower_exactly(model)
    parity = proven(snap.graph, images, model)
    different, compared = count_differences(model, snap.graph, images)
    assert parity.codes_different == 0
    assert parity.passed
    assert parity.kernels == parity.probe_kernels == ("XNNPACK",)
    assert compared > 0
    assert different <= FLOAT32_ROUNDING * compared
    assert all_in_codes(snap.graph)


@pytest.mark.thinned(9)
@pytest.mark.parametrize(("number", "name"), list(enumerate(NETS)))
def test_file_answers_as_the_model(number: int, name: str) -> None:
    check_file(name, BITS[number % len(BITS)])


@pytest.mark.slow
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", NETS)
def test_file_answers_as_the_model_at_all_bits(name: str, bits: str) -> None:
    check_file(name, bits)


def all_in_codes(graph: Graph) -> bool:
    """Whether only the input and the logits are floats."""
    real = [name for name, tensor in graph.tensors.items() if tensor.qparams is None]
    return set(real) == {*graph.inputs, *graph.outputs}
