"""Nested kernels: each width computes with the upper bits of one 8-bit kernel.

Yu et al., "Any-precision deep neural networks" (2021), and Jin et al., "AdaBits" (2020): one set of
weights for several widths, of which `kq train --nested` trains all at once. A kernel is rounded to
base codes of 8 bits and a learned step; the codes of k bits are cut from these (`graph.cut`), and
their step is 2**(8 - k) of the base step. Steps and activations are LSQ's.

What differs: both papers squeeze weights by tanh and have levels without 0, cut by a floor; here
the base step is learned, from all widths at once, and codes are cut to the nearest, so that
integer kernels take them as they are. The papers leave the gain of each width to its batch norms,
and so does this.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_quant.graph.cut import BASE_BITS, BASE_MAX
from keras_quant.methods.lsq import (
    STEP,
    ZERO_POINT,
    LsqOptions,
    kernel_gradient_scale,
    make_grid,
    make_step,
    make_twin,
)
from keras_quant.methods.method import FileNames, Maker, Method, Reader
from keras_quant.methods.straight_through import SMALLEST, sum_shared
from keras_quant.methods.twins import (
    KINDS,
    Twin,
    make_twins,
    movable_of,
    read_twin,
    refuse_bits,
)
from keras_quant.schemes.scheme import QuantSpec
from keras_quant.tf import keras, tf

BASE_CODES = (-BASE_MAX, BASE_MAX)


class NestedTwin(Twin):
    """Cuts a kernel's codes from those of 8 bits, whose learned step is called `base_scale`."""

    shared = ("raw_kernel", "base_scale")

    def add_variables(self) -> None:
        self.base_scale = self.add_scale("base_scale", trainable=True)

    def round_kernel(self, kernel: tf.Tensor) -> tf.Tensor:
        step = tf.convert_to_tensor(self.base_scale)
        return cut_to_step(
            kernel,
            step,
            bits=self.bits,
            codes=self.codes,
            gradient_scale=kernel_gradient_scale(kernel, step, self.codes[1]),
        )

    def read_scale(self) -> np.ndarray:
        base = np.maximum(np.asarray(self.base_scale, np.float64), SMALLEST)
        return base * 2.0 ** (BASE_BITS - self.bits)


def cut_to_step(
    x: tf.Tensor, step: tf.Tensor, *, bits: int, codes: tuple[int, int], gradient_scale: float
) -> tf.Tensor:
    """Rounds x to 8-bit codes of a step, cuts these as `cut_codes` does, and gives their values.

    The gradients are LSQ's of a step of 2**(8 - bits) base codes (Esser et al. 2020, eq. 3), as if
    x had been rounded to that at once.

    Args:
        x: float32.
        step: of the base codes, float32, of x's rank, with 1 along the axes that share it; > 0.
        codes: the lowest and the highest of so many bits.
        gradient_scale: multiplies the gradient of the wider step.
    """
    (qmin, qmax), ratio = codes, 2.0 ** (BASE_BITS - bits)

    @tf.custom_gradient
    def cut(x: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, Any]:
        positive = tf.maximum(step, SMALLEST)
        base = tf.clip_by_value(tf.round(x / positive), *map(float, BASE_CODES))
        # Halves of whole numbers, which floats hold: floor(n / 2**s + 1/2) is (n + half) >> s.
        kept = tf.clip_by_value(tf.floor(base / ratio + 0.5), float(qmin), float(qmax))
        wide = positive * ratio
        y = kept * wide

        def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            levels, zero = x / wide, tf.zeros_like(upstream)
            below, above = levels <= qmin, levels >= qmax
            within = tf.where(below | above, zero, upstream)
            ends = tf.where(below, qmin * upstream, tf.where(above, qmax * upstream, zero))
            of_wide = sum_shared(ends + within * (y - x) / wide, step)
            return within, of_wide * ratio * gradient_scale

        return y, gradients

    return cut(x, step)


TWINS = make_twins("Nested", NestedTwin)


def wrap(layer: keras.layers.Layer, spec: QuantSpec, options: Any) -> keras.layers.Layer:
    """Makes a twin whose base step errs least on the layer's kernel, whatever its bits.

    Raises:
        SchemeError: one bit has no upper bits with a 0 among their codes.
    """
    if spec.bits == 1:
        refuse_bits(layer, spec, "nested cuts 2 to 8 from a kernel of 8")
    return make_twin(layer, spec, TWINS, step="base_scale", codes=BASE_CODES)


METHOD = Method(
    maker=Maker(
        wrap=wrap,
        activation=make_grid,
        step=make_step,
        options=LsqOptions,
    ),
    reader=Reader(
        stands_for={f"Nested{kind}": kind for kind in KINDS},
        kernel=lambda layer: read_twin(layer, TWINS),
        activation=lambda activation, name: None,
        movable=lambda layer: movable_of(layer, TWINS),
    ),
    files=FileNames(
        classes=frozenset({"LsqGrid", "GroupZeroPoint", *(f"Nested{kind}" for kind in KINDS)})
    ),
    tunings={"scale": STEP, "base_scale": STEP, "zero_point": ZERO_POINT},
    real_steps=True,
)
