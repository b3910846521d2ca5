"""Freezing weights that oscillate between two codes.

Nagel et al., "Overcoming Oscillations in Quantization-Aware Training" (2022), algorithm 1: a weight
whose code turns back too often is held at the code that it had on average. It matters for depthwise
kernels, of whose few weights many oscillate, and then spoil the statistics of the batch norms.

What differs: the threshold falls with the learning rate, from 0.04 to 0.01, which under a cosine
schedule is the paper's own; steps go on being learned, and what is held is a code, not a value.
"""

from __future__ import annotations

from typing import Any

from keras_quant.methods.lsq import LsqTwin
from keras_quant.methods.straight_through import SMALLEST
from keras_quant.model.topology import layers_by_name
from keras_quant.tf import keras, tf

MOMENTUM = 0.01  # of the averages, of the paper
HIGHEST, LOWEST = 0.04, 0.01  # thresholds of the share of updates that turn back, of the paper


def freezable(model: keras.Model) -> list[Any]:
    """The layers whose codes can be held: those with learned steps."""
    return [layer for layer in layers_by_name(model).values() if isinstance(layer, LsqTwin)]


def freeze_oscillations(
    optimizer: keras.optimizers.Optimizer, layers: list[Any], highest_rate: float
) -> None:
    """Looks after each update which weights oscillate, and holds them.

    Args:
        optimizer: keeps what is known of each weight among its variables.
        layers: of `freezable`.
        highest_rate: of the optimizer's schedule.
    """
    kernels = [_Kernel(optimizer, layer) for layer in layers]
    apply = optimizer.apply_gradients

    def apply_gradients(*given: Any, **named: Any) -> Any:
        done = apply(*given, **named)
        share = optimizer.learning_rate / highest_rate
        for kernel in kernels:
            kernel.update(LOWEST + (HIGHEST - LOWEST) * share)
        return done

    optimizer.apply_gradients = apply_gradients


class _Kernel:
    """What is known of a layer's weights.

    Attributes:
        codes: after the last update.
        way: whether the last move of a code was up, 1, or down, -1; 0 before the first.
        often: average of whether an update turned back.
        mean: average of the codes.
        held: 1 where the weight is frozen.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, layer: Any) -> None:
        self.layer = layer
        shape = layer.raw_kernel.shape
        self.codes, self.way, self.often, self.mean, self.held = (
            optimizer.add_variable(shape, dtype=tf.float32, name=f"{layer.name}_{name}")
            for name in ("codes", "way", "often", "mean", "held")
        )
        for variable in (self.codes, self.mean):
            variable.assign(self._now())

    def _step(self) -> tf.Tensor:
        return tf.maximum(tf.convert_to_tensor(self.layer.kernel_scale), SMALLEST)

    def _now(self) -> tf.Tensor:
        kernel = tf.convert_to_tensor(self.layer.raw_kernel)
        return tf.clip_by_value(tf.round(kernel / self._step()), *self.layer.codes)

    def update(self, threshold: tf.Tensor) -> None:
        """Looks at the codes after an update; weights that are held get theirs back."""
        now, one = self._now(), tf.ones_like(self.codes)
        moved = tf.sign(now - self.codes)
        turned = tf.where(moved * self.way < 0, one, 0 * one)
        self.often.assign_add(MOMENTUM * (turned - self.often))
        self.mean.assign_add(MOMENTUM * (now - self.mean))
        newly = (self.often > threshold) & (self.held == 0)
        codes = tf.where(self.held > 0, self.codes, tf.where(newly, tf.round(self.mean), now))
        self.held.assign(tf.where(newly, one, self.held))
        self.way.assign(tf.where(moved != 0, moved, self.way))
        self.codes.assign(codes)
        raw = self.layer.raw_kernel
        raw.assign(tf.where(self.held > 0, codes * self._step(), tf.convert_to_tensor(raw)))
