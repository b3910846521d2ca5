"""Learned rounding: of a layer on patches of what it reads, of a block on whole values.

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (2020), layer by layer;
Li et al., "BRECQ" (2021), block by block. What is read is what the rounded layers before give, the
order of Wei et al., "QDrop" (2022), and is to become what the float model has behind the ReLU: the
asymmetric reconstruction of Nagel et al., eq. 25. Differently from them the search begins at the
codes and scales that `descent` finds; means are taken out, as the bias is corrected afterwards;
and what errs no less than these codes in the end is left at them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_quant.methods.layers import FixedGrid, fused_kernels
from keras_quant.model.operations import Operation
from keras_quant.prepare.adjust.descent import Rounded
from keras_quant.prepare.adjust.learn import Learning, learn
from keras_quant.prepare.adjust.patches import Patches
from keras_quant.prepare.adjust.soft_rounding import soft_codes
from keras_quant.prepare.adjust.units import Unit
from keras_quant.tf import keras, tf

Array = NDArray[np.float64]
OnShare = Callable[[float], None]

# Positions of a layer in a step, and images of a block.
BATCH_POSITIONS, BATCH_IMAGES = 512, 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Behind:
    """What follows a kernel, channel by channel: clip(gain * x + shift, low, high).

    Attributes:
        gain: float32 (channels,).
        shift: float32 (channels,).
        low: -inf where nothing ends the values.
        high: inf likewise.
    """

    gain: NDArray[np.float32]
    shift: NDArray[np.float32]
    low: float = -np.inf
    high: float = np.inf

    def of(self, x: tf.Tensor) -> tf.Tensor:
        """x: float32 (groups, positions, outputs), of channels group by group."""
        groups, outputs = x.shape[0], x.shape[-1]
        gain, shift = (end.reshape(groups, 1, outputs) for end in (self.gain, self.shift))
        return tf.clip_by_value(x * gain + shift, self.low, self.high)


def behind(unit: Unit, channels: int) -> Behind:
    """What the batch norms, ReLU and quantizer behind a layer do, but for the rounding."""
    gain, shift = np.ones(channels), np.zeros(channels)
    low, high = -np.inf, np.inf
    for call in unit.calls[1:]:
        layer = call.layer
        if isinstance(layer, keras.layers.BatchNormalization):
            ones = np.zeros((2, *(1,) * (len(call.shape) - 1), channels), np.float32)
            ones[1] = 1.0
            at = np.asarray(layer(ones, training=False), np.float64).reshape(2, channels)
            gain, shift = gain * (at[1] - at[0]), shift * (at[1] - at[0]) + at[0]
        else:
            ends = _ends(layer)
            low, high = max(low, ends[0]), min(high, ends[1])
    return Behind(gain=gain.astype(np.float32), shift=shift.astype(np.float32), low=low, high=high)


def _ends(layer: keras.layers.Layer) -> tuple[float, float]:
    """Between which values a ReLU or a grid leaves others as they are, but for rounding."""
    if isinstance(layer, FixedGrid):
        low, high = layer.levels
        return low * layer.scale, high * layer.scale
    return 0.0, np.inf if layer.max_value is None else float(layer.max_value)


def round_layer(
    rows: Array,
    begin: Rounded,
    patches: Patches,
    after: Behind,
    *,
    qmax: int,
    learning: Learning,
    on_share: OnShare = lambda share: None,
) -> Rounded:
    """Learns the codes of a layer's kernel.

    Args:
        rows: the float kernel's, (groups, outputs, taps).
        begin: codes and scales to begin with; the scales stay.
        patches: what is read and wanted, in random order; and what is read in the float model,
            where some of it is to be taken.
        qmax: highest code, and the lowest but for its sign.
    Returns: what errs least of the codes to begin with and of those learned, output by output.
    """
    kernel = soft_codes(rows / begin.scale, begin.codes, qmax)
    read, plain = _centred(patches.read), None
    if learning.drop and patches.plain is not None:
        plain = _centred(patches.plain)
    mean = tf.constant(patches.wanted.mean(axis=1, keepdims=True, dtype=np.float64), tf.float32)
    target = after.of(tf.constant(patches.wanted))
    scale = tf.constant(begin.scale, tf.float32)
    size = min(BATCH_POSITIONS, read.shape[1])
    starts = read.shape[1] // size

    def error_of(codes: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Of each output, (groups, outputs)."""
        answer = tf.matmul(x, codes * scale, transpose_b=True)
        return tf.reduce_mean(tf.square(after.of(answer + mean) - y), axis=1)

    first = error_of(tf.constant(begin.codes, tf.float32), read, target)
    usual = tf.maximum(tf.reduce_mean(first), TINY)

    def error(step: tf.Tensor, codes: Sequence[tf.Tensor]) -> tf.Tensor:
        at = (step % starts) * size
        x, y = read[:, at : at + size], target[:, at : at + size]
        if plain is not None:
            x = _dropped(x, plain[:, at : at + size], learning, step)
        return tf.reduce_mean(error_of(codes[0], x, y)) / usual

    learn([kernel], error, learning, on_share)
    found = kernel.hard()
    last = error_of(tf.constant(found, tf.float32), read, target)
    better = np.asarray(last < first)[..., np.newaxis]
    return Rounded(codes=np.where(better, found, begin.codes), scale=begin.scale)


