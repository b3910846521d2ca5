"""Optimizers and learning-rate schedules, made from their settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from keras_quant.methods.layers import variable_name
from keras_quant.methods.method import Tuning
from keras_quant.tf import keras, tf
from keras_quant.training.optimizer_settings import OptimizerSettings

MOMENTUM = 0.9
# Goyal et al. 2017 and He et al. 2016 divide by ten; at half and three quarters of training.
STEP_FACTOR = 0.1
STEP_AT = (0.5, 0.75)
# Of the highest rate: 1e-4 of 5e-2, the defaults of the authors' fge.py (Garipov et al. 2018).
TRIANGLE_LOWEST = 1 / 500


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then cosine to zero (Loshchilov & Hutter 2017, eq. 5), or another schedule.

    That is steps, constant, or a triangle: from TRIANGLE_LOWEST of the rate up to it and back, a
    cycle of fast geometric ensembling (Garipov et al. 2018, section 4), from low to low.
    """

    def __init__(self, settings: OptimizerSettings, *, steps_per_epoch: float, epochs: int) -> None:
        self.settings = settings
        self.total = float(steps_per_epoch * epochs)
        self.warmup = settings.warmup_epochs * steps_per_epoch

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        done = tf.clip_by_value((step - self.warmup) / max(1.0, self.total - self.warmup), 0.0, 1.0)
        factor = {
            "cosine": lambda: 0.5 * (1 + tf.cos(math.pi * done)),
            "step": lambda: STEP_FACTOR ** sum(tf.cast(done >= at, tf.float32) for at in STEP_AT),
            "constant": lambda: tf.ones_like(done),
            "triangle": lambda: (
                TRIANGLE_LOWEST + (1 - TRIANGLE_LOWEST) * (1 - tf.abs(2 * done - 1))
            ),
        }[self.settings.schedule]()
        rise = tf.minimum(1.0, (step + 1) / max(1.0, self.warmup))
        return self.settings.learning_rate * factor * rise

    def get_config(self) -> dict[str, Any]:
        return {"settings": self.settings, "total": self.total, "warmup": self.warmup}


def make_optimizer(
    settings: OptimizerSettings,
    variables: Sequence[Any],
    *,
    steps_per_epoch: int,
    epochs: int,
    tunings: Sequence[tuple[Any, Tuning]] = (),
    accumulate: int = 1,
    extend: Callable[[keras.optimizers.Optimizer], None] = lambda optimizer: None,
) -> keras.optimizers.Optimizer:
    """Makes a Keras optimizer whose learning rate follows the schedule.

    Args:
        variables: all that are trained.
        tunings: variables of a method, each with how it is trained; weight decay spares them, if
            it is not said otherwise, as it does all but kernels: biases, batch norms, and slopes
            of PReLUs, which decay would draw to ReLUs (He et al. 2015, "Delving Deep into
            Rectifiers", section 2.1).
        accumulate: batches whose gradients are averaged for one update; an epoch's last ones wait
            for those of the next. What is in memory is a batch, what is learned from is as many
            times larger; batch norms still see a batch each.
        extend: is given the optimizer, to add to what an update does.
    """
    rate = Schedule(settings, steps_per_epoch=steps_per_epoch / accumulate, epochs=epochs)
    decay = settings.weight_decay or None
    tuned = {variable._unique_id: tuning for variable, tuning in tunings}
    if settings.name == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=MOMENTUM, nesterov=True, weight_decay=decay)
    else:
        optimizer = keras.optimizers.Adam(rate, weight_decay=decay)
    spared = [v for v in variables if not _decays(v, tuned.get(v._unique_id))]
    optimizer.exclude_from_weight_decay(var_list=spared)
    optimizer.build(variables)
    _scale_rates(optimizer, [(v, t.rate) for v, t in tunings if t.rate != 1 and not t.adam])
    _add_adams(optimizer, [(v, t) for v, t in tunings if t.adam], settings.learning_rate)
    extend(optimizer)
    if accumulate > 1:
        _accumulate(optimizer, variables, accumulate)
    return optimizer


def _decays(variable: Any, tuning: Tuning | None) -> bool:
    if tuning is not None:
        return tuning.decays
    return variable_name(variable).endswith("kernel")


