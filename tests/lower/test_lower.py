from __future__ import annotations

import numpy as np
import pytest

from keras_quant.errors import LoweringError
from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.reference import run_reference

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.lower import lower  # noqa: E402
from keras_quant.methods.layers import InputGrid  # noqa: E402
from keras_quant.methods.qkeras.door import qkeras  # noqa: E402
from keras_quant.methods.qkeras.quantizers import fitted_bits  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from tests.lower.codes import count_differences  # noqa: E402

L = keras.layers
SHAPE = (7, 6, 3)
# Logits: the reference sums in float64, Keras in float32.
FLOAT32_SUM = 1e-5


def conv(filters: int, size: int = 3, *, name: str, bits: int = 4, **more) -> L.Layer:
    return qkeras.QConv2D(filters, size, kernel_quantizer=fitted_bits(bits), name=name, **more)


def dense(units: int, *, name: str, **more) -> L.Layer:
    return qkeras.QDense(units, kernel_quantizer=fitted_bits(4), name=name, **more)


def relu(name: str, bits: int = 4, integer: int = 1) -> L.Layer:
    return qkeras.QActivation(f"quantized_relu({bits},{integer})", name=name)


def both_signs(name: str, bits: int = 4) -> L.Layer:
    return qkeras.QActivation(f"quantized_bits({bits},1,1,alpha=1)", name=name)


def net(*layers: L.Layer, head: bool = True) -> keras.Model:
    """A chain behind 8-bit pixels, with random weights, ended by a quantized head."""
    inputs = keras.Input(SHAPE, name="image")
    x = InputGrid(1 / 255, 0, 255, name="pixels")(inputs)
    for layer in layers:
        x = layer(x)
    if head:
        x = dense(3, name="logits")(L.Flatten(name="flat")(x))
    return randomized(keras.Model(inputs, x, name="net"))


def randomized(model: keras.Model) -> keras.Model:
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            sizes = [w.shape for w in layer.get_weights()]
            values = [rng.normal(0, 1, size) for size in sizes]
            values[-1] = rng.uniform(0.1, 2, sizes[-1])
            layer.set_weights(values)
        elif layer.weights:
            layer.set_weights([rng.normal(0, 0.4, w.shape) for w in layer.get_weights()])
    return model


def images_of(model: keras.Model) -> np.ndarray:
    shape = (16, *model.input_shape[1:])
    return np.random.default_rng(1).integers(0, 256, shape).astype(np.float32) / np.float32(255)


def node_of(graph: Graph, name: str) -> Node:
    return next(node for node in graph.nodes if node.name == name)


def assert_same(model: keras.Model, *, compared: bool = True) -> Graph:
    """The graph has the codes of the model's quantizers, and its output."""
    graph, images = lower(model), images_of(model)
    different, count = count_differences(model, graph, images)
    assert different == 0
    assert count > 0 or not compared
    output = run_reference(graph, {"image": images})[graph.outputs[0]]
    expected = model(images, training=False).numpy()
    np.testing.assert_allclose(output, expected, rtol=FLOAT32_SUM, atol=FLOAT32_SUM)
    return graph


