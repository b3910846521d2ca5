from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.model.parts import SHORTHANDS, unfold  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

L = keras.layers
FLOAT32_ROUNDING = 1e-5

CASES = {
    "SeparableConv2D": [
        (lambda: L.SeparableConv2D(5, 3, 2, "same", depth_multiplier=2), (7, 6, 3)),
        (lambda: L.SeparableConv2D(5, (2, 3), dilation_rate=2, activation="relu"), (7, 6, 3)),
        (lambda: L.SeparableConv2D(5, 1, use_bias=False), (7, 6, 1)),
    ],
    "SeparableConv1D": [
        (lambda: L.SeparableConv1D(5, 3, 2, "same", depth_multiplier=2), (8, 3)),
        (lambda: L.SeparableConv1D(5, 3, padding="causal", activation="relu"), (8, 3)),
    ],
    "DepthwiseConv1D": [
        (lambda: L.DepthwiseConv1D(3, 2, depth_multiplier=2, activation="relu"), (8, 3)),
        (lambda: L.DepthwiseConv1D(3, padding="same", use_bias=False), (8, 3)),
    ],
    "Conv1DTranspose": [
        (lambda: L.Conv1DTranspose(5, 3, 2, activation="relu"), (8, 3)),
        (lambda: L.Conv1DTranspose(5, 4, 2, "same", use_bias=False), (7, 3)),
        (lambda: L.Conv1DTranspose(5, 3, 3, "same", output_padding=1), (7, 3)),
        (lambda: L.Conv1DTranspose(5, 3, dilation_rate=2), (7, 3)),
    ],
    "Rescaling": [
        (lambda: L.Rescaling(2.0, offset=-1.0), (4, 4, 3)),
        (lambda: L.Rescaling([1.0, -2.0, 0.0], offset=[0.0, 1.0, 2.0]), (4, 3)),
        (lambda: L.Rescaling([[[1.0, -2.0, 0.5]]], offset=[[2.0]]), (4, 4, 3)),
        (lambda: L.Rescaling(np.arange(12.0).reshape(2, 2, 3), offset=-1.0), (2, 2, 3)),
        (lambda: L.Rescaling([[1.0], [2.0]], offset=[0.0, 1.0, 2.0]), (2, 3)),
    ],
    "Normalization": [
        (lambda: L.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 4.0, 0.5]), (4, 4, 3)),
        (lambda: L.Normalization(axis=1, mean=np.arange(4.0), variance=2.0), (4, 4, 3)),
        (lambda: L.Normalization(axis=(1, 3), mean=np.ones((4, 3)), variance=0.4), (4, 2, 3)),
        (lambda: L.Normalization(axis=1, mean=0.1, variance=0.2, invert=True), (4, 3)),
        (lambda: L.Normalization(axis=None, mean=0.5, variance=0.2, invert=True), (3,)),
    ],
}
LAYERS = [case for cases in CASES.values() for case in cases]


def called(layer: keras.layers.Layer, shape: tuple[int, ...]) -> keras.layers.Layer:
    """A layer in a model, its weights random."""
    layer(keras.Input(shape))
    layer.set_weights([np.random.default_rng(0).normal(size=w.shape) for w in layer.get_weights()])
    return layer


def test_every_shorthand_has_a_case() -> None:
    assert set(CASES) == set(SHORTHANDS)


@pytest.mark.thinned(3)
@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_parts_compute_what_the_layer_computes(make, shape: tuple[int, ...]) -> None:
    layer = called(make(), shape)
    x = y = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
    parts = unfold(layer, [shape])
    for part in parts:
        y = part(y)
    np.testing.assert_allclose(y, layer(x), rtol=0, atol=FLOAT32_ROUNDING)
    assert parts[-1].name == layer.name
    assert not set(map(id, parts)) & {id(layer)}


def test_pixels_are_scaled_alike_in_training() -> None:
    """A batch norm that is not trained keeps its statistics."""
    (norm,) = unfold(called(L.Rescaling(2.0, offset=-1.0), (4, 4, 3)), [(4, 4, 3)])
    x = np.random.default_rng(1).normal(size=(2, 4, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(norm(x, training=True), norm(x, training=False))
    assert norm.trainable_variables == []


@pytest.mark.parametrize(
    "layer",
    [
        L.Conv2D(2, 1),
        L.SeparableConv2D(2, 1, data_format="channels_first"),
    ],
)
def test_other_layers_stay_as_they_are(layer: keras.layers.Layer) -> None:
    assert unfold(called(layer, (4, 4, 3)), [(4, 4, 3)]) == (layer,)


def test_a_rescaling_to_more_channels_stays_whole() -> None:
    layer = called(L.Rescaling([1.0, 2.0, 3.0], name="scale"), (4, 4, 1))
    assert unfold(layer, [(4, 4, 1)]) == (layer,)
