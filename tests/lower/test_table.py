"""Nets with functions of one value and products have one set of codes from Keras to TFLite."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.errors import LoweringError
from keras_quant.proof.formats import FORMATS
from keras_quant.proof.parity import Parity, prove

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.calibration.collect import collect  # noqa: E402
from keras_quant.calibration.quantize import choose_grids  # noqa: E402
from keras_quant.graph.ir import Graph  # noqa: E402
from keras_quant.lower import lower, lower_exactly  # noqa: E402
from keras_quant.lower.table import tabulate_codes  # noqa: E402
from keras_quant.methods import load_method  # noqa: E402
from keras_quant.model.operations import Lookup, describe  # noqa: E402
from keras_quant.model.pointwise import hard_sigmoid_keras3, hard_swish  # noqa: E402
from keras_quant.prepare import plan, with_grids, wrap  # noqa: E402
from keras_quant.qparams import signed, unsigned  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402
from tests.lower.codes import count_differences  # noqa: E402

L = keras.layers
SHAPE = (8, 7, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, *SHAPE)).astype(np.float32) / np.float32(255)


def classifier(*layers: L.Layer, body: Callable | None = None) -> keras.Model:
    x = inputs = keras.Input(SHAPE, name="image")
    for layer in layers:
        x = layer(x)
    x = x if body is None else body(x)
    return keras.Model(inputs, L.Dense(3, name="logits")(L.Flatten(name="flat")(x)))


def quantized(source: keras.Model, bits: str) -> keras.Model:
    rng = np.random.default_rng(1)
    for layer in source.layers:
        layer.set_weights([w + rng.normal(0, 0.2, w.shape) for w in layer.get_weights()])
        if isinstance(layer, L.BatchNormalization):
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, layer.moving_variance.shape))
    planned = plan(source, scheme_from_bits(bits))
    planned = with_grids(planned, choose_grids(planned, collect(planned, source, IMAGES)))
    return wrap(planned, source, load_method("qkeras"), unsigned(8, 1 / 255))


def assert_exact(source: keras.Model, bits: str) -> tuple[Graph, Parity]:
    """Keras' quantizers, the reference and the TFLite file have the same codes."""
    model = quantized(source, bits)
    graph = lower_exactly(model).graph
    different, count = count_differences(model, graph, IMAGES)
    assert (different, count > 0) == (0, True)
    keras = {graph.outputs[0]: np.asarray(model(IMAGES, training=False))}
    parity = prove(graph, FORMATS["tflite"], emit_tflite(graph), {"image": IMAGES}, keras=keras)
    assert (parity.codes_different, parity.codes_tolerance, parity.passed) == (0, 0.0, True)
    return graph, parity


FUNCTIONS = {
    "sigmoid": lambda: L.Activation("sigmoid"),
    "tanh": lambda: L.Activation("tanh"),
    "swish": lambda: L.Activation("swish"),
    "gelu": lambda: L.Activation("gelu"),
    "hard_sigmoid": lambda: L.Activation("hard_sigmoid"),
    "hard_sigmoid of Keras 3": lambda: L.Activation(hard_sigmoid_keras3),
    "hard_swish": lambda: L.Activation(hard_swish),
    "LeakyReLU": lambda: L.LeakyReLU(),
    "PReLU": lambda: L.PReLU(shared_axes=[1, 2]),
    "PReLU of positions": lambda: L.PReLU(),
    "PReLU of columns": lambda: L.PReLU(shared_axes=[1, 3]),
    "PReLU of one slope": lambda: L.PReLU(shared_axes=[1, 2, 3]),
    "ELU": lambda: L.ELU(0.5),
    "bent ReLU": lambda: L.ReLU(4.0, negative_slope=0.1, threshold=0.2),
    "a user's": lambda: L.Activation(lambda x: tf.sin(x)),
}


# Each function at one of the widths; the other one takes as long again.
CASES = [
    pytest.param(name, bits, marks=() if number % 2 == other else pytest.mark.slow)
    for number, name in enumerate(FUNCTIONS)
    for other, bits in enumerate(("w4a4", "w8a8"))
]


