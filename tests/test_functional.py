from __future__ import annotations

import pytest

from keras_quant.errors import LoweringError

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.functional import class_name, consumers, describe  # noqa: E402
from keras_quant.tf import keras, qkeras, tf  # noqa: E402

L = keras.layers


def net(*layers: keras.layers.Layer, shape: tuple[int, ...] = (6, 6, 2)) -> keras.Model:
    x = inputs = keras.Input(shape, name="image")
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x, name="net")


def test_fused_activations_become_steps_of_their_own() -> None:
    model = net(
        L.Conv2D(3, 3, activation="relu", name="a"),
        L.Conv2D(3, 1, activation="relu6", name="b"),
        qkeras.QConv2D(3, 1, activation="quantized_relu(4,2)", name="c"),
        L.Flatten(name="flat"),
        L.Dense(3, activation="softmax", name="d"),
    )
    steps = [(s.name, s.kind, s.inputs, s.max_value) for s in describe(model)]
    assert steps == [
        ("image", "input", (), None),
        ("a", "conv2d", ("image",), None),
        ("a/activation", "relu", ("a",), None),
        ("b", "conv2d", ("a/activation",), None),
        ("b/activation", "relu", ("b",), 6.0),
        ("c", "conv2d", ("b/activation",), None),
        ("c/activation", "quantizer", ("c",), None),
        ("flat", "flatten", ("c/activation",), None),
        ("d", "dense", ("flat",), None),
        ("d/activation", "softmax", ("d",), None),
    ]


@pytest.mark.parametrize(
    ("activation", "kind", "max_value"),
    [("relu", "relu", None), ("relu6", "relu", 6.0), ("softmax", "softmax", None),
     ("linear", "linear", None)],
)  # fmt: skip
def test_activation_layers_are_what_they_compute(
    activation: str, kind: str, max_value: float | None
) -> None:
    step = describe(net(L.Activation(activation)))[-1]
    assert (step.kind, step.max_value) == (kind, max_value)


def test_quantizers_carry_their_grid() -> None:
    step = describe(net(qkeras.QActivation("quantized_relu(4,2)")))[-1]
    assert step.kind == "quantizer"
    assert (step.qparams.scale, step.qparams.qmax) == (0.25, 15)


def test_sequential_models_are_followed() -> None:
    model = keras.Sequential([L.Flatten(input_shape=(2, 2, 1)), L.Dense(3)])
    assert [step.kind for step in describe(model)] == ["input", "flatten", "dense"]


def test_steps_come_after_those_that_they_read() -> None:
    inputs = keras.Input((6, 6, 2))
    long = L.Conv2D(2, 1, name="c2")(L.Conv2D(2, 1, name="c1")(inputs))
    model = keras.Model(inputs, L.Add()([inputs, long]))
    steps = describe(model)
    seen: set[str] = set()
    for step in steps:
        assert set(step.inputs) <= seen
        seen.add(step.name)
    assert {s.kind for s in consumers(steps)[steps[0].name]} == {"conv2d", "add"}


def test_qkeras_layers_count_as_what_they_compute() -> None:
    assert class_name(qkeras.QDepthwiseConv2D(3)) == "DepthwiseConv2D"
    assert class_name(qkeras.QActivation("quantized_relu(4)")) == "QActivation"


def test_all_unsupported_layers_are_told_at_once_with_reasons() -> None:
    x = inputs = keras.Input((8, 8, 4))
    x = L.Conv2D(4, 3, groups=2, name="grouped")(x)
    x = L.DepthwiseConv2D(3, depth_multiplier=2, name="multiplied")(x)
    x = L.PReLU(name="prelu")(x)
    x = L.ReLU(negative_slope=0.1, name="leaky")(x)
    x = L.Activation("tanh", name="tanh")(x)
    x = L.BatchNormalization(axis=1, name="bn_rows")(x)
    x = L.AveragePooling2D(3, padding="same", name="edges")(x)
    x = qkeras.QBatchNormalization(name="qbn")(x)
    x = qkeras.QAveragePooling2D(2, average_quantizer="quantized_bits(4,0,1)", name="qpool")(x)
    x = L.Dense(3, name="everywhere")(x)
    x = L.GlobalAveragePooling2D(keepdims=True, name="kept")(x)
    x = L.Softmax(axis=1, name="rows")(x)
    with pytest.raises(LoweringError) as caught:
        describe(keras.Model(inputs, x, name="zoo"))
    for expected in (
        "model zoo: 10 layers are not supported: ",
        "grouped (Conv2D: groups 2; 1 is supported)",
        "multiplied (DepthwiseConv2D: depth_multiplier 2; 1 is supported)",
        "prelu (PReLU: a slope for each position; shared_axes=[1, 2] is supported)",
        "bn_rows (BatchNormalization: axis",
        "edges (AveragePooling2D: padding 'same' that reaches over the edge",
        "qbn (QBatchNormalization",
        "qpool (QAveragePooling2D",
        "everywhere (Dense: input of shape",
        "kept (GlobalAveragePooling2D: keepdims",
        "rows (Softmax: axis 1",
        "Supported: InputLayer, Conv2D",
    ):
        assert expected in str(caught.value), expected


def test_padding_same_that_pads_nothing_is_supported() -> None:
    model = net(L.AveragePooling2D(2, padding="same"))
    assert describe(model)[-1].kind == "avg_pool"


def test_layer_used_twice_is_refused() -> None:
    shared = L.Conv2D(2, 1, name="shared")
    with pytest.raises(LoweringError, match=r"shared \(used more than once\)"):
        describe(net(shared, shared))


def test_several_inputs_are_refused() -> None:
    a, b = keras.Input((4,)), keras.Input((4,))
    with pytest.raises(LoweringError, match="2 inputs, 1 outputs: one of each is supported"):
        describe(keras.Model([a, b], L.Add()([a, b])))


def test_subclassed_model_is_refused_with_the_remedy() -> None:
    class Own(keras.Model):
        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            return inputs

    with pytest.raises(LoweringError, match="subclassed model.*build it with the functional API"):
        describe(Own())


def test_sequential_model_without_a_shape_is_refused_with_the_remedy() -> None:
    with pytest.raises(LoweringError, match="is not built: give its first layer an input_shape"):
        describe(keras.Sequential([L.Dense(3)]))
