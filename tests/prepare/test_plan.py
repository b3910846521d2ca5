from __future__ import annotations

import dataclasses

import pytest

from keras_quant.errors import LoweringError, SchemeError
from keras_quant.qparams import GridSpec
from keras_quant.schemes.bits import scheme_from_bits, with_overrides
from keras_quant.schemes.scheme import FLOAT, QuantSpec, Rule, Scheme

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.prepare import plan  # noqa: E402
from keras_quant.prepare.ties import BRANCH_BITS  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from tests.prepare.nets import (  # noqa: E402
    W4A4,
    chain,
    grids_and_groups,
    joins,
    points_of,
    residual,
    unsigned_grid,
    wrapped,
)

L = keras.layers
BRANCH = GridSpec(bits=BRANCH_BITS, signed=True)


def test_chain_is_rounded_once_a_block_and_not_behind_the_logits() -> None:
    assert points_of(plan(chain(), W4A4)) == {
        "relu1": unsigned_grid(4),
        "conv2/activation": unsigned_grid(4),
        "gap": unsigned_grid(8),
        "hidden": GridSpec(bits=4, signed=True, narrow_range=True),
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
    assert grids["add2"] == GridSpec(bits=4, signed=True, narrow_range=True)


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


def test_one_bit_signed_activations_become_minus_one_zero_one() -> None:
    grids = points_of(plan(chain(), scheme_from_bits("w4a1")))
    assert grids["hidden"] == GridSpec(bits=2, signed=True, narrow_range=True)
    assert grids["relu1"] == unsigned_grid(1)


def test_float_scheme_has_no_points() -> None:
    planned = plan(chain(), scheme_from_bits("float"))
    assert planned.points == ()
    assert planned.float_layers == ("conv1", "conv2", "hidden", "logits")
    assert planned.input_spec.is_float


def test_rule_for_a_layer_that_is_not_there_is_told() -> None:
    with pytest.raises(SchemeError, match="'conv9' matches none of .*close names: conv"):
        plan(chain(), with_overrides(W4A4, ["conv9=w8a8"]))


def test_a_quantized_model_is_not_quantized_again() -> None:
    with pytest.raises(LoweringError, match=r"quantized already \(input_quant, conv1, .*kq export"):
        plan(wrapped(chain()), W4A4)


def test_wide_sums_are_rounded_again_in_front_of_their_readers() -> None:
    planned = plan(residual(), scheme_from_bits("w3a3"))
    stream = {p.after: p.spec for p in planned.points if not p.readers}
    again = {(p.after, p.readers): p for p in planned.points if p.readers}
    assert stream["sum1"] == stream["relu0"] == unsigned_grid(8)  # one step, so one width
    assert stream["relu3"] == unsigned_grid(3)
    assert {key: p.spec.bits for key, p in again.items()} == {
        ("relu0", ("conv1",)): 3,
        ("sum1", ("left2", "right2")): 3,
        ("add2", ("conv3",)): 3,
    }
    groups = [p.group for p in planned.points if p.readers]
    assert len(set(groups)) == 3 and not set(groups) & {
        p.group for p in planned.points if not p.readers
    }


def test_what_is_joined_shares_one_step_and_its_highest_code() -> None:
    found = grids_and_groups(plan(joins(), W4A4))
    assert found["relu"] == (0, unsigned_grid(3))
    assert found["b"] == (0, GridSpec(bits=4, signed=True, narrow_range=True))


def test_one_bit_that_is_joined_with_an_image_stays_a_bit() -> None:
    inputs = keras.Input((8, 8, 3), name="image")
    x = L.ReLU(name="relu")(L.Conv2D(3, 1, name="a")(inputs))
    x = L.Conv2D(3, 1, name="b")(L.Concatenate(name="join")([x, inputs]))
    planned = plan(
        keras.Model(inputs, x), Scheme(name="w1a1", rules=scheme_from_bits("w1a1").rules[:1])
    )
    assert grids_and_groups(planned)["relu"] == (0, unsigned_grid(1))


def test_values_that_leave_the_model_and_are_read_on_are_rounded() -> None:
    inputs = keras.Input((8, 8, 3), name="image")
    x = L.ReLU(name="relu")(L.Conv2D(4, 1, name="a")(inputs))
    planned = plan(keras.Model(inputs, [x, L.Conv2D(4, 1, name="b")(x)]), W4A4)
    assert points_of(planned) == {"relu": unsigned_grid(4)}


def test_calls_of_a_batch_norm_without_a_kernel_share_their_steps() -> None:
    norm = L.BatchNormalization(name="norm")
    x = inputs = keras.Input((4, 4, 3), name="image")
    for number in range(2):
        x = norm(L.ReLU(name=f"relu{number}")(L.Conv2D(3, 1, name=f"conv{number}")(x)))
    source = keras.Model(inputs, L.Dense(2, name="logits")(L.Flatten(name="flat")(x)))
    found = grids_and_groups(plan(source, W4A4))
    assert found["relu0"][0] == found["relu1"][0]
    assert found["norm"][0] == found["norm_call2"][0]


def free(scheme: Scheme, match: str, **words: bool) -> Scheme:
    """A scheme whose activations of some layers are freed by words."""
    spec = QuantSpec(bits=4, narrow_range=False, **words)
    return dataclasses.replace(scheme, rules=(*scheme.rules, Rule(match=match, activation=spec)))


def test_words_of_a_scheme_free_scales_and_zero_points() -> None:
    scheme = free(scheme_from_bits("w4a4"), "*", power_of_two=False, symmetric=False)
    specs = points_of(plan(chain(), scheme))
    words = {"power_of_two": False, "symmetric": False}
    assert specs["relu1"] == GridSpec(bits=4, signed=False, **words)
    assert specs["hidden"] == GridSpec(bits=4, signed=True, **words)
    assert dataclasses.astuple(specs["hidden"].at(0.3, 7)) == (0.3, 7, 0, 15, 4)


def test_bound_counts_at_all_widths_where_scales_are_free() -> None:
    scheme = free(scheme_from_bits("w4a4"), "conv", power_of_two=False)
    assert points_of(plan(relu6_net(L.AveragePooling2D(name="reader")), scheme))["relu"].bound == 6


def test_what_frees_one_member_of_a_group_frees_them_all() -> None:
    specs = points_of(plan(residual(), free(W4A4, "conv0", power_of_two=False)))
    assert not any(specs[name].power_of_two for name in ("relu0", "bn1", "sum1"))
    assert all(specs[name].power_of_two for name in ("left2", "right2", "add2"))


def test_what_is_joined_asymmetrically_has_all_codes() -> None:
    found = grids_and_groups(plan(joins(), free(W4A4, "a", symmetric=False)))
    assert found["relu"] == (0, GridSpec(bits=4, signed=False, symmetric=False))
    assert found["b"] == (0, GridSpec(bits=4, signed=True, symmetric=False))
