"""Nets within a net have the first channels of each layer, and share their weights."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

from keras_quant.errors import UsageError  # noqa: E402
from keras_quant.methods import load_method  # noqa: E402
from keras_quant.methods.readers import read_kernel  # noqa: E402
from keras_quant.model.topology import layers_by_name  # noqa: E402
from keras_quant.prepare import plan, wrap  # noqa: E402
from keras_quant.qparams import unsigned  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from keras_quant.training.nested import join_widths  # noqa: E402
from keras_quant.training.slim import narrow_net  # noqa: E402
from tests.training.test_nested import Trained, gradient, joint_and_own, scaled  # noqa: E402

L = keras.layers
SHARES = {"x1": 1.0, "x0.5": 0.5}
FLOAT32_ROUNDING = 1e-5


def net() -> keras.Model:
    """A sum, a convolution in groups, and a depthwise one."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((6, 6, 3), name="image")
    x = L.ReLU(name="relu0")(L.BatchNormalization(name="bn0")(L.Conv2D(8, 3, name="conv0")(x)))
    a = L.Conv2D(8, 3, padding="same", groups=4, name="grouped")(x)
    x = L.ReLU(name="relu1")(L.Add(name="add")([x, a]))
    x = L.ReLU(name="relu2")(L.DepthwiseConv2D(3, name="depthwise")(x))
    x = L.GlobalAveragePooling2D(name="gap")(x)
    x = L.ReLU(name="relu3")(L.Dense(6, name="hidden")(x))
    return keras.Model(inputs, L.Dense(3, name="logits")(x), name="net")


def quantized(source: keras.Model) -> keras.Model:
    planned = scaled(plan(source, scheme_from_bits("4")))
    return wrap(planned, source, load_method("nested"), unsigned(8, 1 / 255))


def narrowed(*, in_float: bool = False) -> dict[str, keras.Model]:
    source = net()
    nets = {name: narrow_net(source, share) for name, share in SHARES.items()}
    return nets if in_float else {name: quantized(each) for name, each in nets.items()}


