"""Layers that move values, and models of any topology: the file answers as the model does."""

from __future__ import annotations

import numpy as np
import pytest

from keras_quant.errors import LoweringError

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.emit.tflite.emit import emit_tflite  # noqa: E402
from keras_quant.graph.ir import Graph  # noqa: E402
from keras_quant.graph.reference import run_reference  # noqa: E402
from keras_quant.lower import lower, lower_exactly  # noqa: E402
from keras_quant.methods.layers import InputGrid  # noqa: E402
from keras_quant.methods.qkeras.door import qkeras  # noqa: E402
from keras_quant.methods.qkeras.quantizers import fitted_bits  # noqa: E402
from keras_quant.model.files import load_model, save_model  # noqa: E402
from keras_quant.proof.formats import FORMATS, Format  # noqa: E402
from keras_quant.proof.parity import Parity, prove  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.schemes.scheme import Scheme  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from tests.lower.codes import count_differences  # noqa: E402
from tests.lower.shapes import NETS, conv, images_of, quantized, randomized  # noqa: E402

L = keras.layers
# Keras sums in float32, in an order of its own; see tests/test_exactness.py.
FLOAT32_ROUNDING = 1e-3
FLOAT32_SUM = 1e-5
BITS = ("w4a4", "w8a8", "w1a2")


def proven_file(graph: Graph, inputs: dict[str, np.ndarray]) -> Parity:
    return prove(graph, FORMATS["tflite"], emit_tflite(graph), inputs)


def proven(model: keras.Model, scheme: Scheme) -> tuple[Graph, Parity]:
    """Lowers and emits a quantized twin; its file and its codes are those of the reference."""
    keras.utils.set_random_seed(0)
    images = images_of(model)
    twin = quantized(randomized(model), scheme, images)
    graph = lower_exactly(twin).graph
    inputs = dict(zip(graph.inputs, images, strict=True))
    parity = proven_file(graph, inputs)
    assert (parity.codes_different, parity.passed) == (0, True)
    different, compared = count_differences(twin, graph, inputs)
    assert compared > 0
    assert different <= FLOAT32_ROUNDING * compared
    outputs, found = twin(images), run_reference(graph, inputs)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    if different == 0:
        for name, output in zip(graph.outputs, outputs, strict=True):
            np.testing.assert_allclose(found[name], output, rtol=FLOAT32_SUM, atol=FLOAT32_SUM)
    return graph, parity


# These hold all layers among them; a third of them at each width.
QUICK = {
    **dict.fromkeys(("combined", "broadcast", "permuted"), "w4a4"),
    **dict.fromkeys(("unet", "siamese", "branches", "passed on", "more axes", "gates"), "w4a4"),
    **dict.fromkeys(("inception", "nested", "lengths", "shared shorthands"), "w8a8"),
    "sequence gates": "w8a8",
    **dict.fromkeys(("densenet", "recurrent", "sequences"), "w1a2"),
}
CASES = [
    pytest.param(name, bits, marks=() if QUICK.get(name) == bits else pytest.mark.slow)
    for name in NETS
    for bits in BITS
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "bits"), CASES)
def test_file_of_any_topology_answers_as_the_model(name: str, bits: str) -> None:
    keras.utils.set_random_seed(0)
    graph, parity = proven(NETS[name](), scheme_from_bits(bits))
    assert parity.codes_tolerance == 0
    real = {node.op for node in graph.nodes if graph.tensors[node.output].qparams is None}
    assert real <= {
        "dense",
        "conv2d",
        "dequantize",
        "reshape",
        "pointwise",
    }  # only what leaves the model


@pytest.mark.parametrize("form", FORMATS.values(), ids=list(FORMATS))
def test_what_goes_out_twice_is_told_apart_in_every_format(form: Format) -> None:
    graph = lower_exactly(NETS["passed on"]()).graph
    assert graph.outputs == ("logits", "image/output_1", "logits/output_2")
    image = np.random.default_rng(0).random((2, 6, 6, 3), np.float32)
    found = form.definition.runner(form.definition.emit(graph)).run({"image": image})
    assert tuple(found) == graph.outputs
    np.testing.assert_array_equal(found["image/output_1"], image)
    np.testing.assert_array_equal(found["logits/output_2"], found["logits"])


