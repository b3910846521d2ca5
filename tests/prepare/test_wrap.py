from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keras_quant.methods import load_method
from keras_quant.qparams import GridSpec, unsigned
from keras_quant.schemes.bits import freed, scheme_from_bits, with_overrides
from keras_quant.schemes.scheme import Scheme

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.calibration.collect import collect  # noqa: E402
from keras_quant.calibration.quantize import quantize  # noqa: E402
from keras_quant.lower import lower, lower_exactly  # noqa: E402
from keras_quant.prepare import (  # noqa: E402
    copy_weights,
    plan,
    split_float,
    with_grids,
    wrap,
)
from keras_quant.tf import keras  # noqa: E402
from tests.lower.codes import count_differences  # noqa: E402
from tests.prepare.nets import (  # noqa: E402
    W4A4,
    chain,
    grids_and_groups,
    joins,
    points_of,
    residual,
    wrapped,
)

L = keras.layers


def test_both_halves_of_a_separable_convolution_follow_its_rules() -> None:
    x = inputs = keras.Input((8, 8, 3), name="image")
    x = L.SeparableConv2D(4, 3, name="sep")(L.ReLU(name="r")(L.Conv2D(3, 3, name="conv")(x)))
    x = L.Dense(2, name="logits")(L.Flatten(name="flat")(x))
    model = keras.Model(inputs, x)
    planned = plan(model, with_overrides(W4A4, ["sep=w2a3"]))
    assert [planned.weights[name].bits for name in ("sep_depthwise", "sep")] == [2, 2]
    grids = points_of(planned)
    between = GridSpec(bits=3, signed=True, narrow_range=True)
    assert grids["sep_depthwise"] == grids["sep"] == between
    planned = plan(model, with_overrides(W4A4, ["sep_depthwise=w8"]))
    assert planned.weights["sep_depthwise"].bits == 8
    assert planned.weights["sep"].bits == 4
    kinds = {layer.name: type(layer).__name__ for layer in wrapped(model).layers}
    assert kinds["sep_depthwise"] == "QDepthwiseConv2D"
    assert (kinds["sep_depthwise_quant"], kinds["sep"]) == ("FixedGrid", "QConv2D")


def test_quantized_twin_keeps_names_and_replaces_relus() -> None:
    model = wrapped(chain())
    assert [(layer.name, type(layer).__name__) for layer in model.layers] == [
        ("image", "InputLayer"),
        ("input_quant", "InputGrid"),
        ("conv1", "QConv2D"),
        ("bn1", "BatchNormalization"),
        ("relu1", "FixedGrid"),
        ("max", "MaxPooling2D"),
        ("conv2", "QConv2D"),
        ("conv2_relu", "FixedGrid"),
        ("drop", "Dropout"),
        ("gap", "GlobalAveragePooling2D"),
        ("gap_quant", "FixedGrid"),
        ("hidden", "QDense"),
        ("hidden_quant", "FixedGrid"),
        ("logits", "QDense"),
        ("logits_softmax", "Softmax"),
    ]


