from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.model.logits import LogitFunction, sums_as_written  # noqa: E402
from keras_quant.tf import tf  # noqa: E402
from tests.model import plain_qkeras  # noqa: E402


def test_logits_are_those_of_the_operations_as_written() -> None:
    model = plain_qkeras.ties()
    model.set_weights([np.random.default_rng(0).normal(0, 0.5, w.shape) for w in model.weights])
    (x,) = plain_qkeras.given(model)
    expected = model(x, training=False)["sum"].numpy()
    assert (model.predict(x, verbose=0)["sum"] != expected).any()
    logits = LogitFunction(plain_qkeras.keras.Model(model.inputs, model.output["sum"]))
    np.testing.assert_array_equal(logits(x), expected)


@pytest.mark.parametrize("setting", [None, True, False])
def test_setting_of_tensorflow_is_as_before(setting: bool | None) -> None:
    options, name = tf.config.optimizer, "arithmetic_optimization"
    options.set_experimental_options({name: setting})
    try:
        with sums_as_written():
            assert options.get_experimental_options()[name] is False
        assert options.get_experimental_options().get(name) is setting
    finally:
        options.set_experimental_options({name: None})
