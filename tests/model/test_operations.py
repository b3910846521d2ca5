from __future__ import annotations

import functools

import numpy as np
import pytest

from keras_quant.errors import LoweringError

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods.qkeras.door import qkeras  # noqa: E402
from keras_quant.methods.readers import class_name  # noqa: E402
from keras_quant.model.operations import (  # noqa: E402
    describe,
)
from keras_quant.tf import keras, tf  # noqa: E402

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
    operations = [(s.name, s.kind, s.inputs, s.max_value) for s in describe(model)]
    assert operations == [
        ("image", "input", (), None),
        ("a", "conv2d", ("image",), None),
        ("a/activation", "relu", ("a",), None),
        ("b", "conv2d", ("a/activation",), None),
        ("b/activation", "relu", ("b",), 6.0),
        ("c", "conv2d", ("b/activation",), None),
        ("c/activation", "quantizer", ("c",), None),
        ("flat", "reshape", ("c/activation",), None),
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
    operation = describe(net(L.Activation(activation))).in_order[-1]
    assert (operation.kind, operation.max_value) == (kind, max_value)


def test_quantizers_carry_their_grid() -> None:
    operation = describe(net(qkeras.QActivation("quantized_relu(4,2)"))).in_order[-1]
    assert operation.kind == "quantizer"
    assert (operation.qparams.scale, operation.qparams.qmax) == (0.25, 15)


def test_sequential_models_are_followed() -> None:
    model = keras.Sequential([L.Flatten(input_shape=(2, 2, 1)), L.Dense(3)])
    assert [operation.kind for operation in describe(model)] == ["input", "reshape", "dense"]


def test_operations_come_after_those_that_they_read() -> None:
    inputs = keras.Input((6, 6, 2))
    long = L.Conv2D(2, 1, name="c2")(L.Conv2D(2, 1, name="c1")(inputs))
    model = keras.Model(inputs, L.Add()([inputs, long]))
    operations = describe(model)
    seen: set[str] = set()
    for operation in operations:
        assert set(operation.inputs) <= seen
        seen.add(operation.name)
    assert {s.kind for s in operations.readers[operations.inputs[0]]} == {"conv2d", "add"}


def test_qkeras_layers_count_as_what_they_compute() -> None:
    assert class_name(qkeras.QDepthwiseConv2D(3)) == "DepthwiseConv2D"
    assert class_name(qkeras.QActivation("quantized_relu(4)")) == "QActivation"


def test_all_unsupported_layers_are_told_at_once_with_reasons() -> None:
    x = inputs = keras.Input((8, 8, 4))
    x = L.Conv2DTranspose(4, 2, dilation_rate=2, output_padding=0, name="holes")(x)
    x = L.Conv2DTranspose(4, 2, strides=3, output_padding=1, name="grown")(x)
    x = L.PReLU(name="prelu")(x)
    x = L.ReLU(negative_slope=0.1, name="leaky")(x)
    x = L.Activation("tanh", name="tanh")(x)
    x = L.BatchNormalization(axis=1, name="bn_rows")(x)
    x = L.Softmax(axis=1, name="rows")(L.Minimum(name="least")([x, x, x]))
    x = L.UpSampling2D(2, interpolation="bilinear", name="smooth")(x)
    x = L.Resizing(5, 5, interpolation="nearest", name="odd")(x)
    x = L.Concatenate(axis=0, name="batches")([x, x])
    with pytest.raises(LoweringError) as caught:
        describe(keras.Model(inputs, x, name="zoo"))
    for expected in (
        "model zoo: 8 layers are not supported: ",
        "holes (Conv2DTranspose: output_padding and dilation_rate (2, 2); one of them is supported",
        "grown (Conv2DTranspose: output_padding with a kernel smaller than the strides (3, 3); a "
        "kernel_size of at least the strides is supported)",
        "bn_rows (BatchNormalization: axis",
        "smooth (UpSampling2D: interpolation bilinear; nearest is supported)",
        "sizes that are multiples of the input's, without crop_to_aspect_ratio, are supported",
        "batches (Concatenate: axis 0 is the batch; the others are supported)",
        "rows (Softmax: axis 1",
        "least (Minimum: not supported)",
        "Supported: InputLayer, Conv1D, Conv2D",
    ):
        assert expected in str(caught.value), expected


def test_the_halves_of_a_separable_convolution_become_operations() -> None:
    model = net(L.SeparableConv2D(3, 3, activation="relu", name="sep"), L.ReLU(name="last"))
    operations = [(s.name, s.kind, s.inputs, s.owner) for s in describe(model)]
    assert operations == [
        ("image", "input", (), None),
        ("sep_depthwise", "depthwise_conv2d", ("image",), "sep"),
        ("sep", "conv2d", ("sep_depthwise",), "sep"),
        ("sep/activation", "relu", ("sep",), "sep"),
        ("last", "relu", ("sep/activation",), None),
    ]


def test_each_call_of_a_separable_convolution_has_the_same_halves() -> None:
    shared = L.SeparableConv2D(2, 3, padding="same", name="sep")
    model = net(shared, L.MaxPooling2D(name="pool"), shared, L.Conv2D(2, 1, name="sep_depthwise"))
    operations = {
        s.name: (s.layer_name, s.inputs, s.input_shapes, s.shape) for s in describe(model)
    }
    image, half = (6, 6, 2), (3, 3, 2)
    assert operations == {
        "image": ("image", (), (), image),
        "sep_depthwise_2": ("sep_depthwise_2", ("image",), (image,), image),
        "sep": ("sep", ("sep_depthwise_2",), (image,), image),
        "pool": ("pool", ("sep",), (image,), half),
        "sep_call2_depthwise": ("sep_depthwise_2", ("pool",), (half,), half),
        "sep_call2": ("sep", ("sep_call2_depthwise",), (half,), half),
        "sep_depthwise": ("sep_depthwise", ("sep_call2",), (half,), half),
    }
    layers = {s.name: s.layer for s in describe(model)}
    assert layers["sep_depthwise_2"] is layers["sep_call2_depthwise"]
    assert layers["sep"] is layers["sep_call2"]


def test_a_rescaling_of_values_with_other_channels_is_refused() -> None:
    scale = L.Rescaling(2.0, name="scale")
    a, b = keras.Input((4, 4, 3)), keras.Input((5, 5, 3))
    assert describe(keras.Model([a, b], [scale(a), scale(b)])).in_order[-1].kind == "batch_norm"
    c = keras.Input((4, 3))
    with pytest.raises(LoweringError, match="one number of axes and of channels is supported"):
        describe(keras.Model([a, c], [scale(a), scale(c)]))


@pytest.mark.parametrize(
    "layer",
    [
        *[L.Dropout(0.5), L.SpatialDropout2D(0.5), L.AlphaDropout(0.5), L.GaussianDropout(0.5)],
        *[L.GaussianNoise(0.1), L.ActivityRegularization(0.1), L.Identity()],
    ],
)
def test_what_does_nothing_in_inference_passes_values_on(layer: L.Layer) -> None:
    model = net(layer)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 2)).astype(np.float32)
    np.testing.assert_array_equal(model(x, training=False), x)
    assert describe(model).in_order[-1].kind == "dropout"


