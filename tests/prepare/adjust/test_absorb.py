"""Models whose high biases were absorbed compute what they did, with smaller values."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.prepare import plan  # noqa: E402
from keras_quant.prepare.adjust.absorb import absorb_biases  # noqa: E402
from keras_quant.schemes.bits import freed, scheme_from_bits  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

L = keras.layers
SCHEME = freed(scheme_from_bits("w8a8"))
FLOAT32_ROUNDING = 1e-4
X = np.random.default_rng(0).uniform(0, 1, (8, 6, 6, 3)).astype(np.float32)


def net(reader: object, *, bound: float | None = None) -> keras.Model:
    """A batch norm of which one channel is always at least 7, and a layer that reads it."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((6, 6, 3), name="image")
    x = L.BatchNormalization(name="bn1")(L.Conv2D(2, 1, name="conv1", use_bias=False)(x))
    x = L.ReLU(bound, name="relu1")(x)
    x = reader(x)  # type: ignore[operator]
    x = L.BatchNormalization(name="bn2")(x)
    model = keras.Model(inputs, L.Dense(2, name="logits")(L.GlobalAveragePooling2D()(x)))
    model.get_layer("bn1").beta.assign([10.0, 0.0])
    return model


READERS = {
    "1x1": lambda: L.Conv2D(4, 1, name="conv2"),
    "no bias": lambda: L.Conv2D(4, 1, use_bias=False, name="conv2"),
    "valid": lambda: L.DepthwiseConv2D(3, name="conv2"),
}


@pytest.mark.parametrize("kind", READERS)
def test_the_model_answers_the_same_and_the_channel_is_smaller(kind: str) -> None:
    source = net(READERS[kind]())
    found = absorb_biases(plan(source, SCHEME), source)
    assert found.channels == {"relu1": 1}
    before, after = (
        np.asarray(keras.Model(m.inputs, m.get_layer("relu1").output)(X))
        for m in (source, found.model)
    )
    # beta - 3 gamma: none of these values lies below it
    np.testing.assert_allclose(before[..., 0] - after[..., 0], 7.0, atol=FLOAT32_ROUNDING)
    np.testing.assert_array_equal(before[..., 1], after[..., 1])
    np.testing.assert_allclose(found.model(X), source(X), atol=FLOAT32_ROUNDING)


@pytest.mark.parametrize(
    ("reader", "bound"),
    [(L.Conv2D(4, 3, padding="same", name="conv2"), None), (L.Conv2D(4, 1, name="conv2"), 6.0)],
    ids=["padding", "relu6"],
)
def test_where_it_would_change_the_model_nothing_is_absorbed(
    reader: object, bound: float | None
) -> None:
    source = net(reader, bound=bound)
    found = absorb_biases(plan(source, SCHEME), source)
    assert found.channels == {}
    np.testing.assert_array_equal(found.model(X), source(X))
