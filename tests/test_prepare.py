from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keras_quant.errors import LoweringError, SchemeError
from keras_quant.methods import load_method
from keras_quant.methods.grid import ActivationGrid
from keras_quant.qparams import unsigned
from keras_quant.scheme import FLOAT, QuantSpec, Rule, Scheme, scheme_from_bits, with_overrides

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.prepare import (  # noqa: E402
    Plan,
    copy_weights,
    plan,
    split_float,
    with_steps,
    wrap,
)
from keras_quant.tf import keras  # noqa: E402
from keras_quant.ties import BRANCH_BITS  # noqa: E402

L = keras.layers
W4A4 = scheme_from_bits("4")
BRANCH = ActivationGrid(bits=BRANCH_BITS, signed=True)


def unsigned_grid(bits: int) -> ActivationGrid:
    return ActivationGrid(bits=bits, signed=False)


def chain() -> keras.Model:
    x = inputs = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(4, 3, use_bias=False, name="conv1")(x)
    x = L.BatchNormalization(name="bn1")(x)
    x = L.ReLU(name="relu1")(x)
    x = L.MaxPooling2D(name="max")(x)
    x = L.Conv2D(4, 1, activation="relu", name="conv2")(x)
    x = L.Dropout(0.5, name="drop")(x)
    x = L.GlobalAveragePooling2D(name="gap")(x)
    x = L.Dense(5, name="hidden")(x)
    x = L.Dense(3, activation="softmax", name="logits")(x)
    return keras.Model(inputs, x, name="chain")


def residual() -> keras.Model:
    """Two blocks; the second one's shortcut has a convolution. Then a linear bottleneck."""
    inputs = keras.Input((8, 8, 3), name="image")
    x = L.ReLU(name="relu0")(L.Conv2D(4, 1, name="conv0")(inputs))
    a = L.BatchNormalization(name="bn1")(L.Conv2D(4, 3, padding="same", name="conv1")(x))
    x = L.ReLU(name="sum1")(L.Add(name="add1")([x, a]))
    a = L.Conv2D(4, 1, name="left2")(x)
    b = L.Conv2D(4, 1, name="right2")(x)
    x = L.Add(name="add2")([a, b])
    x = L.Conv2D(4, 1, name="conv3")(x)
    x = L.GlobalAveragePooling2D(name="gap")(L.ReLU(name="relu3")(x))
    return keras.Model(inputs, L.Dense(2, name="logits")(x), name="residual")


def points_of(planned: Plan) -> dict[str, ActivationGrid]:
    return {point.after: point.grid for point in planned.points}


def test_chain_is_rounded_once_a_block_and_not_behind_the_logits() -> None:
    assert points_of(plan(chain(), W4A4)) == {
        "relu1": unsigned_grid(4),
        "conv2/activation": unsigned_grid(4),
        "gap": unsigned_grid(8),
        "hidden": ActivationGrid(bits=4, signed=True, narrow_range=True),
    }


def relu6_net(reader: keras.layers.Layer) -> keras.Model:
    inputs = keras.Input((8, 8, 3), name="image")
    x = L.ReLU(6.0, name="relu")(L.Conv2D(4, 1, name="conv")(inputs))
    x = L.Flatten()(reader(L.ZeroPadding2D(name="pad")(x)))
    return keras.Model(inputs, L.Dense(2, name="logits")(x), name="relu6")


@pytest.mark.parametrize(
    ("bits", "reader", "bound"),
    [
        ("w4a8", L.Conv2D(4, 3, name="reader"), 6.0),
        ("w4a8", L.DepthwiseConv2D(3, name="reader"), 6.0),
        ("w4a4", L.Conv2D(4, 3, name="reader"), None),
        ("w4a8", L.AveragePooling2D(name="reader"), None),
    ],
    ids=["convolution", "depthwise", "4 bits", "average"],
)
def test_bound_of_a_relu6_counts_in_front_of_kernels_of_8_bits(bits, reader, bound) -> None:
    assert points_of(plan(relu6_net(reader), scheme_from_bits(bits)))["relu"].bound == bound


def test_bound_does_not_count_for_a_kernel_with_a_narrower_input() -> None:
    scheme = scheme_from_bits("w4a8")
    narrow = Rule(match="reader", input=QuantSpec(bits=4))
    planned = plan(
        relu6_net(L.Conv2D(4, 3, name="reader")),
        dataclasses.replace(scheme, rules=(*scheme.rules, narrow)),
    )
    assert points_of(planned)["relu"].bound is None


