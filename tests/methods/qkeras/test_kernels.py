"""Kernels of QKeras' own quantizers are read as what their layers compute with, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from keras_quant.errors import LoweringError
from keras_quant.graph.ir import Weight

pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore:The initializer HeNormal"),
]

from keras_quant.methods.qkeras.door import qkeras  # noqa: E402
from keras_quant.methods.qkeras.kernels import FLOAT32_ROUNDING  # noqa: E402
from keras_quant.methods.qkeras.read import freeze_kernel  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

# By kind: a layer with a quantizer, its input's shape, and the kernel's axes of output channels.
LAYERS: dict[str, tuple[Callable[[Any], keras.layers.Layer], tuple[int, ...], tuple[int, ...]]] = {
    "dense": (lambda q: qkeras.QDense(4, kernel_quantizer=q, name="up"), (7,), (1,)),
    "conv1d": (lambda q: qkeras.QConv1D(4, 3, kernel_quantizer=q, name="up"), (6, 3), (2,)),
    "conv2d": (lambda q: qkeras.QConv2D(4, 3, kernel_quantizer=q, name="up"), (6, 6, 3), (3,)),
    "transpose": (
        lambda q: qkeras.QConv2DTranspose(4, 3, kernel_quantizer=q, name="up"), (6, 6, 3), (2,)
    ),
    "depthwise": (
        lambda q: qkeras.QDepthwiseConv2D(3, depthwise_quantizer=q, name="up"), (6, 6, 3), (2, 3)
    ),
    "multiplied": (
        lambda q: qkeras.QDepthwiseConv2D(
            3, depth_multiplier=2, depthwise_quantizer=q, name="up"
        ),
        (6, 6, 3), (2, 3),
    ),
}  # fmt: skip
ALPHAS = ("None", "1", "0.5", "0.37", "'auto'", "'auto_po2'")
QUANTIZERS = (
    *(f"quantized_bits(4,1,{s},alpha={alpha})" for s in (0, 1) for alpha in ALPHAS),
    *(f"quantized_bits(4,0,1,alpha='auto{po2}',scale_axis={axis})"
      for po2 in ("", "_po2") for axis in (0, 1, 2, 3)),
    *(f"{kind}(alpha={alpha})" for kind in ("binary", "ternary") for alpha in ALPHAS),
    *(f"stochastic_{kind}(alpha='auto')" for kind in ("binary", "ternary")),
    "quantized_bits(1,1,alpha=1)", "quantized_bits(3,0,keep_negative=False,alpha=1)",
    "quantized_bits(3,0,0,keep_negative=False,alpha=0.37)", "binary(use_01=True,alpha='auto')",
    "ternary(alpha=0.37,threshold=0.2)", "quantized_po2(3,1)", "quantized_po2(4)",
    "quantized_po2(4,2,log2_rounding='floor')",
)  # fmt: skip


def built(kind: str, quantizer: Any, *, spread: float = 1.0) -> keras.layers.Layer:
    """A layer with random weights, unlike in size along its inputs; some are 0."""
    make, shape, _ = LAYERS[kind]
    layer = make(quantizer)
    layer.build((None, *shape))
    kernel, *others = layer.get_weights()
    axis = 3 if kind == "transpose" else kernel.ndim - 2
    sizes = np.geomspace(1 / spread, 1, kernel.shape[axis])
    kernel = np.random.default_rng(0).normal(0, 0.4, kernel.shape)
    kernel.reshape(-1)[::7] = 0
    kernel = np.moveaxis(np.moveaxis(kernel, axis, -1) * sizes, -1, axis)
    layer.set_weights([kernel.astype(np.float32), *others])
    return layer


def weights_of(layer: keras.layers.Layer) -> np.ndarray:
    return np.asarray(layer.get_weights()[0], np.float64)


def computed(layer: keras.layers.Layer, kind: str) -> np.ndarray:
    """The kernel that a layer computes with: its own outputs for inputs that are one 1 each."""
    kernel = weights_of(layer)
    if kind == "transpose":
        pixels = np.eye(kernel.shape[3], dtype=np.float32)[:, None, None]
        return np.moveaxis(layer(pixels).numpy(), 0, -1)
    seen = (*kernel.shape[:2], 1) if kind in ("depthwise", "multiplied") else kernel.shape[:-1]
    one_hot = np.eye(int(np.prod(seen)), dtype=np.float32).reshape(-1, *seen)
    one_hot = np.tile(one_hot, LAYERS[kind][1][-1] // seen[-1])
    return layer(one_hot).numpy().reshape(kernel.shape)


def assert_same(frozen: Weight, values: np.ndarray, weights: np.ndarray) -> None:
    """w + (q - w) is q, but for float32's rounding where q is another size than w."""
    reals = frozen.values * frozen.scale
    room = FLOAT32_ROUNDING * (np.abs(weights) + np.abs(values))
    assert (np.abs(reals - values) <= room).all()
    near = (np.abs(values) <= 2 * np.abs(weights)) & (np.abs(weights) <= 2 * np.abs(values))
    np.testing.assert_array_equal(reals.astype(np.float32)[near], values[near])


