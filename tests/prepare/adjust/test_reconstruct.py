"""Kernels whose codes were looked for, and biases corrected by answers, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.calibration.collect import collect  # noqa: E402
from keras_quant.calibration.quantize import quantize  # noqa: E402
from keras_quant.graph.ir import Weight  # noqa: E402
from keras_quant.methods import load_method  # noqa: E402
from keras_quant.methods.readers import read_kernel, write_kernel  # noqa: E402
from keras_quant.methods.twins import float_kernel  # noqa: E402
from keras_quant.model.files import load_model, save_model  # noqa: E402
from keras_quant.model.operations import Operation  # noqa: E402
from keras_quant.prepare import plan  # noqa: E402
from keras_quant.prepare.adjust import reconstruct as reconstruct_module  # noqa: E402
from keras_quant.prepare.adjust import values as values_module  # noqa: E402
from keras_quant.prepare.adjust.correct_bias import kernel_inputs  # noqa: E402
from keras_quant.prepare.adjust.patches import as_kernel, as_rows, draw, moments  # noqa: E402
from keras_quant.prepare.adjust.reconstruct import Reconstructed, reconstruct  # noqa: E402
from keras_quant.prepare.adjust.walk import Site, Walk, walk  # noqa: E402
from keras_quant.schemes.bits import freed, scheme_from_bits  # noqa: E402
from keras_quant.schemes.scheme import QuantSpec  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

L = keras.layers
FLOAT32_ROUNDING = 1e-4
KINDS: dict[str, tuple[Callable, str, tuple[int, ...]]] = {
    "conv": (lambda: L.Conv2D(5, 3, padding="same", name="layer"), "conv2d", (6, 7, 4)),
    "strides": (lambda: L.Conv2D(5, (3, 2), strides=2, name="layer"), "conv2d", (6, 7, 4)),
    "dilated": (lambda: L.Conv2D(5, 2, dilation_rate=2, name="layer"), "conv2d", (6, 7, 4)),
    "groups": (lambda: L.Conv2D(6, 3, groups=2, name="layer"), "conv2d", (6, 7, 4)),
    "conv1d": (lambda: L.Conv1D(5, 3, padding="causal", name="layer"), "conv2d", (9, 4)),
    "depthwise": (
        lambda: L.DepthwiseConv2D(3, depth_multiplier=2, padding="same", name="layer"),
        "depthwise_conv2d",
        (6, 7, 4),
    ),
    "dense": (lambda: L.Dense(5, name="layer"), "dense", (4,)),
}


def site_of(kind: str) -> Site:
    make, operation, shape = KINDS[kind]
    keras.utils.set_random_seed(1)
    layer = make()
    x = np.random.default_rng(0).normal(0.5, 1, (40, *shape)).astype(np.float32)
    wanted = np.asarray(layer(x))
    return Site(
        operation=Operation(name="layer", kind=operation, layer=layer),
        layer=layer,
        read=x,
        wanted=wanted,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_moments_of_what_a_layer_answers_are_those_of_its_kernel(kind: str) -> None:
    """Cov(W x + b, x) = W Cov(x, x), and Var(W x + b) = W Cov(x, x) W."""
    site = site_of(kind)
    kernel = float_kernel(site.layer)
    rows, found = as_rows(kernel, site), moments(draw(site))
    np.testing.assert_array_equal(as_kernel(rows, kernel.shape), kernel)
    np.testing.assert_allclose(found.wanted, rows @ found.read, atol=FLOAT32_ROUNDING)
    energy = np.einsum("got,gts,gos->go", rows, found.read, rows)
    np.testing.assert_allclose(found.energy, energy, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "per_channel"),
    [
        ("dense", True),
        ("depthwise", True),
        ("dense", False),
        pytest.param("conv", True, marks=pytest.mark.slow),
        pytest.param("conv", False, marks=pytest.mark.slow),
        pytest.param("groups", True, marks=pytest.mark.slow),
        pytest.param("conv1d", True, marks=pytest.mark.slow),
    ],
)
def test_layer_computes_with_the_codes_that_it_is_given(
    kind: str, per_channel: bool, tmp_path: Path
) -> None:
    """Those that no search would find; saved and loaded too, and with channels multiplied."""
    site = site_of(kind)
    spec = QuantSpec(bits=4, per_channel=per_channel)
    maker = load_method("qkeras").maker
    inputs = keras.Input(site.read.shape[1:])
    twin = maker.wrap(site.layer, spec, maker.options())
    model = keras.Model(inputs, twin(inputs))
    shape = float_kernel(site.layer).shape
    rng = np.random.default_rng(2)
    codes = rng.integers(-3, 4, shape).astype(np.int16)
    before = read_kernel(twin)
    assert before is not None and before.scale is not None
    scale = 2.0 ** rng.uniform(-2, 2, before.scale.shape)
    assert write_kernel(twin, Weight(values=codes, scale=scale, bits=4))
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras").get_layer("layer")
    for layer in (twin, loaded):
        found = read_kernel(layer)
        assert found is not None and found.scale is not None
        np.testing.assert_array_equal(found.values, codes)
        np.testing.assert_allclose(found.scale, scale, rtol=1e-6)
    kernel = next(w for w in loaded.weights if "kernel" in w.name)
    kernel.assign(kernel * np.float32(1.001))
    moved = read_kernel(loaded)
    assert moved is not None and moved.scale is not None
    np.testing.assert_array_equal(moved.values, codes)
    np.testing.assert_allclose(moved.scale, scale * 1.001, rtol=1e-6)


def test_one_bit_and_layers_of_no_method_take_no_codes() -> None:
    site = site_of("dense")
    maker = load_method("qkeras").maker
    twin = maker.wrap(site.layer, QuantSpec(bits=1), maker.options())
    twin.build((None, 4))
    weight = Weight(values=np.ones((4, 5), np.int16), scale=np.ones((1, 5)), bits=1)
    assert not write_kernel(twin, weight)
    assert not write_kernel(site.layer, weight)


def net() -> keras.Model:
    keras.utils.set_random_seed(4)
    x = inputs = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(8, 3, padding="same", use_bias=False, name="conv1")(x)
    x = L.ReLU(name="relu1")(L.BatchNormalization(name="bn1")(x))
    x = L.DepthwiseConv2D(3, padding="same", name="conv2")(x)
    x = L.ReLU(name="relu2")(x)
    shared = L.Conv2D(8, 1, name="shared")
    x = L.Add(name="add")([shared(x), shared(x)])
    x = L.GlobalAveragePooling2D(name="gap")(x)
    model = keras.Model(inputs, L.Dense(5, name="logits")(x))
    rng = np.random.default_rng(0)
    model.set_weights([w + rng.uniform(0, 0.3, w.shape) for w in model.get_weights()])
    return model


X = np.random.default_rng(6).uniform(0, 1, (64, 8, 8, 3)).astype(np.float32)


def quantized(source: keras.Model, bits: str) -> tuple:
    planned = plan(source, freed(scheme_from_bits(bits)))
    statistics = collect(planned, source, X, per_channel=kernel_inputs(planned))
    scheme = freed(scheme_from_bits(bits))
    return planned, quantize(source, scheme, statistics, post_training=True)


def distance(model: keras.Model, source: keras.Model) -> float:
    return float(np.mean(np.square(np.asarray(model(X)) - np.asarray(source(X)))))


@pytest.mark.slow
def test_answers_come_nearer_with_each_remedy() -> None:
    source = net()
    planned, plain = quantized(source, "w3a8")
    _, corrected = quantized(source, "w3a8")
    reconstruct(planned, source, corrected, [X])
    _, rounded = quantized(source, "w3a8")
    found = reconstruct(planned, source, rounded, [X], rounding="descent")
    # What is called twice is named as left at the nearest codes.
    assert found == Reconstructed(rounded=("conv1", "conv2", "logits"), nearest=("shared",))
    errors = [distance(model, source) for model in (plain, corrected, rounded)]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.slow
def test_walk_gives_what_the_layers_before_put_out_by_then() -> None:
    source = net()
    planned, model = quantized(source, "w3a8")
    seen = []

    def visit(site: Site) -> None:
        seen.append((site.layer.name, site.read, site.wanted))
        if site.layer.name == "conv1":
            site.layer.kernel.assign(0 * site.layer.kernel)

    walk(planned, source, model, [X], visit)
    assert [name for name, _, _ in seen] == ["conv1", "conv2", "logits"]
    inner = keras.Model(model.inputs, model.get_layer("conv2").input)
    np.testing.assert_allclose(seen[1][1], inner(X), atol=1e-6)
    wanted = keras.Model(source.inputs, source.get_layer("conv2").output)
    np.testing.assert_allclose(seen[1][2], wanted(X), atol=1e-5)


@pytest.fixture(scope="module")
def walked() -> tuple:
    source = net()
    return source, *quantized(source, "w3a8")


def test_a_walk_takes_more_images_to_where_it_is(
    walked: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if they had been there from the beginning, and each by the weights as they are by now."""
    source, planned, model = walked
    wanted = None
    for most in (len(X), 20):
        of_conv1 = 4 * 8 * 8 * 8
        monkeypatch.setattr(values_module, "TENSOR_BYTES", most * of_conv1)
        found = Walk(planned, source, model, [X])
        counts = []
        for unit in found.units:
            counts.append(found.grow(unit))
            site = found.site(unit.kernels[0])
            found.answered(unit.kernels[0], values_module.run(site.layer, [site.read]))
            found.leave(unit)
        assert counts[0] == most
        assert counts[-1] == len(X)
        if wanted is not None:
            np.testing.assert_allclose(site.read, wanted.read, atol=FLOAT32_ROUNDING)
            np.testing.assert_allclose(site.wanted, wanted.wanted, atol=FLOAT32_ROUNDING)
        wanted = site


def test_a_layer_is_run_once_for_its_bias_and_for_those_behind(
    walked: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, planned, model = walked
    runs: list[str] = []
    run = values_module.run

    def counted(layer: keras.layers.Layer, inputs: Sequence[np.ndarray]) -> np.ndarray:
        runs.append(layer.name)
        return run(layer, inputs)

    for module in (values_module, reconstruct_module):
        monkeypatch.setattr(module, "run", counted)
    reconstruct(planned, source, model, [X])
    of_both_models = 2
    assert [runs.count(name) for name in ("conv1", "conv2")] == [of_both_models] * 2
