"""Distillation: a float model's answers as targets beside the labels.

A net of few bits learns its parent's answers better than the labels alone, which say nothing of
what else an image resembles (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network",
section 2; for few bits Mishra and Marr 2018, "Apprentice").
"""

from __future__ import annotations

from collections.abc import Callable

from keras_quant.data.pipeline import PREFETCHED
from keras_quant.model.probabilities import as_logits
from keras_quant.tf import keras, tf

# Softens both answers, so that the small ones count as well (Hinton et al. 2015, section 2).
TEMPERATURE = 4.0


def with_answers(batches: tf.data.Dataset, teacher: Callable[..., tf.Tensor]) -> tf.data.Dataset:
    """Puts a teacher's logits beside each batch's labels.

    Args:
        batches: (images, labels) with labels of shape (batch,).
        teacher: gives (batch, classes) logits, called as a Keras model, which may be one; its
            weights do not change. Of several answers the last counts: the exits before it learn
            from it, as in self-distillation (Zhang et al. 2019, "Be Your Own Teacher").
    Returns: (images, targets) batches; targets are float32 (batch, 1 + classes), the label
        first.
    """

    def answer(x: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits = tf.cast(tf.nest.flatten(teacher(x, training=False))[-1], tf.float32)
        return x, tf.concat([tf.cast(labels, tf.float32)[:, None], logits], axis=1)

    return batches.map(answer).prefetch(PREFETCHED)


def distilled_loss(
    share: float, *, probabilities: bool = False
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Gives the loss (1 - share) * H(label, s) + share * T**2 * KL(t_T || s_T).

    H is cross entropy, s_T and t_T are the softmax of student's and teacher's logits over the
    TEMPERATURE T; T**2 keeps the size of its gradients (Hinton et al. 2015, section 2.1).

    Args:
        share: of the teacher's answers, 0 to 1.
        probabilities: the student ends in a softmax; logarithms of its answers are its logits.
    Returns: a function of (batch, 1 + classes) targets, as `with_answers` gives them, and
        (batch, classes) logits to (batch,) losses in nats.
    """

    def loss(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        logits = tf.cast(logits, tf.float32)
        logits = as_logits(logits) if probabilities else logits
        answers = tf.nn.softmax(targets[:, 1:] / TEMPERATURE)
        divergence = keras.losses.kl_divergence(answers, tf.nn.softmax(logits / TEMPERATURE))
        labels = keras.losses.sparse_categorical_crossentropy(
            targets[:, 0], logits, from_logits=True
        )
        return (1 - share) * labels + share * TEMPERATURE**2 * divergence

    return loss


def accuracy(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Share of images whose largest logit is that of their label, for targets as above."""
    return keras.metrics.sparse_categorical_accuracy(targets[:, 0], logits)
