from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods import load_method  # noqa: E402
from keras_quant.prepare import plan, with_grids, wrap  # noqa: E402
from keras_quant.prepare.adjust.correct_bias import correct_biases, kernel_inputs  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits, with_overrides  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

L = keras.layers
MEAN = np.array([0.5, -1.0, 2.0, 0.25])
FLOAT32_ROUNDING = 1e-5
# All layers answer alike at all positions where the input is constant, but for strides of a
# transposed convolution, over which its answers are averaged.
KINDS: dict[str, tuple[Callable, tuple[int, ...]]] = {
    "conv": (lambda: L.Conv2D(5, 3, name="layer"), (6, 6)),
    "strides": (lambda: L.Conv2D(5, (3, 2), strides=2, dilation_rate=1, name="layer"), (6, 6)),
    "groups": (lambda: L.Conv2D(6, 3, groups=2, name="layer"), (6, 6)),
    "conv1d": (lambda: L.Conv1D(5, 3, name="layer"), (6,)),
    "depthwise": (lambda: L.DepthwiseConv2D(3, name="layer"), (6, 6)),
    "multiplied": (lambda: L.DepthwiseConv2D(3, depth_multiplier=2, name="layer"), (6, 6)),
    "transposed": (lambda: L.Conv2DTranspose(5, 2, strides=2, name="layer"), (6, 6)),
    "dense": (lambda: L.Dense(5, name="layer"), ()),
}


def float_model(layer: L.Layer, size: tuple[int, ...], *behind: L.Layer) -> keras.Model:
    keras.utils.set_random_seed(3)
    x = inputs = keras.Input((*size, len(MEAN)), name="image")
    for one in (layer, *behind):
        x = one(x)
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(0)
    model.set_weights([w + rng.normal(0, 0.3, w.shape) for w in model.get_weights()])
    return model


def quantized(
    model: keras.Model, bits: str = "w2af", *overrides: str, post_training: bool = False
) -> tuple:
    """A plan, and its model with kernels rounded so coarsely that everybody sees it."""
    scheme = with_overrides(scheme_from_bits(bits), overrides or ["layer=w2"])
    planned = plan(model, scheme)
    calibrated, method = with_grids(planned, {}), load_method("qkeras")
    return planned, wrap(calibrated, model, method, None, post_training=post_training)


def mean_answer(model: keras.Model) -> np.ndarray:
    """What a model answers to inputs that are their mean everywhere, averaged over positions."""
    shape = (1, *model.input_shape[1:])
    answer = np.asarray(model(np.broadcast_to(MEAN, shape).astype(np.float32)), np.float64)
    return answer.reshape(-1, answer.shape[-1]).mean(axis=0)


@pytest.mark.parametrize("kind", KINDS)
def test_corrected_layer_answers_to_the_mean_as_the_float_layer(kind: str) -> None:
    make, size = KINDS[kind]
    source = float_model(make(), size)
    planned, model = quantized(source)
    wanted, before = mean_answer(source), mean_answer(model)
    assert np.abs(before - wanted).max() > 0.05
    assert kernel_inputs(planned) == ("image",)
    correct_biases(planned, model, {"image": MEAN})
    np.testing.assert_allclose(mean_answer(model), wanted, atol=FLOAT32_ROUNDING)


def test_without_a_bias_the_mean_of_the_norm_behind_it_moves() -> None:
    source = float_model(
        L.Conv2D(5, 3, use_bias=False, name="layer"), (6, 6), L.BatchNormalization(name="norm")
    )
    source.get_layer("norm").moving_variance.assign([0.5, 1, 2, 3, 4])
    planned, model = quantized(source)
    before = model.get_layer("norm").moving_variance.numpy()
    correct_biases(planned, model, {"image": MEAN})
    np.testing.assert_allclose(mean_answer(model), mean_answer(source), atol=FLOAT32_ROUNDING)
    np.testing.assert_array_equal(model.get_layer("norm").moving_variance, before)


def test_layer_that_adds_nothing_stays_as_it_is() -> None:
    source = float_model(L.Conv2D(5, 3, use_bias=False, name="layer"), (6, 6), L.ReLU(name="relu"))
    planned, model = quantized(source)
    before = model.get_weights()
    correct_biases(planned, model, {"image": MEAN})
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_without_training_a_layer_that_adds_nothing_gets_a_bias_for_it() -> None:
    source = float_model(L.Conv2D(5, 3, use_bias=False, name="layer"), (6, 6), L.ReLU(name="relu"))
    planned, model = quantized(source, post_training=True)
    np.testing.assert_array_equal(model.get_layer("layer").bias, np.zeros(5))
    assert np.abs(mean_answer(model) - mean_answer(source)).max() > 0.05
    correct_biases(planned, model, {"image": MEAN})
    np.testing.assert_allclose(mean_answer(model), mean_answer(source), atol=FLOAT32_ROUNDING)


def test_kernel_in_float_is_not_touched_and_its_input_not_asked_for() -> None:
    source = float_model(L.Conv2D(5, 3, name="layer"), (6, 6), L.Dense(3, name="logits"))
    planned, model = quantized(source, "w2af", "layer=wf", "logits=w2")
    assert kernel_inputs(planned) == ("layer",)
    before = model.get_layer("layer").bias.numpy()
    correct_biases(planned, model, {"layer": np.ones(5)})
    np.testing.assert_array_equal(model.get_layer("layer").bias, before)


def test_means_of_a_shared_layer_are_averaged_over_its_calls() -> None:
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    shared = L.Dense(3, name="layer")
    source = keras.Model([a, b], L.Concatenate(name="join")([shared(a), shared(b)]))
    planned, twice = quantized(source)
    assert kernel_inputs(planned) == ("a", "b")
    _, once = quantized(source)
    correct_biases(planned, twice, {"a": 3 * MEAN, "b": -MEAN})
    correct_biases(planned, once, {"a": MEAN, "b": MEAN})
    np.testing.assert_allclose(
        twice.get_layer("layer").bias, once.get_layer("layer").bias, rtol=1e-5
    )