def test_models_inside_models_and_shared_layers_are_opened() -> None:
    inner = keras.Sequential([L.Conv2D(2, 3, activation="relu", name="conv")], name="inner")
    x = inputs = keras.Input((7, 7, 2), name="image")
    model = keras.Model(inputs, L.Conv2D(1, 1, name="last")(inner(inner(x))))
    operations = [(s.name, s.layer_name, s.inputs, s.shape) for s in describe(model)]
    assert operations == [
        ("image", "image", (), (7, 7, 2)),
        ("conv", "conv", ("image",), (5, 5, 2)),
        ("conv/activation", "conv", ("conv",), (5, 5, 2)),
        ("conv_call2", "conv", ("conv/activation",), (3, 3, 2)),
        ("conv_call2/activation", "conv", ("conv_call2",), (3, 3, 2)),
        ("last", "last", ("conv_call2/activation",), (3, 3, 1)),
    ]


def test_inputs_and_outputs_are_in_the_models_order() -> None:
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    one, two = L.Dense(2, name="one")(a), L.Add(name="two")([a, b])
    operations = describe(keras.Model([b, a], [two, one, two]))
    assert operations.inputs == ("b", "a")
    assert operations.outputs == ("two", "one", "two")
    assert [s.kind for s in operations.readers["two"]] == ["output", "output"]


def test_a_problem_of_a_shared_layer_is_told_once() -> None:
    shared = L.Softmax(axis=1, name="rows")
    with pytest.raises(LoweringError, match=r"1 layers are not supported: rows \(Softmax"):
        describe(net(shared, shared))


def test_subclassed_model_is_refused_with_the_remedy() -> None:
    class Own(keras.Model):
        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            return inputs

    with pytest.raises(LoweringError, match="subclassed model.*build it with the functional API"):
        describe(Own())


