"""A variational autoencoder draws while it is trained, and is deterministic where it is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.graph.reference import run_reference  # noqa: E402
from keras_quant.lower import lower  # noqa: E402
from keras_quant.methods import load_method  # noqa: E402
from keras_quant.model.files import load_model, save_model  # noqa: E402
from keras_quant.prepare import plan, wrap  # noqa: E402
from keras_quant.prepare.plan import with_grids  # noqa: E402
from keras_quant.qparams import unsigned  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402
from keras_quant.zoo import build  # noqa: E402
from keras_quant.zoo.sampling import Sample  # noqa: E402

FLOAT32_ROUNDING = 1e-5
X = np.random.default_rng(0).random((3, 4, 4, 1), np.float32)


def small() -> keras.Model:
    keras.utils.set_random_seed(0)
    return build("vae", (4, 4, 1), 10, units=8, latent=2)


def test_draws_have_the_mean_and_the_variance_that_they_are_told() -> None:
    keras.utils.set_random_seed(0)
    count = 20_000
    mean, log_variance = tf.fill((count, 1), 3.0), tf.fill((count, 1), 2 * np.log(0.5))
    drawn = Sample()([mean, tf.cast(log_variance, tf.float32)], training=True).numpy()
    assert abs(drawn.mean() - 3) < 4 * 0.5 / count**0.5
    assert abs(drawn.std() - 0.5) < 4 * 0.5 / (2 * count) ** 0.5


def test_inference_gives_the_mean() -> None:
    mean, log_variance = tf.constant([[1.0, -2.0]]), tf.constant([[5.0, 5.0]])
    for given in ([mean, log_variance], mean):
        assert Sample()(given, training=False).numpy().tolist() == [[1.0, -2.0]]


def test_the_logarithm_of_the_variance_learns_from_what_was_drawn() -> None:
    layer, log_variance = Sample(), tf.Variable([[0.0]])
    keras.utils.set_random_seed(0)
    with tf.GradientTape() as tape:
        drawn = layer([tf.constant([[0.0]]), log_variance], training=True)
    # d(m + exp(v / 2) n) / dv is exp(v / 2) n / 2, here half of what was drawn.
    np.testing.assert_allclose(tape.gradient(drawn, log_variance), drawn / 2, rtol=1e-6)


def test_the_graph_decodes_the_mean() -> None:
    model = small()
    graph = lower(model)
    expected = [output.numpy() for output in model(X, training=False)]
    found = run_reference(graph, {graph.inputs[0]: X})
    assert len(graph.outputs) == 3
    for name, values in zip(graph.outputs, expected, strict=True):
        given = found[name].reshape(values.shape)
        np.testing.assert_allclose(given, values, atol=FLOAT32_ROUNDING, rtol=FLOAT32_ROUNDING)


def test_the_quantized_model_draws_while_it_is_trained() -> None:
    model = small()
    planned = plan(model, scheme_from_bits("8"))
    grids = {point.group: unsigned(8, 1 / 64) for point in planned.points}
    quantized = wrap(with_grids(planned, grids), model, load_method("qkeras"), unsigned(8, 1 / 255))
    first, again = (quantized(X, training=True)[2].numpy() for _ in range(2))
    assert not np.array_equal(first, again)
    first, again = (quantized(X, training=False)[2].numpy() for _ in range(2))
    assert np.array_equal(first, again)


def test_it_is_saved_and_loaded_without_trust(tmp_path: Path) -> None:
    model = small()
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    for output, other in zip(loaded(X), model(X), strict=True):
        assert np.array_equal(output, other)
    assert isinstance(loaded.get_layer("sample"), Sample)
