"""Models of pixels, whatever becomes of these in front of them or inside: as Keras' codes."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import pytest
from _pytest.mark import ParameterSet

pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore:The .keras.constraints.serialize"),
]

from keras_quant.calibration.collect import collect  # noqa: E402
from keras_quant.calibration.quantize import quantize  # noqa: E402
from keras_quant.graph.reference import run_reference  # noqa: E402
from keras_quant.lower import Snap, lower_exactly  # noqa: E402
from keras_quant.pixels import normalize, pixel_grid  # noqa: E402
from keras_quant.prepare import plan  # noqa: E402
from keras_quant.preprocessing import (  # noqa: E402
    PREPROCESSINGS,
    RAW,
    UNIT,
    Preprocessing,
    parse_preprocessing,
)
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from tests.lower.codes import keras_codes  # noqa: E402

L = keras.layers
# Keras sums in float32: a sum that ends next to the middle of two codes may take the other one.
FLOAT32_ROUNDING = 1e-3
# All pixels in all channels, and noise.
PIXELS = np.concatenate(
    [
        np.stack([np.random.default_rng(s).permutation(256).reshape(16, 16) for s in range(3)], -1)[
            None
        ],
        np.random.default_rng(9).integers(0, 256, (11, 16, 16, 3)),
    ]
).astype(np.uint8)

MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def variance(scale: float = 1.0) -> list[float]:
    return [(scale * value) ** 2 for value in DEVIATION]


def net(*front: keras.layers.Layer) -> keras.Model:
    keras.utils.set_random_seed(3)
    x = inputs = keras.Input((16, 16, 3), name="image")
    for layer in front:
        x = layer(x)
    x = L.Conv2D(8, 3, activation="relu", padding="same", name="conv1")(x)
    x = L.MaxPooling2D()(x)
    x = L.Conv2D(8, 3, activation="relu", name="conv2")(x)
    return keras.Model(inputs, L.Dense(4, name="logits")(L.Flatten()(x)))


def lowered(source: keras.Model, bits: str, becomes: Preprocessing) -> tuple[keras.Model, Snap]:
    """The quantized model with biases moved, and its graph."""
    scheme = scheme_from_bits(bits)
    statistics = collect(
        plan(source, scheme),
        source,
        PIXELS,
        reals=lambda x: normalize(x, becomes),
        pixels=pixel_grid(becomes, 3),
    )
    model = quantize(source, scheme, statistics)
    return model, lower_exactly(model)


def assert_same(model: keras.Model, snap: Snap, reals: np.ndarray) -> None:
    """Every pixel has Keras' code in front of the first kernel; what follows are sums of floats."""
    codes = {n: c for n, c in keras_codes(model, reals).items() if n in snap.graph.tensors}
    found = run_reference(snap.graph, {snap.graph.inputs[0]: reals}, keep=list(codes))
    different = {name: np.count_nonzero(found[name] != codes[name]) for name in codes}
    front = [name for name in codes if not name.startswith("conv")]
    assert "input_quant" in front and not any(different[name] for name in front), different
    assert sum(different.values()) <= FLOAT32_ROUNDING * sum(c.size for c in codes.values())


# What stands in front of the first kernel, and what the model takes.
LAYERS = {
    "1/255": (lambda: [L.Rescaling(1 / 255)], RAW),
    "1/127.5 - 1": (lambda: [L.Rescaling(1 / 127.5, offset=-1)], RAW),
    "1/128 - 1": (lambda: [L.Rescaling(1 / 128, offset=-1)], RAW),
    "pixels less 127.5": (lambda: [L.Rescaling(1.0, offset=-127.5)], RAW),
    "halves of pixels": (lambda: [L.Rescaling(0.5, offset=-0.25)], RAW),
    "a scale and an offset a channel": (
        lambda: [L.Rescaling([1 / 64, 1 / 128, 1 / 100], offset=[-2.0, -1.0, 0.5])],
        RAW,
    ),
    "means of pixels": (
        lambda: [L.Normalization(mean=[103.939, 116.779, 123.68], variance=[1.0] * 3)],
        RAW,
    ),
    "whole means": (lambda: [L.Normalization(mean=[104.0, 117.0, 124.0], variance=[1.0] * 3)], RAW),
    "1/255, then ImageNet's": (
        lambda: [L.Rescaling(1 / 255), L.Normalization(mean=MEAN, variance=variance())],
        RAW,
    ),
    "centred": (lambda: [L.Rescaling(255.0, offset=-127.5)], UNIT),
    "caffe": (
        lambda: [L.Rescaling(255.0), L.Normalization(mean=[110.0] * 3, variance=[1.0] * 3)],
        UNIT,
    ),
    "ImageNet's": (lambda: [L.Normalization(mean=MEAN, variance=variance())], UNIT),
    "2x - 1": (lambda: [L.Rescaling(2.0, offset=-1.0)], UNIT),
    "an eighth of 510": (lambda: [L.Rescaling(63.75, offset=-31.875)], UNIT),
}


def cases(names: Iterable[str], quick: Collection[str]) -> list[ParameterSet]:
    """All names with 4 and 8 bits; the quick ones with 8 alone are not slow."""
    return [
        pytest.param(name, bits, marks=[] if name in quick and bits == "8" else pytest.mark.slow)
        for name in names
        for bits in ("4", "8")
    ]


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    ("name", "bits"),
    cases(LAYERS, ("centred", "caffe", "1/127.5 - 1", "a scale and an offset a channel")),
)
def test_layers_in_front_give_the_codes_of_keras(name: str, bits: str) -> None:
    layers, becomes = LAYERS[name]
    model, snap = lowered(net(*layers()), bits, becomes)
    assert_same(model, snap, normalize(PIXELS, becomes))
    assert snap.largest_shift_steps < 0.05


DECLARED = [
    *PREPROCESSINGS,
    *("mean=128 std=64", "mean=100 std=64", "mean=120.5 std=1", "mean=90,100,110 std=50,60,70"),
]


@pytest.mark.parametrize(("declared", "bits"), cases(DECLARED, ("tf", "caffe", "mean=100 std=64")))
def test_declared_pixels_give_the_codes_of_keras(declared: str, bits: str) -> None:
    becomes = parse_preprocessing(declared)
    model, snap = lowered(net(), bits, becomes)
    assert_same(model, snap, normalize(PIXELS, becomes))