def _centred(x: NDArray[np.float32]) -> tf.Tensor:
    mean = x.mean(axis=1, keepdims=True, dtype=np.float64)
    return tf.constant(x - mean.astype(np.float32))


def _dropped(
    rounded: tf.Tensor, plain: tf.Tensor, learning: Learning, step: tf.Tensor, place: int = 0
) -> tf.Tensor:
    """Values of which a share was not rounded: QDrop, Wei et al. 2022, eq. 5.

    Args:
        place: differs among the tensors of one step.
    """
    seed = tf.stack([tf.constant(learning.seed * 1000 + place, step.dtype), step])
    drawn = tf.random.stateless_uniform(tf.shape(rounded), seed)
    return tf.where(drawn < learning.drop, plain, rounded)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """A layer of a block.

    Attributes:
        operation: the plan's.
        rows: the float kernel's, (groups, outputs, taps).
        begin: codes and scales to begin with; the scales stay.
        qmax: highest code, and the lowest but for its sign.
        mean: float32 (channels,): of what it puts out in the float model.
    """

    operation: Operation
    rows: Array
    begin: Rounded
    qmax: int
    mean: NDArray[np.float32]

    def answer(self, x: tf.Tensor, codes: tf.Tensor) -> tf.Tensor:
        """What the layer makes of values, moved so that its means are the float model's.

        As the bias will be; of the values of a batch.
        """
        layer = self.operation.layer
        weights = tf.transpose(codes * tf.constant(self.begin.scale, tf.float32), (2, 0, 1))
        if self.operation.kind == "dense":
            found = tf.tensordot(x, tf.reshape(weights, layer.kernel.shape), 1)
        elif self.operation.kind == "depthwise_conv2d":
            found = tf.nn.depthwise_conv2d(
                x,
                tf.reshape(weights, layer.depthwise_kernel.shape),
                (1, *layer.strides, 1),
                layer.padding.upper(),
                dilations=layer.dilation_rate,
            )
        else:
            found = layer.convolution_op(_padded(layer, x), tf.reshape(weights, layer.kernel.shape))
        axes = list(range(found.shape.rank - 1))
        return found - tf.reduce_mean(found, axis=axes, keepdims=True) + self.mean


def _padded(layer: keras.layers.Layer, x: tf.Tensor) -> tf.Tensor:
    """A causal Conv1D pads by itself, before its convolution."""
    causal = layer.padding == "causal"
    return tf.pad(x, layer._compute_causal_padding(x)) if causal else x


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """What a block reads and what is wanted of it, float32 (images, ...).

    Attributes:
        read: what the rounded layers before give.
        wanted: what the float model has there.
        plain: what the float model reads; None where nobody asked.
    """

    read: np.ndarray
    wanted: np.ndarray
    plain: np.ndarray | None = None


