"""Gradient steps on soft codes, whatever it is that they are to answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from keras_quant.prepare.adjust.soft_rounding import SoftCodes, annealed, undecided
from keras_quant.tf import keras, tf

# Of the regularizer, beside an error that is 1 where codes are rounded to the nearest; AdaRound's
# 0.01 is beside the error as it is, which differs from layer to layer by orders of magnitude.
WEIGHT = 1.0
# Adam's; AdaRound takes 0.001 for 10,000 steps.
LEARNING_RATE = 0.01
CHUNK = 50  # steps between two reports

Error = Callable[[tf.Tensor, Sequence[tf.Tensor]], tf.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """How rounding is learned.

    Attributes:
        steps: of Adam, for each layer or block.
        drop: share of the values that are taken before they were rounded, drawn anew at each step:
            QDrop, Wei et al. 2022, eq. 5. 0 rounds all of them.
        seed: of what is drawn.
    """

    steps: int = 1000
    drop: float = 0.0
    seed: int = 0


def learn(
    kernels: Sequence[SoftCodes],
    error: Error,
    learning: Learning,
    on_share: Callable[[float], None] = lambda share: None,
) -> None:
    """Moves soft codes so that an error becomes small, and each of them one of its neighbours.

    Nagel et al. 2020, eq. 21, by Adam; the exponent of the regularizer is annealed after a warm-up
    without it.

    Args:
        kernels: their variables are changed.
        error: (step, soft codes of all kernels) gives the error of a batch, float32 (), about 1
            where codes are rounded to the nearest.
        on_share: told now and then which share of the steps is done.
    """
    variables = [kernel.moved for kernel in kernels]
    optimizer = keras.optimizers.Adam(LEARNING_RATE)
    optimizer.build(variables)

    def take_steps(begin: tf.Tensor, end: tf.Tensor) -> None:
        for step in tf.range(begin, end):
            with tf.GradientTape() as tape:
                found = error(step, [kernel.soft() for kernel in kernels])
                is_on, beta = annealed(tf.cast(step, tf.float32) / learning.steps)
                loose = tf.add_n([undecided(variable, beta) for variable in variables])
                loss = found + is_on * WEIGHT * loose
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    number = tf.TensorSpec((), tf.int32)
    # Concrete: TensorFlow warns of functions that are traced anew for each layer, as this one is.
    take = tf.function(take_steps).get_concrete_function(number, number)
    for begin in range(0, learning.steps, CHUNK):
        end = min(begin + CHUNK, learning.steps)
        take(tf.constant(begin), tf.constant(end))
        on_share(end / learning.steps)
