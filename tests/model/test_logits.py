from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.model.logits import AnswerFunction, GivenAnswers, sums_as_written  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402
from tests.model import plain_qkeras  # noqa: E402


@pytest.mark.slow
def test_logits_are_those_of_the_operations_as_written() -> None:
    model = plain_qkeras.ties()
    model.set_weights([np.random.default_rng(0).normal(0, 0.5, w.shape) for w in model.weights])
    (x,) = plain_qkeras.given(model)
    expected = model(x, training=False)["sum"].numpy()
    assert (model.predict(x, verbose=0)["sum"] != expected).any()
    (found,) = AnswerFunction(plain_qkeras.keras.Model(model.inputs, model.output["sum"]))(x)
    np.testing.assert_array_equal(found, expected)


def two_outputs() -> keras.Model:
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Flatten()(inputs)
    return keras.Model(inputs, [keras.layers.Dense(2)(x), keras.layers.Dense(3)(x)])


def test_outputs_are_answered_in_the_models_order() -> None:
    model, x = two_outputs(), np.ones((5, 4, 4, 1), np.float32)
    found = AnswerFunction(model)(x)
    assert [answers.shape for answers in found] == [(5, 2), (5, 3)]
    np.testing.assert_array_equal(found[1], model(x)[1])


def test_a_moved_model_is_asked_as_it_was_given_and_stays_moved() -> None:
    model, x = two_outputs(), np.ones((5, 4, 4, 1), np.float32)
    answers, before = AnswerFunction(model), model.get_weights()
    was = answers(x)
    model.layers[-1].bias.assign([1.0, 2.0, 3.0])
    given, moved = GivenAnswers(model, answers, before), answers(x)
    for found, wanted in ((given(x), was), (answers(x), moved)):
        for part, whole in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(part, whole)
    assert (moved[1] != was[1]).all()


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