def pixels(shape: tuple[int, ...] = (6, 5, 3)) -> tuple[keras.layers.Layer, keras.layers.Layer]:
    inputs = keras.Input(shape, name="image")
    return inputs, InputGrid(1 / 255, 0, 255, name="pixels")(inputs)


def qconv(filters: int, *, name: str, size: int = 3, **options) -> L.Layer:
    kernel = fitted_bits(options.pop("bits", 4))
    return qkeras.QConv2D(
        filters, size, padding="same", kernel_quantizer=kernel, name=name, **options
    )


def codes(text: str, name: str) -> L.Layer:
    return qkeras.QActivation(text, name=name)


def assert_exact(model: keras.Model) -> Graph:
    """The codes of a model that somebody quantized are the graph's and the file's."""
    randomized(model)
    (images,) = images_of(model)
    graph = lower_exactly(model).graph
    parity = proven_file(graph, {graph.inputs[0]: images})
    assert (parity.codes_different, parity.codes_tolerance, parity.passed) == (0, 0, True)
    different, compared = count_differences(model, graph, images)
    assert (different, compared > 0) == (0, True)
    return graph


def test_a_quantizer_behind_what_only_moves_values_rounds_them_in_the_layer_in_front() -> None:
    inputs, x = pixels()
    x = L.UpSampling2D()(L.MaxPooling2D(padding="same")(qconv(4, name="a")(x)))
    x = L.ReLU(6.0)(qconv(3, name="b")(codes("quantized_relu(4,1)", "r")(x)))
    x = L.GlobalMaxPooling2D(keepdims=True)(L.Cropping2D(1)(x))
    x = L.Flatten()(codes("quantized_relu(8,3)", "s")(x))
    graph = assert_exact(keras.Model(inputs, L.Dense(2)(x)))
    by_name = {node.name: graph.tensors[node.output].qparams for node in graph.nodes}
    assert (by_name["a"].qmax, by_name["b"].qmax) == (15, 192)


def test_a_quantizer_behind_a_join_rounds_each_of_its_inputs() -> None:
    inputs, x = pixels()
    a = codes("quantized_relu(4,1)", "r")(qconv(3, name="a")(x))
    b = codes("quantized_bits(4,3,1,alpha=1)", "s")(qconv(3, name="b")(x))
    x = L.Concatenate(name="join")([qconv(2, name="c")(a), a, b, x, a])
    x = L.Flatten()(codes("quantized_relu(3,1)", "u")(x))
    graph = assert_exact(keras.Model(inputs, L.Dense(2)(x)))
    # a, which comes twice, b and the pixels
    assert [node.op for node in graph.nodes].count("requantize") == 3
    assert graph.tensors["u"].shape == (6, 5, 14)


def joined(a: str, b: str) -> keras.Model:
    inputs, x = pixels()
    parts = [codes(t, f"q{i}")(qconv(3, name=f"c{i}")(x)) for i, t in enumerate((a, b))]
    x = qconv(3, name="d")(L.Concatenate(name="join")(parts))
    return keras.Model(inputs, L.Dense(2)(L.Flatten()(codes("quantized_relu(4,1)", "r")(x))))


def test_codes_of_two_steps_are_joined_on_the_finer_one() -> None:
    graph = assert_exact(joined("quantized_relu(4,1)", "quantized_bits(4,3,1,alpha=1)"))
    grid = graph.tensors["join"].qparams
    assert (grid.scale, grid.qmin, grid.qmax, grid.bits) == (2.0**-3, -56, 56, 7)


def test_codes_of_one_step_and_two_ranges_are_joined_as_they_are() -> None:
    graph = assert_exact(joined("quantized_relu(4,2)", "quantized_bits(3,0,0,alpha=1)"))
    assert "requantize" not in [node.op for node in graph.nodes]
    grid = graph.tensors["join"].qparams
    assert (grid.qmin, grid.qmax, grid.bits) == (-4, 15, 5)


