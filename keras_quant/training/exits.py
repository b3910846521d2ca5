"""How a net with several exits is trained as one: gradients kept apart, and exits that learn.

- Orthogonalized SGD (Wan et al., "Orthogonalized SGD and nested architectures for anytime neural
  networks", 2020): the gradient of each later output is projected onto what is orthogonal to those
  of the earlier ones, so that no step for it undoes one for them. Here a gradient is one vector
  over all variables, outputs are taken in their order, and what is left of each is added up; any
  optimizer may take the sum.
- Self-distillation (Zhang et al., "Be your own teacher", 2019): earlier exits learn the last one's
  answers beside the labels, while that one learns the labels alone. Of that paper's three losses
  it is the second; features are not compared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from keras_quant.model.probabilities import are_probabilities, as_logits
from keras_quant.tf import keras, tf
from keras_quant.training.distill import distilled_loss
from keras_quant.training.objectives import TensorFunction

Gradients = Sequence[Any]
"""One a variable; None where it has none."""

Losses = Callable[[Sequence[tf.Tensor], Sequence[tf.Tensor]], list[tf.Tensor]]
"""From targets and outputs to the loss of each output, a number each."""


def weighted(losses: Sequence[TensorFunction], weights: Sequence[float]) -> Losses:
    """The mean loss of each output, times its weight."""

    def each(targets: Sequence[tf.Tensor], outputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return [
            weight * tf.reduce_mean(loss(target, output))
            for loss, weight, target, output in zip(losses, weights, targets, outputs, strict=True)
        ]

    return each


def self_distilled(
    share: float, model: keras.Model, last: TensorFunction, weights: Sequence[float]
) -> Losses:
    """Losses of exits that learn a share of the last one's answers, see `distilled_loss`.

    No gradient goes back from an exit into the answers that it learns.

    Args:
        share: of these answers, 0 to 1; the rest is of the labels.
        model: whose outputs they are, all of classes.
        last: the loss of the last output, of labels.
        weights: of the outputs' losses.
    """
    *early, end = are_probabilities(model)
    learning = [distilled_loss(share, probabilities=one) for one in early]

    def each(targets: Sequence[tf.Tensor], outputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        labels = tf.cast(tf.reshape(targets[-1], (-1, 1)), tf.float32)
        answers = tf.stop_gradient(tf.cast(outputs[-1], tf.float32))
        taught = tf.concat([labels, as_logits(answers) if end else answers], axis=1)
        functions = [*learning, last]
        return weighted(functions, weights)([taught] * len(early) + [targets[-1]], outputs)

    return each


def orthogonalized(gradients: Sequence[Gradients]) -> list[Any]:
    """The sum of gradients, each less its share along those before it (Gram and Schmidt).

    Args:
        gradients: of each output, in their order; of equally many variables.
    Returns: one a variable; None where no output has one.
    """
    basis: list[tuple[Gradients, tf.Tensor]] = []
    for gradient in gradients:
        for before, square in basis:
            share = tf.math.divide_no_nan(_dot(gradient, before), square)
            gradient = [
                _less(one, share, other) for one, other in zip(gradient, before, strict=True)
            ]
        basis.append((gradient, _dot(gradient, gradient)))
    return _sum([gradient for gradient, _ in basis])


@contextlib.contextmanager
def joint_steps(model: keras.Model, losses: Losses, *, orthogonal: bool) -> Iterator[None]:
    """Lets a compiled model of several outputs take its steps by other losses than it reports.

    What `fit` reports are the losses that the model was compiled with.

    Args:
        losses: whose sum is made small.
        orthogonal: keep their gradients apart, see `orthogonalized`.
    """

    def train_step(data: Any) -> dict[str, tf.Tensor]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape(persistent=True) as tape:
            outputs = model(x, training=True)
            found = losses(tf.nest.flatten(y), tf.nest.flatten(outputs))
            other = tf.add_n(model.losses) if model.losses else None
            total = tf.add_n(found if other is None else [*found, other])
        variables = model.trainable_variables
        if orthogonal:
            apart = orthogonalized([tape.gradient(one, variables) for one in found])
            gradients = apart if other is None else _sum([apart, tape.gradient(other, variables)])
        else:
            gradients = tape.gradient(total, variables)
        del tape
        model.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        model.compute_loss(x, y, outputs, sample_weight)
        return dict(model.compute_metrics(x, y, outputs, sample_weight))

    model.train_step, model.train_function = train_step, None
    try:
        yield
    finally:
        del model.train_step
        model.train_function = None


def _dot(first: Gradients, second: Gradients) -> tf.Tensor:
    products = [
        tf.reduce_sum(one * other)
        for one, other in zip(first, second, strict=True)
        if one is not None and other is not None
    ]
    return tf.add_n(products) if products else tf.constant(0.0)


def _less(gradient: Any, share: tf.Tensor, before: Any) -> Any:
    if before is None:
        return gradient
    return -share * before if gradient is None else gradient - share * before


def _sum(gradients: Sequence[Gradients]) -> list[Any]:
    parts = [[one for one in each if one is not None] for each in zip(*gradients, strict=True)]
    return [tf.add_n(part) if part else None for part in parts]