def _scale_rates(optimizer: keras.optimizers.Optimizer, rates: Sequence[tuple[Any, float]]) -> None:
    """Multiplies the learning rates of some variables, whatever the optimizer does with them."""
    if not rates:
        return
    # Of a variable with a copy a device, an update is given each copy; the key is that of all.
    key, update = optimizer._var_key, optimizer.update_step
    factors = {key(v): rate for v, rate in rates}

    def update_step(gradient: tf.Tensor, variable: Any) -> None:
        factor, before = factors.get(key(variable), 1.0), tf.identity(variable)
        update(gradient, variable)
        if factor != 1:
            variable.assign(before + factor * (variable - before))

    optimizer.update_step = update_step


def _add_adams(
    optimizer: keras.optimizers.Optimizer,
    tuned: Sequence[tuple[Any, Tuning]],
    highest_rate: float,
) -> None:
    """Lets some variables be moved by Adam (Kingma & Ba 2015, algorithm 1), at rates of their own.

    Args:
        tuned: each with how; its averages join the optimizer's variables.
        highest_rate: of the optimizer's schedule.
    """
    if not tuned:
        return
    key, update = optimizer._var_key, optimizer.update_step
    adams = {key(variable): _Adam(optimizer, variable, tuning) for variable, tuning in tuned}

    def update_step(gradient: tf.Tensor, variable: Any) -> None:
        adam = adams.get(key(variable))
        if adam is None:
            update(gradient, variable)
        else:
            adam.update(gradient, optimizer.iterations, optimizer.learning_rate / highest_rate)

    optimizer.update_step = update_step


class _Adam:
    """Moves one variable.

    Args:
        optimizer: keeps the averages of gradient and squared gradient among its variables.
    """

    BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # of the paper

    def __init__(
        self, optimizer: keras.optimizers.Optimizer, variable: Any, tuning: Tuning
    ) -> None:
        self.variable, self.tuning = variable, tuning
        self.mean, self.square = (
            optimizer.add_variable_from_reference(variable, f"own_{name}") for name in "mv"
        )

    def update(self, gradient: tf.Tensor, iterations: tf.Tensor, share: tf.Tensor) -> None:
        """One step, at a share of its highest learning rate."""
        done = tf.cast(iterations + 1, gradient.dtype)
        self.mean.assign_add((gradient - self.mean) * (1 - self.BETA_1))
        self.square.assign_add((tf.square(gradient) - self.square) * (1 - self.BETA_2))
        mean = self.mean / (1 - self.BETA_1**done)
        square = self.square / (1 - self.BETA_2**done)
        move = self.tuning.rate * share * mean / (tf.sqrt(square) + self.EPSILON)
        if self.tuning.relative:
            move = move * tf.abs(self.variable)
        self.variable.assign_sub(move)


def _accumulate(
    optimizer: keras.optimizers.Optimizer, variables: Sequence[Any], count: int
) -> None:
    """Lets every count-th call of apply_gradients move variables, by the mean of the gradients.

    The sums are among the optimizer's variables, so that they are saved with it.
    """
    sums = {
        variable._unique_id: optimizer.add_variable_from_reference(variable, "accumulated")
        for variable in variables
    }
    waiting = optimizer.add_variable((), dtype=tf.int64, name="waiting")
    apply = optimizer.apply_gradients

    def apply_sums(kept: Sequence[Any]) -> None:
        apply([(sums[v._unique_id] / count, v) for v in kept])
        for variable in kept:
            total = sums[variable._unique_id]
            total.assign(tf.zeros_like(total))

    def apply_gradients(grads_and_vars: Any, *_: Any, **__: Any) -> Any:
        pairs = [(gradient, v) for gradient, v in grads_and_vars if gradient is not None]
        for gradient, variable in pairs:
            sums[variable._unique_id].assign_add(gradient)
        waiting.assign_add(1)
        kept = [variable for _, variable in pairs]

        def update() -> tf.Tensor:
            apply_sums(kept)
            return tf.constant(0, tf.int64)

        waiting.assign(tf.cond(waiting >= count, update, lambda: tf.identity(waiting)))
        return optimizer.iterations

    optimizer.apply_gradients = apply_gradients