def test_kernels_get_the_bits_of_the_scheme() -> None:
    weights = plan(chain(), with_overrides(W4A4, ["hidden=wf"])).weights
    w4, w8 = QuantSpec(bits=4), QuantSpec(bits=8)
    assert weights == {"conv1": w8, "conv2": w4, "hidden": FLOAT, "logits": w8}
    assert plan(chain(), with_overrides(W4A4, ["hidden=wf"])).float_layers == ("hidden",)


def test_everything_around_an_addition_shares_one_step() -> None:
    planned = plan(residual(), W4A4)
    groups: dict[int, set[str]] = {}
    for point in planned.points:
        groups.setdefault(point.group, set()).add(point.after)
    tied = [names for names in groups.values() if len(names) > 1]
    # add1 ties relu0 (its shortcut), bn1 (its branch) and sum1; sum1 feeds no other addition.
    assert tied == [{"relu0", "bn1", "sum1"}, {"left2", "right2", "add2"}]


def test_branches_of_an_addition_have_eight_signed_bits() -> None:
    planned = plan(residual(), W4A4)
    branches = {point.after for point in planned.points if point.is_branch}
    assert branches == {"bn1", "left2", "right2"}
    grids = points_of(planned)
    assert all(grids[name] == BRANCH for name in branches)
    assert grids["sum1"] == unsigned_grid(4)
    assert grids["add2"] == ActivationGrid(bits=4, signed=True, narrow_range=True)


def test_additions_in_a_row_share_one_step() -> None:
    x = inputs = keras.Input((4, 4, 2))
    for number in range(3):
        x = L.Add(name=f"add{number}")([x, L.Conv2D(2, 1, name=f"conv{number}")(x)])
    planned = plan(keras.Model(inputs, L.Dense(2)(L.Flatten()(x))), W4A4)
    assert {p.group for p in planned.points if p.after in ("conv1", "conv2", "add1", "add2")} == {
        next(p.group for p in planned.points if p.after == "add0")
    }


def test_batch_norm_that_no_kernel_takes_in_is_rounded_on_its_own() -> None:
    x = inputs = keras.Input((8, 8, 3), name="image")
    x = L.BatchNormalization(name="norm0")(x)
    x = L.Conv2D(4, 3, activation="relu", name="conv")(x)
    x = L.BatchNormalization(name="norm1")(x)
    x = L.Add(name="add")([x, L.Conv2D(4, 1, name="branch")(x)])
    x = L.ReLU(name="relu")(L.BatchNormalization(name="norm2")(x))
    x = L.Dense(2, name="logits")(L.Flatten(name="flat")(x))
    grids = points_of(plan(keras.Model(inputs, x), W4A4))
    assert set(grids) == {"norm0", "conv/activation", "norm1", "branch", "add", "relu"}
    assert grids["relu"] == unsigned_grid(4)
    assert grids["norm0"].bits == 8  # as wide as the pixels that it scales


def test_both_halves_of_a_separable_convolution_follow_its_rules() -> None:
    x = inputs = keras.Input((8, 8, 3), name="image")
    x = L.SeparableConv2D(4, 3, name="sep")(L.ReLU(name="r")(L.Conv2D(3, 3, name="conv")(x)))
    x = L.Dense(2, name="logits")(L.Flatten(name="flat")(x))
    model = keras.Model(inputs, x)
    planned = plan(model, with_overrides(W4A4, ["sep=w2a3"]))
    assert [planned.weights[name].bits for name in ("sep_depthwise", "sep")] == [2, 2]
    grids = points_of(planned)
    between = ActivationGrid(bits=3, signed=True, narrow_range=True)
    assert grids["sep_depthwise"] == grids["sep"] == between
    planned = plan(model, with_overrides(W4A4, ["sep_depthwise=w8"]))
    assert planned.weights["sep_depthwise"].bits == 8
    assert planned.weights["sep"].bits == 4
    kinds = {layer.name: type(layer).__name__ for layer in wrapped(model).layers}
    assert kinds["sep_depthwise"] == "QDepthwiseConv2D"
    assert (kinds["sep_depthwise_quant"], kinds["sep"]) == ("QActivation", "QConv2D")


