"""The layer that draws from a posterior while a variational autoencoder is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_quant.tf import keras, tf

# What model files may name of this module.
CLASSES = frozenset({"Sample"})


@keras.utils.register_keras_serializable("keras_quant")
class Sample(keras.__internal__.layers.BaseRandomLayer):  # type: ignore[misc]
    """Draws from a normal distribution while training, and gives its mean in inference.

    Called with means and logarithms of variances, (batch, dimensions) each. In training it gives
    m + exp(v / 2) n, with n from the standard normal distribution: the reparameterization of
    Kingma and Welling 2013 ("Auto-Encoding Variational Bayes", section 2.4). Means alone are
    passed on.
    """

    def call(self, inputs: tf.Tensor | Sequence[tf.Tensor], training: Any = None) -> tf.Tensor:
        if not isinstance(inputs, list | tuple):
            return tf.identity(inputs)
        mean, log_variance = inputs

        def drawn() -> tf.Tensor:
            noise = self._random_generator.random_normal(shape=tf.shape(mean), dtype=mean.dtype)
            return mean + tf.exp(log_variance / 2) * noise

        return keras.backend.in_train_phase(drawn, mean, training=training)

    def compute_output_shape(self, input_shape: Any) -> Any:
        is_pair = isinstance(input_shape, list) or isinstance(input_shape[0], tuple)
        return input_shape[0] if is_pair else input_shape