@pytest.mark.thinned(4)
@pytest.mark.filterwarnings("ignore:divide by zero|invalid value")
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_kernel_is_codes_times_one_scale_an_output_channel_or_refused(
    quantizer: str, kind: str
) -> None:
    axis = quantizer.partition("scale_axis=")[2]
    channels = LAYERS[kind][2]
    if axis and int(axis[0]) >= (2 if kind == "dense" else 3 if kind == "conv1d" else 4):
        pytest.skip("the kernel has no such axis")
    # Not by QKeras' own reader of texts, which does not know None.
    layer = built(kind, eval(f"qkeras.quantizers.{quantizer}"))
    try:
        frozen = freeze_kernel(layer)
    except LoweringError as error:
        assert "up: the kernel of" in str(error) and "over which the layer sums" in str(error)
        assert "po2" not in quantizer and (kind == "transpose" or axis), error
        return
    assert_same(frozen, computed(layer, kind), weights_of(layer))
    assert np.abs(frozen.values).max() <= 127
    assert all(size == 1 for axis, size in enumerate(frozen.scale.shape) if axis not in channels)
    assert (frozen.scale > 0).all()
    assert np.abs(frozen.values).max() < 2**frozen.bits


@pytest.mark.parametrize("quantizer", ["binary(alpha='auto')", "quantized_bits(4,alpha='auto')"])
def test_scale_of_each_input_of_a_transposed_convolution_is_refused(quantizer: str) -> None:
    layer = built("transpose", quantizer, spread=4)
    with pytest.raises(LoweringError, match=r"along axis 3, over which.*\(axis 2\). Give it"):
        freeze_kernel(layer)


def test_powers_of_two_for_each_input_are_put_on_the_finest() -> None:
    layer = built("transpose", "quantized_bits(4,0,1,alpha='auto_po2')", spread=4)
    frozen = freeze_kernel(layer)
    scale = layer.kernel_quantizer_internal.scale.numpy() / 8
    assert scale.shape == (1, 1, 1, 3) and scale.max() == 4 * scale.min()
    assert frozen.scale.shape == (1, 1, 4, 1)
    np.testing.assert_array_equal(np.unique(frozen.scale), scale.min())
    assert 7 < np.abs(frozen.values).max() <= 28
    assert frozen.bits == 6
    assert_same(frozen, computed(layer, "transpose"), weights_of(layer))


@pytest.mark.parametrize(
    ("kind", "alpha", "steps"),
    [
        ("dense", np.float32([0.5, 0.37, 2, 3]), [0.5, 0.37, 2, 3]),
        ("dense", np.full((7, 1), 0.25, np.float32), [0.25]),
        # Halves and thirds of one number: their largest common step is a sixth of it.
        ("dense", np.float32([2, 3, 2, 3, 2, 3, 2])[:, None], [1.0]),
        ("transpose", np.float32([0.5, 0.37, 2, 3])[:, None], [0.5, 0.37, 2, 3]),
        ("depthwise", np.float32([0.5, 0.37, 2])[:, None], [0.5, 0.37, 2]),
        ("conv2d", np.float32([1, 4, 16])[:, None], [1.0]),
    ],
)
def test_alpha_of_any_axes_is_read(kind: str, alpha: np.ndarray, steps: list[float]) -> None:
    layer = built(kind, qkeras.quantized_bits(4, 0, 1, alpha=alpha))
    frozen = freeze_kernel(layer)
    assert_same(frozen, computed(layer, kind), weights_of(layer))
    np.testing.assert_allclose(np.unique(frozen.scale * 8), np.unique(np.float32(steps)))


def test_scales_too_far_apart_are_refused() -> None:
    alpha = np.float32([1, 32, 1])[:, None]
    layer = built("conv2d", qkeras.quantized_bits(4, 0, 1, alpha=alpha))
    with pytest.raises(LoweringError, match=r"scales from 0.125 to 4 along axis 2, over which"):
        freeze_kernel(layer)


REFUSED = {
    "quantized_bits(16,6,1,alpha=1)": r"quantized_bits\(16, .*codes from .*: 16 bits, .*fewer",
    "quantized_bits(8,0,0,alpha=1)": r"codes from -128 to 12\d, where int8.*Give it symmetric=1",
    "quantized_bits(8,0,keep_negative=False,alpha=1)": r"codes from 0 to .*bits without a sign",
    "quantized_bits(1,0,1,alpha='auto')": r"27 of 27 weights NaN.*use binary\(alpha='auto'\)",
    "quantized_bits(4,-1,1,alpha=1)": r"cannot compute its kernel \(Integers to negative integer",
    "quantized_bits(4,0,1,alpha=1,qnoise_factor=0.8)": r"0.8 parts of .*Set it to 1 \(update_qnoi",
    "quantized_po2(6,1)": r"powers of two from .*a factor of 64 fits.*bits or max_value",
    "bernoulli()": r"a kernel of bernoulli\(.*is random.*quantized_po2 are lowered",
    "quantized_tanh(4)": r"a kernel of quantized_tanh\(4\) is not lowered; kernels of fitted_bits",
    "quantized_hswish(4)": r"a kernel of quantized_hswish\(4.*\) is not lowered; kernels of",
}


@pytest.mark.filterwarnings("ignore:divide by zero|invalid value")
@pytest.mark.parametrize("quantizer", REFUSED)
def test_what_no_codes_say_is_refused_with_the_cause_and_the_remedy(quantizer: str) -> None:
    layer = qkeras.QDense(3, kernel_quantizer=eval(f"qkeras.quantizers.{quantizer}"), name="up")
    layer.build((None, 9))
    kernel = np.random.default_rng(0).normal(0, 0.4, (9, 3)) * np.geomspace(1e-3, 4, 9)[:, None]
    layer.set_weights([kernel, np.zeros(3)])
    with pytest.raises(LoweringError, match=f"layer up: .*{REFUSED[quantizer]}"):
        freeze_kernel(layer)