def test_weights_are_copied() -> None:
    source = chain()
    for layer in source.layers:
        shapes = [w.shape for w in layer.get_weights()]
        layer.set_weights([np.random.default_rng(0).random(shape) for shape in shapes])
    model = wrapped(source)
    for layer in source.layers:
        twin = model.get_layer(layer.name)
        for a, b in zip(layer.get_weights(), twin.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_without_training_only_what_nothing_could_move_gets_a_bias_or_a_gamma() -> None:
    x = inputs = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(4, 3, use_bias=False, bias_initializer="ones", name="bare")(x)
    x = L.Conv2D(4, 3, use_bias=False, name="conv")(x)
    x = L.ReLU(name="relu")(L.BatchNormalization(name="bn")(x))
    x = L.SeparableConv2D(4, 3, use_bias=False, name="separable")(x)
    x = L.BatchNormalization(scale=False, gamma_initializer="zeros", name="bn2")(x)
    source = keras.Model(inputs, x)
    planned = plan(source, scheme_from_bits("w4a8"))
    planned = with_grids(planned, {p.group: p.spec.at(2.0**-5) for p in planned.points})
    have, scaled = {}, {}
    for post_training in (False, True):
        method, pixels = load_method("qkeras"), unsigned(8, 1 / 255)
        model = wrap(planned, source, method, pixels, post_training=post_training)
        layers = {layer.name: layer for layer in model.layers if hasattr(layer, "use_bias")}
        have[post_training] = {name for name, layer in layers.items() if layer.use_bias}
        assert all(not np.any(layers[name].bias) for name in have[post_training])
        norm = model.get_layer("bn2")
        scaled[post_training] = norm.gamma.numpy().tolist() if norm.scale else None
    assert scaled == {False: None, True: [1.0] * 4}
    assert have == {False: set(), True: {"bare", "separable_depthwise"}}


def test_kernels_without_bias_are_moved_off_ties_where_they_got_one() -> None:
    """A code of the output for two of the input: every other sum lies on a tie."""
    step, pixels = 0.0123, unsigned(8, 1 / 255)
    inputs = keras.Input((1,), name="image")
    x = L.Dense(4, use_bias=False, name="bare")(inputs)
    source = keras.Model(inputs, L.Dense(2, name="logits")(x))
    ratios = np.array([[0.5, 0.25, -0.5, 0.75]])
    source.get_layer("bare").set_weights([ratios * step / pixels.scale])
    planned = plan(source, freed(scheme_from_bits("w8a8")))
    planned = with_grids(planned, {p.group: p.spec.at(step, 100) for p in planned.points})
    images = (np.arange(256, dtype=np.float32) / 255)[:, np.newaxis]
    different = []
    for post_training in (False, True):
        model = wrap(planned, source, load_method("qkeras"), pixels, post_training=post_training)
        graph = lower_exactly(model).graph
        different.append(count_differences(model, graph, images)[0])
    assert different[0] > 0 and different[1] == 0


def test_eight_bits_answer_nearly_as_the_float_model() -> None:
    """A step of 2**-5 and 8-bit weights: errors of a few steps at most."""
    source = residual()
    planned = plan(source, scheme_from_bits("8"))
    planned = with_grids(planned, {p.group: p.spec.at(2.0**-5) for p in planned.points})
    model = wrap(planned, source, load_method("qkeras"), unsigned(8, 1 / 255))
    images = np.random.default_rng(0).random((4, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(model(images), source(images), atol=4 * 2.0**-5)
    assert not np.array_equal(model(images), source(images))


@pytest.mark.parametrize("make", [chain, residual])
def test_float_twin_puts_out_the_values_in_front_of_each_point(make) -> None:
    source = make()
    planned = plan(source, W4A4)
    images = np.random.default_rng(0).random((2, 8, 8, 3)).astype(np.float32)
    found = split_float(planned, source, [p.after for p in planned.points])(images)
    names = [point.after.partition("/")[0] for point in planned.points]
    probe = keras.Model(source.input, [source.get_layer(name).output for name in names])
    for values, expected in zip(found, probe(images), strict=True):
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


def test_a_quantizer_takes_the_place_of_a_relu_but_follows_a_relu6() -> None:
    x = inputs = keras.Input((8, 8, 3), name="image")
    x = L.ReLU(name="open")(L.Conv2D(4, 3, name="conv1")(x))
    x = L.ReLU(6.0, name="capped")(L.Conv2D(4, 3, name="conv2")(x))
    source = keras.Model(inputs, L.Dense(2, name="logits")(L.Flatten(name="flat")(x)))
    model = wrap(plan(source, W4A4), source, load_method("qkeras"), unsigned(8, 1 / 255))
    kinds = {layer.name: type(layer).__name__ for layer in model.layers}
    found = [kinds[name] for name in ("open", "capped", "capped_quant")]
    assert found == ["FixedGrid", "ReLU", "FixedGrid"]


def test_layers_read_the_values_that_were_rounded_for_them() -> None:
    source = residual()
    model = wrap(
        plan(source, scheme_from_bits("w3a3")), source, load_method("qkeras"), unsigned(8, 1 / 255)
    )
    assert model.get_layer("conv1").input is model.get_layer("relu0_a3").output
    assert model.get_layer("left2").input is model.get_layer("sum1_a3").output
    assert model.get_layer("add1").input[0] is model.get_layer("relu0").output


def test_an_image_is_rounded_again_for_the_join_alone() -> None:
    planned = plan(joins(), W4A4)
    again = [(p.after, p.readers, p.group, p.spec) for p in planned.points if p.readers]
    signed = GridSpec(bits=4, signed=True, narrow_range=True)
    assert again == [("pool", ("late",), 0, signed)]
    model = wrapped(joins())
    assert model.get_layer("late").input[1] is model.get_layer("pool_a4").output
    assert model.get_layer("a").input is model.get_layer("input_quant").output


def test_calls_that_share_a_bias_share_their_steps_and_layers() -> None:
    shared, own = L.Conv2D(3, 1, name="shared"), L.Conv2D(3, 1, name="own")
    x = inputs = keras.Input((8, 8, 3), name="image")
    for number in range(3):
        x = L.BatchNormalization(name=f"norm{number}")(own(x))
        x = L.ReLU(name=f"norm_relu{number}")(x)
    for number in range(2):
        x = L.ReLU(name=f"relu{number}")(shared(x))
    source = keras.Model(inputs, L.Dense(2, name="logits")(L.Flatten(name="flat")(x)))
    found = grids_and_groups(plan(source, W4A4))
    # The calls of `own` have batch norms, and so biases, of their own.
    assert len({found[f"norm_relu{number}"][0] for number in range(3)}) == 3
    assert found["norm_relu2"][0] == found["relu0"][0] == found["relu1"][0]
    model = wrapped(source)
    assert model.get_layer("shared").get_output_at(1) is not None
    assert plan(source, W4A4).weights.keys() == {"own", "shared", "logits"}


def test_each_input_may_have_a_grid_of_its_own() -> None:
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    source = keras.Model([a, b], [L.Dense(2, name="x")(a), L.Dense(2, name="y")(b)])
    grids = {"b": unsigned(4, 0.5)}
    model = wrap(plan(source, W4A4), source, load_method("qkeras"), grids)
    assert [t.node.layer.name for t in model.inputs] == ["a", "b"]
    assert model.get_layer("x").input is model.inputs[0]
    assert model.get_layer("y").input is model.get_layer("b_quant").output


@pytest.mark.slow
def test_layers_kept_in_float_are_told_with_what_they_compute() -> None:
    scheme = Scheme(name="kept", rules=W4A4.rules, keep_float=("add1", "conv1"))
    planned = plan(residual(), scheme)
    assert planned.float_layers == ("conv1", "add1")
    found = grids_and_groups(planned)
    assert len({found[name][0] for name in ("relu0", "bn1", "sum1")}) == 3  # no longer tied
    model = wrap(planned, residual(), load_method("qkeras"), unsigned(8, 1 / 255))
    kinds = [type(tensor.node.layer).__name__ for tensor in model.get_layer("add1").input]
    assert kinds == ["KeepFloat", "KeepFloat"]
    assert type(model.get_layer("conv1")).__name__ == "Conv2D"


def test_weights_of_separable_convolutions_are_copied_whole_and_in_halves() -> None:
    def source() -> keras.Model:
        inner = keras.Sequential([L.SeparableConv2D(4, 3, name="sep")], name="inner")
        inputs = keras.Input((5, 5, 3), name="image")
        x = L.Flatten()(inner(L.SeparableConv2D(3, 1, name="sep")(inputs)))
        return keras.Model(inputs, L.Dense(2, name="logits")(x))

    given, twin = source(), source()
    copy_weights(given, twin)
    for ours, theirs in zip(twin.get_weights(), given.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    model = wrap(plan(given, W4A4), given, load_method("qkeras"), None)
    depthwise, pointwise, _ = given.get_layer("inner").get_layer("sep").get_weights()
    np.testing.assert_array_equal(
        model.get_layer("inner_sep_depthwise").depthwise_kernel, depthwise
    )
    np.testing.assert_array_equal(model.get_layer("inner_sep").kernel, pointwise)


def test_weights_of_models_inside_are_copied_under_their_names() -> None:
    inner = keras.Sequential([L.Dense(3, name="logits"), L.ReLU(name="r")], name="inner")
    inputs = keras.Input((4,), name="image")
    source = keras.Model(inputs, L.Dense(2, name="logits")(inner(inputs)))
    model = wrapped(source)
    for layer, name in ((inner.layers[0], "inner_logits"), (source.layers[-1], "logits")):
        np.testing.assert_array_equal(layer.kernel, model.get_layer(name).kernel)


def test_zero_points_travel_from_the_plan_to_the_graph() -> None:
    source = chain()
    planned = plan(source, scheme_from_bits("w4a8"))
    point = next(point for point in planned.points if point.after == "hidden")
    free = dataclasses.replace(point, spec=GridSpec(bits=8, signed=True, symmetric=False))
    points = tuple(free if p is point else p for p in planned.points)
    grids = {p.group: p.spec.at(0.1, 131 if p is free else 0) for p in points}
    planned = with_grids(dataclasses.replace(planned, points=points), grids)
    pixels = GridSpec(bits=8, signed=True, symmetric=False).at(1 / 128, 128)
    graph = lower(wrap(planned, source, load_method("qkeras"), pixels))
    found = {name: tensor.qparams for name, tensor in graph.tensors.items() if tensor.qparams}
    assert dataclasses.astuple(found["input_quant"]) == (1 / 128, 128, 0, 255, 8)
    assert dataclasses.astuple(found["hidden_quant"]) == (float(np.float32(0.1)), 131, 0, 255, 8)


def test_an_input_grid_leaves_a_layer_its_name() -> None:
    inputs = keras.Input((6, 6, 1), name="image")
    x = L.Conv2D(2, 3, activation="relu", name="input_quant")(inputs)
    model = wrapped(keras.Model(inputs, L.Dense(3, name="logits")(L.Flatten()(x))))
    kinds = {layer.name: type(layer).__name__ for layer in model.layers}
    assert (kinds["input_quant"], kinds["input_quant_2"]) == ("QConv2D", "InputGrid")


def test_a_norm_without_beta_gets_one_that_integers_can_move() -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 1), name="image")
    x = L.Conv2D(4, 3, use_bias=False, name="conv")(inputs)
    norm = L.BatchNormalization(center=False, name="norm")
    x = L.ReLU(name="relu")(norm(x))
    source = keras.Model(inputs, L.Dense(3, name="logits")(L.Flatten()(x)))
    norm.moving_mean.assign([0.1, -0.2, 0.3, 0.7])
    model = wrapped(source, "w8a8")
    np.testing.assert_array_equal(model.get_layer("norm").beta, np.zeros(4))
    np.testing.assert_array_equal(model.get_layer("norm").moving_mean, norm.moving_mean)
    assert lower_exactly(model).moved > 0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["qkeras", "lsq"])
def test_relu_stays_where_the_grid_of_its_group_reaches_below_0(method: str) -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3), name="image")
    a = L.ReLU(name="rectified")(L.Conv2D(4, 3, name="a")(inputs))
    x = L.Concatenate(name="joined")([a, L.Conv2D(4, 3, name="b")(inputs)])
    x = L.Conv2D(4, 3, name="c")(x)
    source = keras.Model(inputs, L.Dense(3, name="logits")(L.Flatten(name="flat")(x)))
    images = np.random.default_rng(0).random((32, 6, 6, 3)).astype(np.float32)
    scheme = freed(scheme_from_bits("8"))
    model = quantize(source, scheme, collect(plan(source, scheme), source, images), method)
    names = [layer.name for layer in model.layers]
    assert {"rectified", "rectified_quant", "b_quant"} <= set(names)
    rounded = keras.Model(model.input, model.get_layer("rectified_quant").output)(images)
    assert np.asarray(rounded).min() == 0
    behind = next(t for name, t in lower(model).tensors.items() if name == "rectified_quant")
    assert behind.qparams.qmin == behind.qparams.zero_point > 0


