"""Equalizing across layers: channels of a tensor are scaled so that rounding loses less of them.

A channel that a layer puts out may be divided by any positive number if what reads it multiplies by
it, Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (2019),
section 4.1; the float model computes the same. They choose the numbers by the ranges of kernels
(`equalize_weights`), since they round kernels with one scale a tensor. With a scale for each output
channel a kernel takes any such number for nothing, and what is left to gain is the range of
activations, which have one scale a tensor: `equalize_activations` weighs both, as Xiao et al.,
"SmoothQuant" (2023), eq. 4, does for matrix products; the exponent is chosen tensor by tensor.

A ReLU6 stays where it is. Only those of its channels are scaled that stayed below the bound on the
images that were seen, by no more than makes their largest value the bound. On these images the
float model is unchanged; a value that reaches further than all of them is cut off there, as a range
that was found on images cuts it off in any case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_quant.errors import DataError
from keras_quant.model.operations import Operation
from keras_quant.model.topology import layers_by_name
from keras_quant.prepare.adjust.pairs import (
    Pair,
    find_pairs,
    input_kernel,
    output_kernel,
    scale_tensor,
)
from keras_quant.prepare.plan import Plan
from keras_quant.tf import keras

Layers = Mapping[str, keras.layers.Layer]
Scale = NDArray[np.float64]

# Shares of the activations' ranges in a scale, of the kernels' what is left; None scales nothing.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
# Of a range, the parts that are tried as what codes reach over: what lies beyond is cut off.
CUTS = 2.0 ** (-np.arange(7) / 2)
# No channel is scaled by more, so that those that are nearly dead stay so.
MOST = 2.0**10
# Nagel et al. repeat eq. 11 until it changes nothing; each round halves the distance, or better.
ROUNDS = 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Channels:
    """What was seen of the channels of a tensor.

    Attributes:
        low: float64 (channels,): the smallest value.
        high: likewise the largest.
        mean_square: likewise the mean of the squares.
        drawn: float32 (positions, channels): values at some positions.
    """

    low: Scale
    high: Scale
    mean_square: Scale
    drawn: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Equalized:
    """A float model with other weights that computes the same, and how it came to them.

    Attributes:
        model: a new one.
        scales: by the name of each tensor that was scaled what its channels were divided by.
    """

    model: keras.Model
    scales: Mapping[str, Scale]


def equalize_weights(plan: Plan, source: keras.Model) -> Equalized:
    """Scales so that kernels on both sides of a tensor have equal ranges in each channel.

    Nagel et al. 2019, eq. 11: a channel is divided by sqrt(r1 / r2), with r1 the largest weight
    that gives it, and r2 the largest that reads it. Tensors behind a ReLU6 are left alone.
    """
    model, layers = _copy(source)
    pairs = [pair for pair in find_pairs(plan.operations) if pair.bound is None]
    scales = {pair.tensor: np.ones(pair.channels) for pair in pairs}
    for _ in range(ROUNDS):
        for pair in pairs:
            ratio = _weight_ratio(pair, layers)
            scale_tensor(pair, layers, ratio)
            scales[pair.tensor] = scales[pair.tensor] * ratio
    return Equalized(model=rescaled(plan, source, scales), scales=scales)


def equalize_activations(
    plan: Plan, source: keras.Model, channels: Mapping[str, Channels]
) -> Equalized:
    """Scales so that rounding a tensor and the kernels that read it errs least together.

    Args:
        channels: of each tensor that `scalable` names.
    """
    layers = layers_by_name(source)
    widths = {point.after: point.spec.bits for point in plan.points if not point.readers}
    scales = {}
    for pair in find_pairs(plan.operations):
        if pair.tensor not in widths:
            continue
        noise = _Noise(pair, layers, channels[pair.tensor], plan, widths[pair.tensor])
        best = min(noise.candidates(), key=noise.of)
        if (best != 1).any():
            scales[pair.tensor] = best
    return Equalized(model=rescaled(plan, source, scales), scales=scales)


def rescaled(plan: Plan, source: keras.Model, scales: Mapping[str, Scale]) -> keras.Model:
    """Scales tensors as it was done to a model of the same weights before.

    Args:
        scales: as Equalized has them.
    Raises:
        DataError: they are of another model.
    """
    model, layers = _copy(source)
    pairs = {pair.tensor: pair for pair in find_pairs(plan.operations)}
    wrong = [n for n, s in scales.items() if n not in pairs or len(s) != pairs[n].channels]
    if wrong:
        raise DataError(f"the scales of channels are of another model: {', '.join(wrong)}")
    for name, scale in scales.items():
        scale_tensor(pairs[name], layers, scale)
    return model


def scalable(plan: Plan) -> tuple[str, ...]:
    """Names of the operations whose channels can be scaled."""
    return tuple(pair.tensor for pair in find_pairs(plan.operations))


def _copy(source: keras.Model) -> tuple[keras.Model, dict[str, keras.layers.Layer]]:
    model = keras.models.clone_model(source)
    model.set_weights(source.get_weights())
    return model, layers_by_name(model)


def _weight_ratio(pair: Pair, layers: Layers) -> Scale:
    """By what a tensor's channels are divided, eq. 11; 1 for those that are dead on a side."""
    kernel = output_kernel(pair.block, layers)
    given = np.abs(kernel).max(axis=1)
    read = np.max([_largest(_input(pair, r, layers)) for r in pair.readers], axis=0)
    alive = (given > 0) & (read > 0)
    ratio = np.sqrt(np.where(alive, given, 1.0) / np.where(alive, read, 1.0))
    return np.asarray(np.clip(ratio, 1 / MOST, MOST), np.float64)


