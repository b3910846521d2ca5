from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods import load_method  # noqa: E402
from keras_quant.schemes.scheme import QuantSpec  # noqa: E402
from keras_quant.tf import tf  # noqa: E402
from tests.methods.twins import LAYERS, SHAPES, WEIGHTS, wrapped  # noqa: E402


@pytest.mark.thinned(4)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)
def test_gradient_passes_straight_through(kind: str, weight: QuantSpec) -> None:
    layer = wrapped(load_method("qkeras"), kind, weight)
    x = np.ones((1, *SHAPES[kind]), np.float32)
    with tf.GradientTape() as tape:
        y = layer(x)
    gradient = tape.gradient(y, layer.trainable_variables[0]).numpy()
    # As without a quantizer: each weight meets a 1 at each position.
    positions = (x if kind == "transpose" else y).shape[1:-1]
    np.testing.assert_array_equal(gradient, np.full_like(gradient, np.prod(positions)))