BODIES = {
    "conv": lambda: [conv(4, name="c"), relu("r")],
    "strides": lambda: [conv(4, name="c", strides=2, padding="same"), relu("r")],
    "dilation": lambda: [conv(4, 2, name="c", dilation_rate=2, padding="same"), relu("r")],
    "no bias": lambda: [conv(4, name="c", use_bias=False), relu("r")],
    "signed": lambda: [conv(4, name="c"), both_signs("s"), conv(2, name="d"), relu("r")],
    "batch norm": lambda: [conv(9, name="c"), L.BatchNormalization(name="b"), relu("r")],
    "no gamma": lambda: [conv(4, name="c"), L.BatchNormalization(scale=False), relu("r")],
    "no beta": lambda: [conv(4, name="c"), L.BatchNormalization(center=False), relu("r")],
    "two batch norms": lambda: [
        conv(4, name="c"), L.BatchNormalization(), L.BatchNormalization(), relu("r")
    ],
    "relu before": lambda: [conv(4, name="c"), L.ReLU(), both_signs("s")],
    "relu6 before": lambda: [conv(4, name="c"), L.ReLU(6.0), relu("r", 8, 3)],
    "fused relu": lambda: [conv(4, name="c", activation="relu"), relu("r")],
    "fused quantizer": lambda: [conv(4, name="c", activation="quantized_relu(4,1)")],
    "depthwise": lambda: [
        conv(4, name="c"), relu("r"),
        qkeras.QDepthwiseConv2D(3, depthwise_quantizer=fitted_bits(4, True, 2), name="d"),
        L.BatchNormalization(name="b"), relu("s"),
    ],
    "max pool": lambda: [conv(4, name="c"), relu("r"), L.MaxPooling2D(2, padding="same")],
    "avg pool": lambda: [
        conv(4, name="c"), relu("r"), L.AveragePooling2D(2), relu("p", 8, 1), conv(2, 1, name="d"),
    ],
    "mean": lambda: [
        conv(4, name="c"), relu("r"), L.GlobalAveragePooling2D(), relu("p", 8, 1),
    ],
    "padding": lambda: [
        conv(4, name="c"), relu("r"), L.ZeroPadding2D(((1, 0), (2, 1))),
        conv(2, name="d"), relu("s"),
    ],
    "dropout": lambda: [conv(4, name="c"), L.Dropout(0.5), relu("r"), L.Dropout(0.5)],
    "requantized": lambda: [conv(4, name="c"), relu("r", 8, 1), relu("s", 3, 1)],
    "cut on the same grid": lambda: [conv(4, name="c"), relu("r", 8, 5), relu("s", 4, 1)],
    "kept on the same grid": lambda: [conv(4, name="c"), relu("r", 4, 1), relu("s", 8, 5)],
    "pooled pixels": lambda: [L.MaxPooling2D(2), conv(4, name="c"), relu("r")],
}  # fmt: skip


def test_pads_are_taken_in_by_the_windows_behind_them() -> None:
    graph = assert_same(
        net(
            *[L.ZeroPadding2D(2, name="c_pad"), conv(4, 5, name="c", strides=2), relu("r")],
            *[L.ZeroPadding2D(1, name="p_pad"), L.MaxPooling2D(3, 2, name="p")],
            *[L.ZeroPadding2D(1, name="d_pad"), conv(2, name="d"), both_signs("s")],
            *[L.ZeroPadding2D(1, name="q_pad"), L.MaxPooling2D(3, 2, name="q")],  # below 0
        )
    )
    assert [node.name for node in graph.nodes if node.op == "pad"] == ["q_pad"]
    assert [node_of(graph, name).attrs["padding"] for name in "cpdq"] == [
        *[((2, 2), (2, 2)), ((1, 1), (1, 1)), "same", "valid"]
    ]
    assert [node_of(graph, name).layers for name in "cp"] == [("c", "r", "c_pad"), ("p", "p_pad")]


@pytest.mark.thinned(3)
@pytest.mark.parametrize("body", BODIES)
def test_graph_has_the_codes_of_the_model(body: str) -> None:
    assert_same(net(*BODIES[body]()))


@pytest.mark.parametrize(
    ("ending", "ops"),
    [
        (lambda: [L.Softmax(name="p")], ["dense", "softmax"]),
        (lambda: [L.Activation("softmax", name="p")], ["dense", "softmax"]),
        (lambda: [L.ReLU(name="p")], ["dense"]),
    ],
)
def test_ends_behind_the_head(ending, ops: list[str]) -> None:
    body = [conv(4, name="c"), relu("r"), L.Flatten(), dense(3, name="d"), *ending()]
    graph = assert_same(net(*body, head=False))
    assert [node.op for node in graph.nodes][-len(ops) :] == ops
    assert graph.tensors[graph.outputs[0]].qparams is None


