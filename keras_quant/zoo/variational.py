"""A variational autoencoder, for data that are asked for +elbo (`data.view`)."""

from __future__ import annotations

import math

from keras_quant.tf import keras
from keras_quant.zoo.layers import INITIALIZER, Shape
from keras_quant.zoo.sampling import Sample


def vae(input_shape: Shape, num_classes: int, *, units: int = 400, latent: int = 20) -> keras.Model:
    """The variational autoencoder of Kingma and Welling 2013 with a hidden layer on either side.

    With a normal posterior of `latent` independent dimensions, and pixels of 0 to 1 as
    probabilities of bits (appendix C.1; ReLU in place of tanh). What is deployed draws nothing: the
    decoder reads the posterior's mean.

    Args:
        num_classes: of the data; nothing depends on it.
        units: of the hidden layers.
    Returns: a model with three outputs: the posterior's means and the logarithms of its variances,
        (batch, latent) each, and the pixels' logits, of the input's shape.
    """
    inputs = keras.Input(input_shape, name="image")
    x = keras.layers.Flatten(name="flatten")(inputs)
    x = _hidden(x, units, "encoder")
    mean = keras.layers.Dense(latent, name="mean")(x)
    log_variance = keras.layers.Dense(latent, name="log_variance")(x)
    x = Sample(name="sample")([mean, log_variance])
    x = _hidden(x, units, "decoder")
    x = keras.layers.Dense(math.prod(input_shape), name="pixels")(x)
    logits = keras.layers.Reshape(input_shape, name="pixel_logits")(x)
    return keras.Model(inputs, [mean, log_variance, logits], name="vae")


def _hidden(x: keras.KerasTensor, units: int, name: str) -> keras.KerasTensor:
    x = keras.layers.Dense(units, kernel_initializer=INITIALIZER, name=name)(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)