def test_layers_keep_their_names_whatever_activations_are_called() -> None:
    x = inputs = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(4, 3, activation="relu6", name="c")(x)
    x = L.Conv2D(4, 3, activation="tanh", name="c_relu")(x)
    x = L.ReLU(6.0, name="block/activation")(L.Conv2D(4, 3, name="c_relu_tanh")(x))
    x = L.Dense(4, activation="softmax", name="a_relu")(L.Flatten(name="flat")(x))
    source = keras.Model(inputs, x)
    kinds = {layer.name: type(layer).__name__ for layer in wrapped(source).layers}
    assert {layer.name for layer in source.layers} <= set(kinds)
    activations = {name: kinds[name] for name in ("c_relu_2", "c_relu_tanh_2", "block/activation")}
    assert list(activations.values()) == ["ReLU", "Activation", "ReLU"]
    assert kinds["a_relu_softmax"] == "Softmax"


def test_a_layer_named_as_what_another_one_does_is_its_own() -> None:
    x = inputs = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(4, 3, activation="relu", name="c")(x)
    x = L.ReLU(6.0, name="c/activation")(L.Conv2D(4, 3, name="d")(x))
    model = wrapped(keras.Model(inputs, L.Dense(2, name="logits")(L.Flatten()(x))))
    kinds = {layer.name: type(layer).__name__ for layer in model.layers}
    assert (kinds["c_relu"], kinds["c/activation"]) == ("FixedGrid", "ReLU")


def test_a_layer_given_as_activation_keeps_its_weights() -> None:
    class Scaled(L.Layer):
        def build(self, shape: tuple[int | None, ...]) -> None:
            self.factor = self.add_weight("factor", shape=(), initializer="ones")
            super().build(shape)

        def call(self, inputs):
            return keras.activations.tanh(self.factor * inputs)

    inputs = keras.Input((8,), name="image")
    activation = Scaled()
    x = L.Dense(4, activation=activation, name="d")(inputs)
    source = keras.Model(inputs, L.Dense(2, name="logits")(x))
    activation.factor.assign(-3.0)
    (twin,) = (layer for layer in wrapped(source).layers if isinstance(layer, Scaled))
    assert twin is not activation
    assert float(twin.factor) == -3.0