def test_batch_norm_folds_into_scale_sign_and_bias() -> None:
    """By hand: gamma 2, 0 and -1, variance 4, mean 1, beta 3, bias 5."""
    layer = conv(3, 1, name="c", bits=2)
    norm = L.BatchNormalization(epsilon=0, name="b")
    model = net(layer, norm, relu("r"))
    kernel = np.broadcast_to([[0.5], [-0.5], [0.0]], (3, 3)).reshape(1, 1, 3, 3)
    layer.set_weights([kernel, np.full(3, 5.0)])
    norm.set_weights([np.array([2.0, 0, -1]), np.full(3, 3.0), np.ones(3), np.full(3, 4.0)])
    node = node_of(lower(model), "c")
    np.testing.assert_array_equal(node.weight.values[0, 0], [[1, 0, -1], [-1, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(node.weight.scale, [0.5, 1, 0.25])
    np.testing.assert_array_equal(node.bias, [4 * 1 + 3, 3, 4 * -0.5 + 3])
    assert node.layers == ("c", "b", "r")
    assert_same(model)


def test_batch_norm_alone_is_a_depthwise_kernel_of_signs() -> None:
    """By hand: gamma 2, 0 and -1, variance 4, mean 1, beta 3."""
    norm = L.BatchNormalization(epsilon=0, name="b")
    model = net(norm, relu("r"), dense(3, name="d"), relu("s"))
    norm.set_weights([np.array([2.0, 0, -1]), np.full(3, 3.0), np.ones(3), np.full(3, 4.0)])
    node = node_of(lower(model), "b")
    assert (node.op, node.weight.bits, node.layers) == ("depthwise_conv2d", 2, ("b", "r"))
    np.testing.assert_array_equal(node.weight.values[0, 0], [1, 0, -1])
    np.testing.assert_array_equal(node.weight.scale, [1, 1, 0.5])
    np.testing.assert_array_equal(node.bias, [2, 3, 3.5])


def test_batch_norm_in_float_stays_in_float() -> None:
    body = [conv(4, name="c"), L.ReLU(), L.BatchNormalization(name="late1"), relu("r")]
    graph = assert_same(net(*body, L.BatchNormalization(name="late2"), relu("s")))
    assert node_of(graph, "late1").weight.bits == 32
    assert node_of(graph, "late2").weight.bits == 2


def test_relu6_ends_the_codes_where_six_is() -> None:
    graph = lower(net(conv(4, name="c"), L.ReLU(6.0), relu("r", 8, 3)))
    qparams = graph.tensors["r"].qparams
    assert (qparams.qmin, qparams.qmax, qparams.scale) == (0, 192, 2.0**-5)


def test_relu_in_front_of_signed_codes_cuts_the_negative_ones() -> None:
    graph = lower(net(conv(4, name="c"), L.ReLU(), both_signs("s")))
    assert graph.tensors["s"].qparams.qmin == 0


@pytest.mark.parametrize(("step", "top"), [(0.7, 9), (4.0, 2), (0.4, 15)])
def test_relu6_between_two_codes_ends_where_it_rounds_to(step: float, top: int) -> None:
    model = net(conv(4, name="c"), L.ReLU(6.0), InputGrid(step, 0, 15, name="odd"))
    assert lower(model).tensors["odd"].qparams.qmax == top
    assert_same(model)


def test_relu6_below_the_first_code_is_refused() -> None:
    with pytest.raises(LoweringError, match=r"ReLU6: all of it rounds to 0 on the step 16\.0"):
        lower(net(conv(4, name="c"), L.ReLU(6.0), InputGrid(16.0, 0, 15, name="odd")))


def residual(*, sum_relu: bool) -> keras.Model:
    inputs = keras.Input(SHAPE, name="image")
    x = relu("r0")(conv(4, name="c0")(InputGrid(1 / 255, 0, 255, name="pixels")(inputs)))
    branch = L.BatchNormalization(name="b1")(conv(4, padding="same", name="c1")(x))
    branch = qkeras.QActivation("quantized_bits(8,4,0,alpha=1)", name="q1")(branch)
    x = L.Add(name="add")([x, branch])
    x = relu("sum")(x) if sum_relu else both_signs("sum")(x)
    x = dense(3, name="logits")(L.GlobalAveragePooling2D(name="gap")(x))
    return randomized(keras.Model(inputs, x, name="net"))


@pytest.mark.parametrize("sum_relu", [True, False])
def test_residual_sum_has_the_codes_of_the_model(sum_relu: bool) -> None:
    graph = assert_same(residual(sum_relu=sum_relu))
    assert node_of(graph, "add").inputs == ("r0", "q1")


def test_one_value_read_by_a_quantizer_and_by_another_layer() -> None:
    inputs = keras.Input(SHAPE, name="image")
    x = conv(3, 1, name="c")(InputGrid(1 / 255, 0, 255, name="pixels")(inputs))
    y = L.Add(name="add")([L.ReLU(name="cut")(x), relu("r")(x)])
    model = keras.Model(inputs, dense(2, name="logits")(L.Flatten(name="f")(y)))
    assert_same(randomized(model))


# Layers left in float


def test_float_model_is_lowered_to_a_float_graph() -> None:
    layers = [L.Conv2D(4, 3, name="c"), L.BatchNormalization(), L.ReLU(6.0), L.MaxPooling2D(2)]
    x = inputs = keras.Input(SHAPE, name="image")
    for layer in [*layers, L.AveragePooling2D(2), L.Flatten(), L.Dense(3, activation="softmax")]:
        x = layer(x)
    graph = assert_same(randomized(keras.Model(inputs, x)), compared=False)
    assert all(tensor.qparams is None for tensor in graph.tensors.values())


@pytest.mark.parametrize("position", [0, 1])
def test_one_layer_in_float_between_quantized_ones(position: int) -> None:
    layers = [conv(4, name="c0"), conv(4, name="c1")]
    layers[position] = L.Conv2D(4, 3, name=f"c{position}")
    graph = assert_same(net(layers[0], relu("r0"), layers[1], relu("r1")))
    node = node_of(graph, f"c{position}")
    assert node.weight.scale is None and node.weight.bits == 32
    assert graph.tensors[node.inputs[0]].qparams is None
    assert graph.tensors["r1"].qparams.bits == 4


def test_float_activations_keep_weights_in_codes() -> None:
    inputs = keras.Input(SHAPE, name="image")
    x = L.BatchNormalization()(conv(4, name="c")(inputs))
    x = dense(3, name="logits")(L.Flatten()(L.ReLU()(x)))
    graph = assert_same(randomized(keras.Model(inputs, x)), compared=False)
    for name in ("c", "logits"):
        assert node_of(graph, name).weight.values.dtype == np.int8


# What cannot be lowered


def test_kernel_codes_beyond_int8_are_refused_with_the_remedy() -> None:
    layer = qkeras.QConv2D(2, 1, kernel_quantizer="quantized_bits(8,0,0,alpha=1)", name="c")
    model = net(layer, relu("r"))
    layer.set_weights([np.full((1, 1, 3, 2), -1.0), np.zeros(2)])
    with pytest.raises(LoweringError, match="layer c: .* codes from -128 to 0.*symmetric=1"):
        lower(model)


def test_kernels_that_cannot_be_read_are_all_told_at_once() -> None:
    odd = "bernoulli()"
    model = net(
        qkeras.QConv2D(2, 1, kernel_quantizer=odd, name="a"), relu("r"),
        qkeras.QConv2D(2, 1, kernel_quantizer=odd, name="b"), relu("s"),
    )  # fmt: skip
    with pytest.raises(LoweringError, match="layer a: a kernel of bernoulli.*layer b: a kernel"):
        lower(model)


def test_what_a_concatenation_reads_twice_is_computed_once() -> None:
    inputs = keras.Input(SHAPE, name="image")
    x = conv(4, name="c")(InputGrid(1 / 255, 0, 255, name="pixels")(inputs))
    x = both_signs("s")(L.Concatenate(name="twice")([x, x]))
    graph = assert_same(
        randomized(keras.Model(inputs, dense(3, name="logits")(L.Flatten(name="flat")(x))))
    )
    assert [node.op for node in graph.nodes] == [
        *("quantize", "conv2d", "concat", "reshape", "dense")
    ]