def test_one_bit_signed_activations_become_minus_one_zero_one() -> None:
    grids = points_of(plan(chain(), scheme_from_bits("w4a1")))
    assert grids["hidden"] == ActivationGrid(bits=2, signed=True, narrow_range=True)
    assert grids["relu1"] == unsigned_grid(1)


def test_float_scheme_has_no_points() -> None:
    planned = plan(chain(), scheme_from_bits("float"))
    assert planned.points == ()
    assert planned.float_layers == ("conv1", "conv2", "hidden", "logits")
    assert planned.input_spec.is_float


def test_rule_for_a_layer_that_is_not_there_is_told() -> None:
    with pytest.raises(SchemeError, match="'conv9' matches none of .*close names: conv"):
        plan(chain(), with_overrides(W4A4, ["conv9=w8a8"]))


def wrapped(source: keras.Model, bits: str = "4") -> keras.Model:
    planned = plan(source, scheme_from_bits(bits))
    steps = {point.group: 0.25 for point in planned.points}
    return wrap(with_steps(planned, steps), source, load_method("qkeras"), unsigned(8, 1 / 255))


def test_quantized_twin_keeps_names_and_replaces_relus() -> None:
    model = wrapped(chain())
    assert [(layer.name, type(layer).__name__) for layer in model.layers] == [
        ("image", "InputLayer"),
        ("input_quant", "InputGrid"),
        ("conv1", "QConv2D"),
        ("bn1", "BatchNormalization"),
        ("relu1", "QActivation"),
        ("max", "MaxPooling2D"),
        ("conv2", "QConv2D"),
        ("conv2_relu", "QActivation"),
        ("drop", "Dropout"),
        ("gap", "GlobalAveragePooling2D"),
        ("gap_quant", "QActivation"),
        ("hidden", "QDense"),
        ("hidden_quant", "QActivation"),
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


def test_eight_bits_answer_nearly_as_the_float_model() -> None:
    """A step of 2**-5 and 8-bit weights: errors of a few steps at most."""
    source = residual()
    planned = plan(source, scheme_from_bits("8"))
    planned = with_steps(planned, {point.group: 2.0**-5 for point in planned.points})
    model = wrap(planned, source, load_method("qkeras"), unsigned(8, 1 / 255))
    images = np.random.default_rng(0).random((4, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(model(images), source(images), atol=4 * 2.0**-5)
    assert not np.array_equal(model(images), source(images))


@pytest.mark.parametrize("make", [chain, residual])
def test_float_twin_puts_out_the_values_in_front_of_each_point(make) -> None:
    source = make()
    planned = plan(source, W4A4)
    images = np.random.default_rng(0).random((2, 8, 8, 3)).astype(np.float32)
    found = split_float(planned, source)(images)
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
    assert found == ["QActivation", "ReLU", "QActivation"]


def test_a_quantized_model_is_not_quantized_again() -> None:
    source = chain()
    model = wrap(plan(source, W4A4), source, load_method("qkeras"), unsigned(8, 1 / 255))
    with pytest.raises(LoweringError, match=r"quantized already \(input_quant, conv1, .*kq export"):
        plan(model, W4A4)


def test_wide_sums_are_rounded_again_in_front_of_their_readers() -> None:
    planned = plan(residual(), scheme_from_bits("w3a3"))
    stream = {p.after: p.grid for p in planned.points if not p.readers}
    again = {(p.after, p.readers): p for p in planned.points if p.readers}
    assert stream["sum1"] == stream["relu0"] == unsigned_grid(8)  # one step, so one width
    assert stream["relu3"] == unsigned_grid(3)
    assert {key: p.grid.bits for key, p in again.items()} == {
        ("relu0", ("conv1",)): 3,
        ("sum1", ("left2", "right2")): 3,
        ("add2", ("conv3",)): 3,
    }
    groups = [p.group for p in planned.points if p.readers]
    assert len(set(groups)) == 3 and not set(groups) & {
        p.group for p in planned.points if not p.readers
    }


def test_layers_read_the_values_that_were_rounded_for_them() -> None:
    source = residual()
    model = wrap(
        plan(source, scheme_from_bits("w3a3")), source, load_method("qkeras"), unsigned(8, 1 / 255)
    )
    assert model.get_layer("conv1").input is model.get_layer("relu0_a3").output
    assert model.get_layer("left2").input is model.get_layer("sum1_a3").output
    assert model.get_layer("add1").input[0] is model.get_layer("relu0").output


def grids_and_groups(planned: Plan) -> dict[str, tuple[int, ActivationGrid]]:
    return {p.after: (p.group, p.grid) for p in planned.points if not p.readers}


def joins() -> keras.Model:
    """A join of a ReLU and a signed convolution, whose join with the image is read."""
    inputs = keras.Input((8, 8, 3), name="image")
    a = L.ReLU(name="relu")(L.Conv2D(4, 1, name="a")(inputs))
    b = L.Conv2D(4, 1, name="b")(inputs)
    x = L.Concatenate(name="join")([a, b])
    x = L.Concatenate(name="late")([x, L.MaxPooling2D(1, name="pool")(inputs)])
    return keras.Model(inputs, L.Dense(2, name="logits")(L.Flatten()(x)), name="joins")


def test_what_is_joined_shares_one_step_and_its_highest_code() -> None:
    found = grids_and_groups(plan(joins(), W4A4))
    assert found["relu"] == (0, unsigned_grid(3))
    assert found["b"] == (0, ActivationGrid(bits=4, signed=True, narrow_range=True))


def test_one_bit_that_is_joined_with_an_image_stays_a_bit() -> None:
    inputs = keras.Input((8, 8, 3), name="image")
    x = L.ReLU(name="relu")(L.Conv2D(3, 1, name="a")(inputs))
    x = L.Conv2D(3, 1, name="b")(L.Concatenate(name="join")([x, inputs]))
    planned = plan(
        keras.Model(inputs, x), Scheme(name="w1a1", rules=scheme_from_bits("w1a1").rules[:1])
    )
    assert grids_and_groups(planned)["relu"] == (0, unsigned_grid(1))


def test_an_image_is_rounded_again_for_the_join_alone() -> None:
    planned = plan(joins(), W4A4)
    again = [(p.after, p.readers, p.group, p.grid) for p in planned.points if p.readers]
    signed = ActivationGrid(bits=4, signed=True, narrow_range=True)
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


def test_values_that_leave_the_model_and_are_read_on_are_rounded() -> None:
    inputs = keras.Input((8, 8, 3), name="image")
    x = L.ReLU(name="relu")(L.Conv2D(4, 1, name="a")(inputs))
    planned = plan(keras.Model(inputs, [x, L.Conv2D(4, 1, name="b")(x)]), W4A4)
    assert points_of(planned) == {"relu": unsigned_grid(4)}


def test_each_input_may_have_a_grid_of_its_own() -> None:
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    source = keras.Model([a, b], [L.Dense(2, name="x")(a), L.Dense(2, name="y")(b)])
    grids = {"b": unsigned(4, 0.5)}
    model = wrap(plan(source, W4A4), source, load_method("qkeras"), grids)
    assert [t.node.layer.name for t in model.inputs] == ["a", "b"]
    assert model.get_layer("x").input is model.inputs[0]
    assert model.get_layer("y").input is model.get_layer("b_quant").output


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


def test_calls_of_a_batch_norm_without_a_kernel_share_their_steps() -> None:
    norm = L.BatchNormalization(name="norm")
    x = inputs = keras.Input((4, 4, 3), name="image")
    for number in range(2):
        x = norm(L.ReLU(name=f"relu{number}")(L.Conv2D(3, 1, name=f"conv{number}")(x)))
    source = keras.Model(inputs, L.Dense(2, name="logits")(L.Flatten(name="flat")(x)))
    found = grids_and_groups(plan(source, W4A4))
    assert found["relu0"][0] == found["relu1"][0]
    assert found["norm"][0] == found["norm_call2"][0]


def test_weights_of_models_inside_are_copied_under_their_names() -> None:
    inner = keras.Sequential([L.Dense(3, name="logits"), L.ReLU(name="r")], name="inner")
    inputs = keras.Input((4,), name="image")
    source = keras.Model(inputs, L.Dense(2, name="logits")(inner(inputs)))
    model = wrapped(source)
    for layer, name in ((inner.layers[0], "inner_logits"), (source.layers[-1], "logits")):
        np.testing.assert_array_equal(layer.kernel, model.get_layer(name).kernel)
