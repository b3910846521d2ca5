"""Hard swish of keras.applications becomes a layer, and answers as before."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.model.hard_swish import with_hard_swish  # noqa: E402
from keras_quant.model.operations import describe  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

FLOAT32_ROUNDING = 1e-5
L = keras.layers


def net(*, shift: float = 3.0) -> keras.Model:
    """A convolution with hard swish, and a gate of hard sigmoid."""
    given = keras.Input((6, 6, 3))
    x = L.Conv2D(4, 3, name="conv")(given)
    x = L.Multiply(name="swish")([x, L.ReLU(6.0)(x + shift) * (1.0 / 6.0)])
    gate = L.GlobalAveragePooling2D(keepdims=True)(x)
    gate = L.ReLU(6.0)(L.Conv2D(4, 1)(gate) + 3.0) * (1.0 / 6.0)
    return keras.Model(given, L.Multiply(name="gated")([x, gate]), name="net")


def test_patterns_become_activations_that_answer_as_before() -> None:
    model = net()
    rebuilt = with_hard_swish(model)
    assert [x for x in rebuilt.layers if type(x).__name__ == "TFOpLambda"] == []
    names = [x.activation.__name__ for x in rebuilt.layers if isinstance(x, L.Activation)]
    assert names == ["hard_swish", "hard_sigmoid_keras3"]
    images = np.random.default_rng(0).normal(size=(4, 6, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(rebuilt(images), model(images), atol=FLOAT32_ROUNDING)
    kinds = [operation.kind for operation in describe(rebuilt)]
    assert kinds.count("lookup") == 2 and kinds.count("multiply") == 1
    assert rebuilt.get_layer("conv") is model.get_layer("conv")


def test_another_constant_is_another_function_and_stays() -> None:
    model = net(shift=2.5)
    rebuilt = with_hard_swish(model)
    kept = [x for x in rebuilt.layers if type(x).__name__ == "TFOpLambda"]
    assert len(kept) == 2
    images = np.random.default_rng(0).normal(size=(4, 6, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(rebuilt(images), model(images), atol=FLOAT32_ROUNDING)


def test_a_model_without_them_is_left_as_it_is() -> None:
    given = keras.Input((4,))
    model = keras.Model(given, L.Dense(2)(given))
    assert with_hard_swish(model) is model