def first(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return values[tuple(slice(size) for size in shape)]


def test_each_layer_keeps_its_first_channels_and_the_last_layer_all() -> None:
    source = net()
    narrow = narrow_net(source, 0.5)
    shapes = {
        "conv0": (3, 3, 3, 4),
        "grouped": (3, 3, 2, 4),  # two of four groups, whose channels are as many
        "depthwise": (3, 3, 4, 1),
        "hidden": (4, 3),
        "logits": (3, 3),
    }
    for name, shape in shapes.items():
        whole, part = (model.get_layer(name).get_weights()[0] for model in (source, narrow))
        assert part.shape == shape
        np.testing.assert_array_equal(part, first(whole, shape))
    assert narrow.get_layer("grouped").groups == 2
    assert narrow.output_shape == source.output_shape


@pytest.fixture(scope="module", params=["float", "nested"])
def trained(request) -> Trained:
    return joint_and_own(partial(narrowed, in_float=request.param == "float"))


def test_outputs_are_those_of_the_widths(trained) -> None:
    joint, own = trained
    x = np.random.default_rng(1).uniform(size=(4, 6, 6, 3)).astype(np.float32)
    for answers, name in zip(joint(x), ("x0.5", "x1"), strict=True):
        np.testing.assert_allclose(answers, own[name](x), atol=FLOAT32_ROUNDING)


def test_weights_and_codes_of_the_narrow_net_are_those_of_the_whole(trained) -> None:
    _, own = trained
    whole, narrow = (layers_by_name(own[name]) for name in ("x1", "x0.5"))
    start = layers_by_name(net())
    for name in ("conv0", "grouped", "depthwise", "hidden", "logits"):
        weights = [layers[name].get_weights()[0] for layers in (whole, narrow)]
        np.testing.assert_array_equal(weights[1], first(weights[0], weights[1].shape))
        assert not np.allclose(weights[0], start[name].get_weights()[0])
        codes = [read_kernel(layers[name]) for layers in (whole, narrow)]
        if codes[0] is not None:
            part = first(codes[0].values, codes[1].values.shape)
            np.testing.assert_array_equal(codes[1].values, part)


def test_gradients_of_both_widths_reach_the_kernel(trained) -> None:
    joint, own = trained

    def conv0(model: keras.Model):
        layer = layers_by_name(model)["conv0"]
        return getattr(layer, "raw_kernel", layer.kernel)

    shared = gradient(joint, conv0(joint.get_layer("x1")))
    whole, part = (gradient(model, conv0(model)) for model in own.values())
    whole[..., :4] += part
    np.testing.assert_allclose(shared, whole, rtol=1e-4, atol=1e-5)
    assert np.abs(part).max() > 0


def test_layers_that_mix_channels_are_told() -> None:
    x = inputs = keras.Input((6, 6, 3))
    x = L.Flatten(name="flat")(L.Conv2D(4, 3, name="conv")(x))
    with pytest.raises(UsageError, match=r"flat \(Flatten\) would mix those with others"):
        narrow_net(keras.Model(inputs, L.Dense(3)(x)), 0.5)
    a, b = (L.Conv2D(4, 3, name=name)(inputs) for name in "ab")
    x = L.GlobalAveragePooling2D()(L.Concatenate(name="cat")([a, b]))
    with pytest.raises(UsageError, match=r"cat \(Concatenate\) would mix"):
        narrow_net(keras.Model(inputs, L.Dense(3)(x)), 0.5)


def in_groups(channels: int, groups: int, *, beside: bool = False) -> keras.Model:
    x = inputs = keras.Input((6, 6, 3))
    x = L.Conv2D(channels, 3, name="conv")(x)
    y = L.Conv2D(channels, 3, padding="same", groups=groups, name="grouped")(x)
    x = L.GlobalAveragePooling2D()(L.Add(name="add")([x, y]) if beside else y)
    return keras.Model(inputs, L.Dense(3, name="logits")(x))


def test_groups_are_kept_whole() -> None:
    narrow = narrow_net(in_groups(16, 4), 0.25)
    assert narrow.get_layer("grouped").get_weights()[0].shape == (3, 3, 4, 4)
    # Five groups of one become two, as round(5 / 2) channels are two.
    assert narrow_net(in_groups(5, 5), 0.5).get_layer("grouped").groups == 2


@pytest.mark.parametrize(
    ("channels", "groups", "share", "beside"),
    [(10, 5, 0.5, False), (16, 4, 0.3, False), (16, 4, 0.4, False), (12, 4, 0.4, True)],
)
def test_groups_that_would_be_split_are_told(
    channels: int, groups: int, share: float, beside: bool
) -> None:
    with pytest.raises(UsageError, match=f"--slim {share}: .* in groups, whole groups"):
        narrow_net(in_groups(channels, groups, beside=beside), share)


def test_both_kernels_of_a_separable_convolution_are_shared() -> None:
    inputs = keras.Input((6, 6, 3))
    x = L.GlobalAveragePooling2D()(L.SeparableConv2D(4, 3, name="conv")(inputs))
    source = keras.Model(inputs, L.Dense(3, name="logits")(x))
    nets = {name: narrow_net(source, share) for name, share in SHARES.items()}
    whole, narrow = (layers_by_name(net)["conv"] for net in nets.values())
    join_widths(nets)
    assert narrow.depthwise_kernel is whole.depthwise_kernel
    assert narrow.pointwise_kernel.variable is whole.pointwise_kernel


def test_what_is_flat_before_anything_is_narrow_may_be() -> None:
    x = inputs = keras.Input((4, 4, 1))
    x = L.Dense(8, name="hidden")(L.Flatten(name="flat")(x))
    narrow = narrow_net(keras.Model(inputs, L.Dense(3, name="logits")(x)), 0.5)
    assert narrow.get_layer("hidden").get_weights()[0].shape == (16, 4)