@pytest.mark.thinned(5)
@pytest.mark.parametrize(("name", "bits"), CASES)
def test_functions_of_one_value_are_exact_from_keras_to_tflite(name: str, bits: str) -> None:
    layers = [L.Conv2D(4, 3, name="c"), L.BatchNormalization(name="b"), FUNCTIONS[name]()]
    graph, _ = assert_exact(classifier(*layers, L.Conv2D(5, 2, name="d"), L.ReLU()), bits)
    node = next(node for node in graph.nodes if node.op == "lookup")
    assert graph.tensors[node.inputs[0]].qparams.bits == 8
    assert graph.tensors[node.output].qparams.bits == int(bits[-1])


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["flat", "pixel"])
def test_squeeze_and_excite_is_exact_on_fast_kernels(shape: str) -> None:
    def body(x):
        height, width, channels = x.shape[1:]
        pool = L.AveragePooling2D((height, width), name="pool")
        if shape == "flat":
            gate = L.Dense(4, activation="relu", name="s1")(L.GlobalAveragePooling2D(name="p")(x))
            gate = L.Dense(channels, activation="sigmoid", name="s2")(gate)
        else:
            gate = L.Conv2D(4, 1, activation="relu", name="s1")(pool(x))
            gate = L.Conv2D(channels, 1, activation="hard_sigmoid", name="s2")(gate)
        return L.Multiply(name="m")([x, gate])

    for first in (hard_swish, "relu"):
        source = classifier(L.Conv2D(8, 3, activation=first, name="c"), body=body)
        graph, parity = assert_exact(source, "w4a4")
        assert parity.kernels == ("XNNPACK",)
        node = next(node for node in graph.nodes if node.op == "multiply")
        assert graph.tensors[node.output].qparams.signed is (first is hard_swish)


def test_a_product_of_a_value_and_a_function_of_it_is_exact() -> None:
    def body(x):
        return L.Add(name="sum")([x, L.Multiply()([x, L.Activation("sigmoid")(x)])])

    assert_exact(classifier(L.Conv2D(4, 3, name="c"), body=body), "w4a4")


def test_fused_functions_become_layers_of_their_own_names() -> None:
    source = classifier(L.Conv2D(4, 3, activation="swish", name="c"))
    names = [layer.name for layer in quantized(source, "w4a4").layers]
    assert names[2:6] == ["c", "c_quant", "c_swish", "c_swish_quant"]


def test_a_fused_function_may_have_no_name() -> None:
    source = classifier(L.Conv2D(4, 3, activation=lambda x: tf.sin(x), name="c"))
    names = [layer.name for layer in quantized(source, "w4a4").layers]
    assert names[2:6] == ["c", "c_quant", "c_lookup", "c_lookup_quant"]


@pytest.mark.parametrize("name", ["sigmoid", "softmax"])
def test_what_a_model_puts_out_is_computed_in_float(name: str) -> None:
    inputs = keras.Input(SHAPE, name="image")
    x = L.Conv2D(4, 3, activation="relu", name="c")(inputs)
    x = L.Dense(3, activation=name, name="logits")(L.Flatten(name="flat")(x))
    graph, _ = assert_exact(keras.Model(inputs, x), "w4a4")
    assert [node.op for node in graph.nodes[-2:]] in (["dense", "softmax"], ["dense", "pointwise"])


def test_a_function_without_float_form_is_refused_by_name() -> None:
    inputs = keras.Input(SHAPE, name="image")
    x = L.Activation("selu", name="odd")(L.Conv2D(4, 3, name="c")(inputs))
    x = L.PReLU(shared_axes=[1, 2], name="bent")(x)
    with pytest.raises(LoweringError, match=r"odd \(Activation: reads float.*bent \(PReLU: reads"):
        lower(keras.Model(inputs, x))


def test_a_function_that_gives_no_number_is_refused() -> None:
    operation = Lookup(name="l", layer=L.Activation("tanh"), function=tf.math.log)
    source = signed(4, 0.5, narrow_range=True)
    with pytest.raises(LoweringError, match=r"l \(Activation: not finite between -3.5 and 3.5"):
        tabulate_codes(operation, source)


def test_a_function_of_several_values_is_no_lookup() -> None:
    def centred(x):
        return x - tf.reduce_mean(x)

    with pytest.raises(LoweringError, match="odd"):
        describe(classifier(L.Activation(centred, name="odd")))


def test_products_of_three_are_products_of_two() -> None:
    source = classifier(body=lambda x: L.Multiply(name="cube")([x, x, x]))
    assert [operation.name for operation in describe(source) if operation.kind == "multiply"] == [
        *["cube_of2", "cube"]
    ]
