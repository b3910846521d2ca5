"""Histograms and maps of nets whose numbers are known."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.explain.maps import class_activation_maps, mapped_call  # noqa: E402
from keras_quant.explain.values import activation_histograms, kernel_histograms  # noqa: E402
from keras_quant.methods import load_method  # noqa: E402
from keras_quant.methods.layers import FixedGrid  # noqa: E402
from keras_quant.methods.readers import read_kernel  # noqa: E402
from keras_quant.prepare import plan, with_grids, wrap  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

L = keras.layers
FLOAT32_ROUNDING = 1e-5


def test_kernels_are_counted_before_and_after() -> None:
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((6, 6, 2))
    x = L.DepthwiseConv2D(3, name="depthwise")(L.Conv2D(5, 3, name="conv")(x))
    source = keras.Model(inputs, L.Dense(3, name="logits")(L.Flatten()(x)))
    planned = with_grids(plan(source, scheme_from_bits("w3af", ends="same")), {})
    model = wrap(planned, source, load_method("qkeras"), None)
    found = {tensor.name: (tensor, one) for tensor, one in kernel_histograms(model)}
    assert set(found) == {"conv", "depthwise", "logits"}
    for name, (tensor, histogram) in found.items():
        weight = read_kernel(model.get_layer(name))
        assert (tensor.bits, tensor.kind, tensor.unit) == (3, "weights", "scales")
        assert histogram.before.sum() == histogram.after.sum() == weight.values.size
        for level, count in zip(histogram.levels, histogram.after, strict=True):
            assert count == (weight.values == level).sum()


def test_activations_are_counted_over_all_batches() -> None:
    inputs = keras.Input((2, 2, 1))
    outputs = FixedGrid(0.5, 0, 3, name="grid")(L.Activation("linear", name="before")(inputs))
    model = keras.Model(inputs, outputs)
    values = np.float32([-1.0, 0.0, 0.2, 0.6, 0.9, 1.4, 9.0, 9.0]).reshape(2, 2, 2, 1)
    ((tensor, histogram),) = activation_histograms(model, [values[:1], values[1:]])
    assert (tensor.name, tensor.bits) == ("grid", 2)
    assert histogram.levels.tolist() == [0.0, 0.5, 1.0, 1.5]
    assert histogram.after.tolist() == [3, 1, 1, 3]
    assert histogram.before.sum() == 8
    assert histogram.before[0] == 1 and histogram.before[-1] == 2  # what lies beyond


def test_behind_a_global_average_maps_are_the_weighted_sum_of_channels() -> None:
    """Zhou et al. 2016: sum over channels of the class's weight times the channel, here by hand."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    features = L.Conv2D(4, 3, padding="same", activation="relu", name="features")(inputs)
    model = keras.Model(inputs, L.Dense(5, name="logits")(L.GlobalAveragePooling2D()(features)))
    x = np.random.default_rng(0).random((3, 8, 8, 3)).astype(np.float32)
    classes = np.array([4, 0, 2])
    call = mapped_call(model)
    assert call is not None and call.name == "features"
    found = class_activation_maps(model, call, x, classes)
    channels = keras.Model(inputs, features)(x).numpy()
    weights = model.get_layer("logits").kernel.numpy()[:, classes].T
    wanted = np.einsum("nhwc,nc->nhw", channels, weights)
    wanted -= wanted.min(axis=(1, 2), keepdims=True)
    wanted /= wanted.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(found, wanted, atol=FLOAT32_ROUNDING)


def test_a_softmax_at_the_end_changes_no_map() -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 2))
    features = L.Conv2D(3, 3, name="features")(inputs)
    scores = L.Dense(4, name="logits")(L.Flatten()(features))
    x = np.random.default_rng(0).random((2, 6, 6, 2)).astype(np.float32)
    plain, ended = (
        keras.Model(inputs, outputs) for outputs in (scores, L.Softmax(name="softmax")(scores))
    )
    maps = [
        class_activation_maps(model, mapped_call(model), x, np.array([1, 3]))
        for model in (plain, ended)
    ]
    assert np.array_equal(*maps) and maps[0].max() == 1


def test_small_maps_are_left_for_larger_ones_and_vectors_have_none() -> None:
    x = inputs = keras.Input((8, 8, 1))
    x = L.Rescaling(1 / 255, name="eight")(x)
    x = L.Conv2D(2, 3, name="six")(x)
    x = L.Conv2D(2, 3, name="four")(x)
    x = L.MaxPooling2D(name="two")(x)
    found = mapped_call(keras.Model(inputs, L.Dense(2)(L.Flatten()(x))))
    assert found is not None and found.name == "four"
    x = FixedGrid(1 / 255, 0, 255, name="image")(inputs)
    x = L.MaxPooling2D(name="one")(L.Conv2D(2, 6, name="three")(x))
    found = mapped_call(keras.Model(inputs, L.Dense(2)(L.Flatten()(x))))
    assert found is not None and found.name == "three"
    vector = keras.Input((8,))
    assert mapped_call(keras.Model(vector, L.Dense(2)(vector))) is None