def _input(pair: Pair, reader: Operation, layers: Layers) -> NDArray[np.float64]:
    return input_kernel(layers[reader.layer_name], reader.kind, pair.channels)


def _largest(kernel: NDArray[np.float64]) -> Scale:
    """Of each channel of a reader's kernel, see `input_kernel`."""
    return np.asarray(np.abs(kernel).max(axis=(0, 3)).reshape(-1), np.float64)


class _Noise:
    """What rounding a tensor and its readers' kernels adds to their outputs, by the tensor's scale.

    The tensor is rounded as a calibrator would: over the part of its range with the least squared
    error, which leaves out what channels hardly ever reach. Kernels are rounded evenly to their
    range, so that a step errs by its square / 12. What is added to an output is counted as a share
    of what it is computed of, its energy without the bias.
    """

    def __init__(self, pair: Pair, layers: Layers, seen: Channels, plan: Plan, bits: int) -> None:
        self._pair, self._seen, self._levels = pair, seen, 2**bits - 1
        self._kernels = []
        for reader in pair.readers:
            spec = plan.weights.get(reader.layer_name)
            codes = 0 if spec is None or spec.is_float else 2 ** (spec.bits - 1) - 1
            self._kernels.append((_input(pair, reader, layers), codes))
        self._reach = np.maximum(np.abs(seen.low), np.abs(seen.high))
        self._usual = self._reach * self._cuts()

    def candidates(self) -> list[Scale]:
        """Scales to choose from; the first changes nothing."""
        ones = np.ones(self._pair.channels)
        read = np.sqrt(sum(_relative(kernel) for kernel, _ in self._kernels))
        alive = (self._reach > 0) & (read > 0)
        reach, read = (np.where(alive, found, 1.0) for found in (self._usual, read))
        found = [reach**share / read ** (1 - share) for share in SHARES]
        return [ones, *(self._allowed(scale, alive) for scale in found)]

    def of(self, scale: Scale) -> float:
        """The noise, as a share of all outputs' energy."""
        low, high = (np.asarray(end / scale) for end in (self._seen.low, self._seen.high))
        top = high.max() if self._pair.bound is None else self._pair.bound
        drawn = np.asarray(self._seen.drawn / scale, np.float32)
        steps = (top - min(0.0, low.min())) * CUTS / self._levels
        errors = [
            _squared_errors(drawn, min(0.0, low.min()) * c, s, self._levels)
            for c, s in zip(CUTS, steps, strict=True)
        ]
        rounding = min(errors, key=np.sum) * scale**2
        return float(sum(self._of(*found, scale, rounding) for found in self._kernels))

    def _of(self, kernel: NDArray[np.float64], codes: int, scale: Scale, rounding: Scale) -> float:
        groups, inside = kernel.shape[1:3]
        squares, errors, s = (
            x.reshape(1, groups, inside, 1) for x in (self._seen.mean_square, rounding, scale)
        )
        energy = (kernel**2 * squares).sum(axis=(0, 2))
        noise = (kernel**2 * errors).sum(axis=(0, 2))
        if codes:
            steps = np.abs(kernel * s).max(axis=(0, 2)) / codes
            taps = len(kernel) * (squares / s**2).sum(axis=(0, 2))
            noise = noise + steps**2 / 12 * taps
        return float(np.mean(noise[energy > 0] / energy[energy > 0])) if energy.any() else 0.0

    def _cuts(self) -> Scale:
        """Of each channel's range the part with the least squared error, had it a scale alone."""
        low, high = np.minimum(self._seen.low, 0.0), np.maximum(self._seen.high, 0.0)
        steps = np.where(high > low, high - low, 1.0) / self._levels
        errors = [_squared_errors(self._seen.drawn, low * c, steps * c, self._levels) for c in CUTS]
        return np.asarray(CUTS[np.argmin(errors, axis=0)])

    def _allowed(self, scale: Scale, alive: NDArray[np.bool_]) -> Scale:
        """Of the tensor's own range; behind a ReLU6 within what it lets be."""
        bound = self._pair.bound
        top = self._reach.max() if bound is None else bound
        scale = scale * ((self._reach / scale)[alive].max(initial=0.0) or 1.0) / (top or 1.0)
        if bound is None:
            return np.where(alive, np.clip(scale, 1 / MOST, MOST), 1.0)
        free = alive & (self._reach < bound)
        lowest = np.maximum(self._reach / bound, 1 / MOST)
        return np.where(free, np.clip(scale, np.minimum(lowest, 1.0), 1.0), 1.0)


def _squared_errors(
    values: NDArray[np.float32], low: Scale | float, step: Scale | float, levels: int
) -> Scale:
    """Of each channel, the mean squared error of rounding to codes from low on."""
    low, step = np.asarray(low, np.float32), np.asarray(step, np.float32)
    step = np.where(step > 0, step, np.float32(1))
    first = np.rint(low / step)
    codes = np.clip(np.rint(values / step), first, first + levels)
    return np.asarray(np.square(codes * step - values).mean(axis=0), np.float64)


def _relative(kernel: NDArray[np.float64]) -> Scale:
    """How strongly outputs read each channel, each output's share of its largest, squared."""
    largest = np.abs(kernel).max(axis=(0, 2), keepdims=True)
    shares = kernel / np.where(largest > 0, largest, 1.0)
    return np.asarray((shares**2).mean(axis=(0, 3)).reshape(-1), np.float64)
