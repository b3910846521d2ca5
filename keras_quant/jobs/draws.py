"""A variational autoencoder's bound over draws: what it is trained for, and papers report."""

from __future__ import annotations

import numpy as np

from keras_quant.data import Dataset
from keras_quant.model.logits import AnswerFunction
from keras_quant.model.metrics import mean_divergence, pixel_surprise, variance_divergence
from keras_quant.runners.batches import IMAGES_AT_ONCE
from keras_quant.tf import keras
from keras_quant.zoo.sampling import Sample


def elbo_over_draws(model: keras.Model, dataset: Dataset, *, seed: int = 0) -> float | None:
    """Estimates the ELBO of the test images with one draw from the posterior for each.

    Kingma and Welling 2013, equation 10 with one draw. Files decode the posterior's mean, and draw
    nothing; so this is the Keras model's.

    Args:
        model: with outputs as `model.tasks.VARIATIONAL`.
        dataset: asked for an ELBO.
        seed: of the draws, which are equal for models of one posterior.
    Returns: mean over the images, in nats; None where no layer Sample says what is decoded.
    """
    samples = [layer for layer in model.layers if isinstance(layer, Sample)]
    if len(samples) != 1:
        return None
    encode = AnswerFunction(model)
    decode = AnswerFunction(keras.Model(samples[0].output, model.outputs[-1]))
    rng, nats = np.random.default_rng(seed), 0.0
    for start in range(0, len(dataset.test), IMAGES_AT_ONCE):
        part = dataset.test.at(slice(start, start + IMAGES_AT_ONCE))
        images = dataset.reals(part.x)
        mean, log_variance, _ = encode(images)
        noise = rng.standard_normal(mean.shape, np.float32)
        (logits,) = decode(mean + np.exp(log_variance / 2) * noise)
        divergence = mean_divergence(mean, images) + variance_divergence(log_variance, images)
        nats += float((divergence + pixel_surprise(logits, images)).sum())
    return -nats / len(dataset.test)