def round_block(
    unit: Unit,
    parts: Mapping[str, Part],
    seen: Seen,
    *,
    learning: Learning,
    on_share: OnShare = lambda share: None,
) -> dict[str, Rounded]:
    """Learns the codes of all kernels of a block together; values between them are rounded.

    Args:
        parts: by the names of the unit's calls with kernels.
        seen: images in random order.
    Returns: by the same names what errs less, of the codes to begin with and of those learned.
    """
    names = list(parts)
    kernels = [soft_codes(p.rows / p.begin.scale, p.begin.codes, p.qmax) for p in parts.values()]
    read, wanted = tf.constant(seen.read), tf.constant(seen.wanted)
    plain = tf.constant(seen.plain) if learning.drop and seen.plain is not None else None
    if isinstance(unit.tail.layer, FixedGrid):
        wanted = tf.clip_by_value(wanted, *_ends(unit.tail.layer))
    size = min(BATCH_IMAGES, len(seen.read))
    starts = len(seen.read) // size

    def error_of(x: tf.Tensor, y: tf.Tensor, codes: Sequence[tf.Tensor], drop: _Drop) -> tf.Tensor:
        answer = _answer(unit, x, parts, dict(zip(names, codes, strict=True)), drop)
        return tf.reduce_mean(tf.square(answer - y))

    def mean_error(codes: Sequence[tf.Tensor]) -> float:
        slices = [slice(start * size, (start + 1) * size) for start in range(starts)]
        return float(np.mean([error_of(read[at], wanted[at], codes, _keep) for at in slices]))

    def constants(found: Sequence[Array]) -> list[tf.Tensor]:
        return [tf.constant(codes, tf.float32) for codes in found]

    with fused_kernels():
        first = mean_error(constants([part.begin.codes for part in parts.values()]))
        usual = max(first, TINY)

        def error(step: tf.Tensor, codes: Sequence[tf.Tensor]) -> tf.Tensor:
            at = (step % starts) * size
            x, y = read[at : at + size], wanted[at : at + size]
            if plain is None:
                return error_of(x, y, codes, _keep) / usual
            mixed = _dropped(x, plain[at : at + size], learning, step)
            return error_of(mixed, y, codes, _drop(learning, step)) / usual

        learn(kernels, error, learning, on_share)
        found = [kernel.hard() for kernel in kernels]
        better = mean_error(constants(found)) < first
    return {
        name: Rounded(codes=codes, scale=part.begin.scale) if better else part.begin
        for (name, part), codes in zip(parts.items(), found, strict=True)
    }


# Gives for rounded values and the same before that what is computed with, at a place of the block.
_Drop = Callable[[tf.Tensor, tf.Tensor, int], tf.Tensor]


def _keep(rounded: tf.Tensor, plain: tf.Tensor, place: int) -> tf.Tensor:
    return rounded


def _drop(learning: Learning, step: tf.Tensor) -> _Drop:
    return lambda rounded, plain, place: _dropped(rounded, plain, learning, step, 1 + place)


def _answer(
    unit: Unit,
    x: tf.Tensor,
    parts: Mapping[str, Part],
    codes: Mapping[str, tf.Tensor],
    drop: _Drop,
) -> tf.Tensor:
    """What a block makes of values; the last quantizer ends them, and does not round."""
    values = {unit.source: x}
    for place, call in enumerate(unit.calls):
        read = [values[name] for name in call.inputs]
        if call.name in parts:
            values[call.name] = parts[call.name].answer(read[0], codes[call.name])
        elif isinstance(call.layer, FixedGrid):
            ended = tf.clip_by_value(read[0], *_ends(call.layer))
            is_last = call is unit.tail
            values[call.name] = ended if is_last else drop(call.layer(read[0]), ended, place)
        else:
            values[call.name] = call.layer(read if len(read) > 1 else read[0], training=False)
    return values[unit.tail.name]


TINY = 1e-20  # an error of layers that err by nothing