def test_sequential_model_without_a_shape_is_refused_with_the_remedy() -> None:
    with pytest.raises(LoweringError, match="is not built: give its first layer an input_shape"):
        describe(keras.Sequential([L.Dense(3)]))


@pytest.mark.parametrize(
    ("activation", "kind", "max_value"),
    [
        (keras.layers.ReLU(), "relu", None),
        (keras.layers.ReLU(6.0), "relu", 6.0),
        (keras.layers.ReLU(3.0), "lookup", None),
        (keras.layers.LeakyReLU(0.1), "lookup", None),
        (keras.layers.Softmax(), "softmax", None),
        (tf.nn.softmax, "softmax", None),
    ],
)
def test_a_layer_given_as_activation_is_what_it_computes(
    activation: object, kind: str, max_value: float | None
) -> None:
    operation = describe(net(keras.layers.Dense(3, activation=activation, name="dense"))).in_order[
        -1
    ]
    assert (operation.name, operation.kind, operation.max_value) == (
        "dense/activation",
        kind,
        max_value,
    )


def test_an_activation_that_is_not_saved_is_refused_with_what_to_write() -> None:
    leaky = functools.partial(tf.nn.leaky_relu, alpha=0.1)
    with pytest.raises(LoweringError, match=r"dense \(activation functools.*write a layer such"):
        describe(net(keras.layers.Dense(3, activation=leaky, name="dense")))


@pytest.mark.parametrize("layer", ["GaussianNoise", "SpatialDropout2D", "RandomZoom", "Identity"])
def test_what_works_in_training_only_passes_values_on(layer: str) -> None:
    made = getattr(keras.layers, layer)(*([] if layer == "Identity" else [0.1]), name="noise")
    assert describe(net(made)).in_order[-1].kind in ("dropout", "linear")


@pytest.mark.parametrize(
    ("layer", "shape", "supported"),
    [
        (L.Conv2D(2, 3, padding="same", name="c"), (2, 6, 6, 3), False),
        (L.Conv1D(2, 3, padding="same", name="c"), (2, 5, 6, 3), False),
        (L.Conv2D(2, 1, strides=2, name="c"), (2, 6, 6, 3), False),
        (L.Conv2D(2, 1, name="c"), (2, 6, 6, 3), True),
        (L.Conv1D(2, 3, padding="causal", name="c"), (5, 6, 3), True),
    ],
)
def test_windows_do_not_slide_from_one_image_into_the_next(
    layer: L.Layer, shape: tuple[int, ...], supported: bool
) -> None:
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    if supported:
        assert describe(model).in_order[-1].kind == "conv2d"
        return
    with pytest.raises(LoweringError, match=r"c \(Conv.D: a window over inputs of shape .*is supp"):
        describe(model)


@pytest.mark.parametrize("operate", [lambda a, b: a + b, lambda a, b: b * a])
def test_an_operator_that_would_meet_the_batch_is_told(operate) -> None:
    inputs = keras.Input((4, 4, 3))
    mean = L.GlobalAveragePooling2D()(inputs)
    with pytest.raises(LoweringError, match=r"lays the batch of one beside.*Add or Multiply"):
        describe(keras.Model(inputs, operate(inputs, mean)))


def test_a_layer_may_have_the_name_of_what_another_one_does() -> None:
    model = net(
        L.Conv2D(3, 1, activation="relu", name="c"),
        L.Conv2D(3, 1, activation="relu", name="c/activation"),
        L.ReLU(6.0, name="c/activation_2"),
    )
    operations = [(s.name, s.kind, s.inputs) for s in describe(model)]
    assert operations[1:] == [
        ("c", "conv2d", ("image",)),
        ("c/activation_3", "relu", ("c",)),
        ("c/activation", "conv2d", ("c/activation_3",)),
        ("c/activation/activation", "relu", ("c/activation",)),
        ("c/activation_2", "relu", ("c/activation/activation",)),
    ]


def test_values_that_part_and_meet_often_are_followed_once() -> None:
    """Each time doubles the ways, which no machine could follow one by one."""
    inputs = keras.Input((4,), name="image")
    x = L.Dense(4, name="first")(inputs)
    for _ in range(40):
        x = L.Maximum()([L.Dropout(0.1)(x), L.Dropout(0.1)(x)])
    operations = describe(keras.Model(inputs, L.Dense(2, name="last")(x)))
    assert operations.read_by(operations.by_name["last"]) == ("first",)
    assert [operation.name for operation in operations.users("first")] == ["last"]
