"""Kernels of all widths are cut from one of 8 bits, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest

from keras_quant.graph.cut import cut_codes
from keras_quant.schemes.scheme import TERNARY, QuantSpec

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods.nested import METHOD, cut_to_step  # noqa: E402
from keras_quant.methods.straight_through import round_to_step  # noqa: E402
from keras_quant.methods.twins import kernel_codes  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402

FLOAT32_ROUNDING = 1e-5
SPECS = {
    **{str(bits): QuantSpec(bits=bits) for bits in range(3, 9)},
    "2": QuantSpec(bits=2, narrow_range=False),
    "ternary": TERNARY,
    "4 full range": QuantSpec(bits=4, narrow_range=False),
}


def made(spec: QuantSpec) -> keras.layers.Layer:
    layer = keras.layers.Conv2D(6, 3, name="conv")
    layer.build((None, 8, 8, 5))
    kernel = np.random.default_rng(0).normal(0, 0.3, (3, 3, 5, 6)).astype(np.float32)
    layer.set_weights([kernel, np.zeros(6, np.float32)])
    twin = METHOD.maker.wrap(layer, spec, METHOD.maker.options())
    twin.build((None, 8, 8, 5))
    twin.raw_kernel.assign(kernel)
    return twin


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_codes_are_the_upper_bits_of_the_stored_ones(spec: QuantSpec) -> None:
    base, narrow = (METHOD.reader.kernel(made(each)) for each in (QuantSpec(bits=8), spec))
    qmin, qmax = kernel_codes(spec.bits, spec.narrow_range)
    expected = cut_codes(base.values, bits=spec.bits, qmin=qmin, qmax=qmax)
    np.testing.assert_array_equal(narrow.values, expected)
    np.testing.assert_array_equal(narrow.scale, base.scale * 2 ** (8 - spec.bits))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_gradients_are_those_of_lsq_with_the_wider_step(bits: int) -> None:
    # A tenth above a base code: rounding twice ends where rounding once does.
    levels = np.arange(-140, 140).reshape(70, 4) + 0.1
    base = tf.constant([[0.004, 0.005, 0.006, 0.008]])
    kernel = tf.constant(levels, tf.float32) * base
    ratio, (qmin, qmax) = 2.0 ** (8 - bits), kernel_codes(bits, bits > 2)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([kernel, base])
        cut = cut_to_step(kernel, base, bits=bits, codes=(qmin, qmax), gradient_scale=0.5)
        lsq = round_to_step(kernel, base * ratio, qmin=qmin, qmax=qmax, gradient_scale=0.5)
    np.testing.assert_allclose(cut, lsq, rtol=FLOAT32_ROUNDING)
    for variable in (kernel, base):
        np.testing.assert_allclose(
            tape.gradient(cut, variable), tape.gradient(lsq, variable), rtol=1e-3, atol=1e-5
        )
