from __future__ import annotations

import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.jobs.remedies import default_bias  # noqa: E402
from keras_quant.prepare import plan  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

L = keras.layers


def net(inputs: int = 1) -> keras.Model:
    given = [keras.Input((4,)) for _ in range(inputs)]
    x = L.Concatenate()(given) if inputs > 1 else given[0]
    return keras.Model(given, L.Dense(2)(L.Dense(3, activation="relu")(x)))


def test_biases_are_corrected_by_answers_where_layers_can_be_walked() -> None:
    planned = plan(net(), scheme_from_bits("w8a8", ends="same"))
    assert default_bias(planned, has_images=True) == "empirical"
    assert default_bias(planned, has_images=False) == "analytical"
    in_float = plan(net(), scheme_from_bits("wfa8", ends="same"))
    assert default_bias(in_float, has_images=True) == "analytical"
    several = plan(net(inputs=2), scheme_from_bits("w8a8", ends="same"))
    assert default_bias(several, has_images=True) == "analytical"