def test_codes_that_no_grid_holds_are_refused_with_the_remedy() -> None:
    model = joined("quantized_relu(8,4)", "quantized_bits(8,0,0,alpha=1)")
    with pytest.raises(LoweringError, match=r"join \(Concatenate of .*put one quantizer behind it"):
        lower(model)


@pytest.mark.slow
def test_calls_that_share_a_bias_and_do_not_agree_are_told_and_nothing_moves() -> None:
    shared = qconv(3, name="shared", bits=8)
    inputs, x = pixels((4, 4, 3))
    x = codes("quantized_relu(8,1)", "r")(shared(x))
    x = codes("quantized_relu(8,1)", "s")(shared(x))
    model = randomized(keras.Model(inputs, L.Dense(2)(L.Flatten()(x))))
    before = model.get_weights()
    with pytest.raises(LoweringError, match=r"shared_call2 \(.*\). Each.*called more than"):
        lower_exactly(model)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_bias_that_calls_share_is_moved_but_not_their_gain() -> None:
    keras.utils.set_random_seed(0)
    source = randomized(NETS["recurrent"]())
    model = quantized(source, scheme_from_bits("w8a8"), images_of(source))
    norm = model.get_layer("norm")
    gamma, beta = norm.gamma.numpy(), norm.beta.numpy()
    snap = lower_exactly(model)
    assert "shared" in snap.layers
    np.testing.assert_array_equal(norm.gamma.numpy(), gamma)
    assert (norm.beta.numpy() != beta).any()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1071, 1153])
def test_calls_that_send_a_bias_in_circles_settle_where_integers_say_it_for_all(seed: int) -> None:
    """The third call has 128 codes, the others 256: they want unlike room around ties."""
    keras.utils.set_random_seed(0)
    source = randomized(NETS["recurrent"]())
    images = images_of(source)
    model = quantized(source, scheme_from_bits("w8a8"), images)
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if "gamma" in weight.name:
            weight.assign(rng.uniform(-1.5, 1.5, weight.shape))
        elif "variance" in weight.name:
            weight.assign(rng.uniform(0.1, 1.5, weight.shape))
        elif any(name in weight.name for name in ("kernel", "bias", "beta", "mean")):
            weight.assign(rng.normal(0, 0.3, weight.shape))
    graph = lower_exactly(model).graph
    different, compared = count_differences(model, graph, {graph.inputs[0]: images[0]})
    assert (different, compared > 0) == (0, True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .keras.constraints.serialize")
def test_layers_kept_in_float_read_and_leave_codes_also_from_a_file(tmp_path) -> None:
    inputs = keras.Input((6, 5, 3), name="image")
    x = conv(inputs, 4)
    x = L.ReLU(name="sum")(L.Add(name="add")([x, L.Conv2D(4, 3, padding="same", name="kept")(x)]))
    x = L.GlobalAveragePooling2D(name="mean")(conv(x, 4))
    model = randomized(keras.Model(inputs, L.Dense(2, name="logits")(x)))
    scheme = scheme_from_bits("w4a4")
    scheme = Scheme(name="kept", rules=scheme.rules, keep_float=("kept", "add", "type:Global*"))
    images = images_of(model)
    save_model(quantized(model, scheme, images), tmp_path / "twin.keras")
    twin = load_model(tmp_path / "twin.keras")
    graph = lower_exactly(twin).graph
    inputs_of = {
        node.name: [graph.tensors[name].qparams for name in node.inputs] for node in graph.nodes
    }
    for name in ("kept", "add", "mean"):
        assert set(inputs_of[name]) == {None}, name
    assert all(graph.tensors[name].qparams is not None for name in ("sum", "mean_quant"))
    parity = proven_file(graph, {"image": images[0]})
    assert parity.passed and parity.codes_tolerance > 0
    output = run_reference(graph, {"image": images[0]})[graph.outputs[0]]
    np.testing.assert_allclose(output, twin(images[0]), rtol=FLOAT32_SUM, atol=FLOAT32_SUM)
