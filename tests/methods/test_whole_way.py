"""Each method goes the whole way: train, save, load, lower, prove, take out, inspect."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from keras_quant.errors import SchemeError
from keras_quant.schemes.bits import scheme_from_bits
from keras_quant.schemes.scheme import MethodSpec, QuantSpec, Rule, Scheme

pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore:The .keras.constraints.serialize"),
]

from keras_quant.jobs.export import export_path  # noqa: E402
from keras_quant.jobs.inspection import graph_of, inspect  # noqa: E402
from keras_quant.jobs.train import train  # noqa: E402
from keras_quant.jobs.train_settings import TrainSettings  # noqa: E402
from keras_quant.methods.layers import GroupStep  # noqa: E402
from keras_quant.methods.readers import is_quantized, read_activation, read_kernel  # noqa: E402
from keras_quant.model.files import load_model  # noqa: E402
from keras_quant.prepare import plan, wrap  # noqa: E402
from keras_quant.proof.baseline import without_quantizers  # noqa: E402
from keras_quant.proof.formats import FORMATS  # noqa: E402
from keras_quant.qparams import unsigned  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from tests.methods.twins import EVERY_METHOD  # noqa: E402
from tests.prepare.nets import residual  # noqa: E402

FLOAT32_ROUNDING = 1e-5
QUIET = Progress(quiet=True)

# Sums, a layer that is called twice, a signed activation, and one behind a depthwise kernel.
NET = """
from keras_quant.tf import keras

L = keras.layers

def build(input_shape, num_classes):
    x = inputs = keras.Input(input_shape, name="image")
    x = L.ReLU(name="relu0")(L.BatchNormalization(name="bn0")(L.Conv2D(6, 3, name="conv0")(x)))
    shared = L.Conv2D(6, 3, padding="same", name="shared")
    a = L.ReLU(name="relu1")(shared(x))
    x = L.ReLU(name="sum")(L.Add(name="add")([x, shared(a)]))
    x = L.DepthwiseConv2D(3, strides=2, name="depthwise")(x)
    x = L.Dense(12, name="hidden")(L.Flatten(name="flat")(x))
    return keras.Model(inputs, L.Dense(num_classes, name="logits")(x))
"""


def with_words(**words: bool) -> Scheme:
    """4-bit weights, 4-bit activations with the words of a scheme."""
    activation = QuantSpec(bits=4, narrow_range=False, **words)
    rule = Rule(match="*", weight=QuantSpec(bits=4), activation=activation)
    return Scheme(name="words", rules=(rule,))


SCHEMES = {
    "power of two": scheme_from_bits("w4a4"),
    "real": with_words(power_of_two=False),
    "asymmetric": with_words(power_of_two=False, symmetric=False),
}


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], SimpleNamespace]:
    """A run of a method under a scheme, trained once, with its model as loaded."""
    folder, known = tmp_path_factory.mktemp("runs"), {}
    (folder / "net.py").write_text(NET)

    def run(method: str, words: str) -> SimpleNamespace:
        if (method, words) not in known:
            path = folder / f"{method}-{words}"
            settings = TrainSettings(
                scheme=SCHEMES[words],
                method=method,
                model=f"{folder / 'net.py'}:build",
                epochs=1,
                batch_size=64,
            )
            train(settings, path, progress=QUIET)
            model = load_model(path / "model.keras")
            known[method, words] = SimpleNamespace(path=path, model=model, settings=settings)
        return known[method, words]

    return run


FAST = {("qkeras", "power of two"), ("qkeras", "asymmetric")}
"""A method and a scheme's words; the others are of the slow tests."""


def _marks(*pairs: tuple[str, str]) -> tuple[pytest.MarkDecorator, ...]:
    return () if set(pairs) <= FAST else (pytest.mark.slow,)


every_method = pytest.mark.parametrize(
    "method",
    [
        pytest.param(method, marks=_marks((method, "power of two"), (method, "asymmetric")))
        for method in EVERY_METHOD
    ],
)
every_method_and_scheme = pytest.mark.parametrize(
    ("method", "words"),
    [
        pytest.param(method, words, marks=_marks((method, words)))
        for method in EVERY_METHOD
        for words in SCHEMES
        if words != "real" or method == "qkeras"  # others' steps are real anyway
    ],
)


@pytest.mark.slow
@every_method_and_scheme
def test_files_for_all_targets_have_the_codes_of_the_trained_model(run_of, method, words) -> None:
    run = run_of(method, words)
    exported = export_path(
        run.path,
        [FORMATS[name] for name in ("tflite", "onnx", "tensorrt")],
        dataset=None,
        out=None,
        images=100,
        baselines=words == "asymmetric",
        overwrite=True,
        trust=False,
        progress=QUIET,
    )
    for export in exported.files:
        assert export.parity.passed, export.format
        assert export.parity.codes_compared > 10_000
        assert export.parity.codes_different <= export.parity.codes_tolerance * 10_000
        assert export.parity.keras_top1_agreement == 1


@every_method
def test_float_file_is_the_model_without_quantizers(run_of, method) -> None:
    run = run_of(method, "asymmetric")
    plain = without_quantizers(run.model)
    for layer in plain.layers:
        assert not is_quantized(layer) and read_activation(layer, "") is None, layer.name
        assert type(layer).__module__.partition(".")[0] == "tf_keras", layer.name
    images = np.random.default_rng(0).random((5, 8, 8, 1)).astype(np.float32)
    # Kernels are the ones that were trained, not those that they were rounded to.
    kernel = {v.name.partition(":")[0]: v for v in run.model.get_layer("conv0").weights}
    raw = next(v for name, v in kernel.items() if name.endswith("kernel"))
    np.testing.assert_array_equal(plain.get_layer("conv0").kernel, raw)
    assert not np.array_equal(read_kernel(run.model.get_layer("conv0")).values, raw)
    assert not np.allclose(plain(images), run.model(images), atol=FLOAT32_ROUNDING)


@every_method_and_scheme
def test_inspection_counts_the_bits_of_the_scheme(run_of, method, words) -> None:
    run = run_of(method, words)
    graph = graph_of(str(run.path), scheme=None, dataset=None)
    widths = {node.name: node.weight.bits for node in graph.nodes if node.weight}
    ends = 8 if words == "power of two" else 4
    assert widths == {
        **dict.fromkeys(("shared", "shared_call2", "depthwise", "hidden"), 4),
        **{"conv0": ends, "logits": ends},
    }
    assert inspect(graph).cost.kernel_bits > 0


@every_method
def test_words_of_the_scheme_are_in_the_graph(run_of, method) -> None:
    graphs = {
        words: graph_of(str(run_of(method, words).path), scheme=None, dataset=None)
        for words in ("power of two", "asymmetric")
    }
    found = {
        words: [t.qparams for n, t in graph.tensors.items() if t.qparams and "input" not in n]
        for words, graph in graphs.items()
    }
    learns = method != "qkeras"
    assert all(np.log2(q.scale).is_integer() for q in found["power of two"]) != learns
    assert not any(np.log2(q.scale).is_integer() for q in found["asymmetric"])
    assert all(q.zero_point == 0 for q in found["power of two"])
    assert any(q.zero_point not in (0, q.qmin) for q in found["asymmetric"])


@every_method
def test_a_group_shares_its_scale_after_training_and_loading(run_of, method) -> None:
    model = run_of(method, "asymmetric").model
    read = {layer.name: read_activation(layer, layer.name) for layer in model.layers}
    grids = {name: found.qparams for name, found in read.items() if found}
    # What the calls of the shared layer and the addition read and write.
    names = [name for name in grids if name.startswith(("relu0", "relu1", "shared", "sum"))]
    scales = {grids[name].scale for name in names}
    assert len(names) >= 4 and len(scales) == 1


@pytest.mark.slow
def test_learned_scales_are_one_object_a_group_and_were_trained(run_of) -> None:
    model = run_of("toy", "asymmetric").model
    steps = {layer.name: layer.step for layer in model.layers if hasattr(layer, "step")}
    assert steps["relu0"] is steps["relu1"] is steps["sum"]
    assert steps["relu0"] is not steps["hidden_quant"]
    for step in set(steps.values()):
        assert isinstance(step, GroupStep) and float(step.scale) != step.initial
    assert len({id(variable) for variable in model.weights}) == len(model.weights)


def test_rules_choose_methods_layer_by_layer() -> None:
    spec = MethodSpec(name="toy", options=(("gradient", 0.5),))
    scheme = scheme_from_bits("4")
    rules = (*scheme.rules, Rule(match="conv3", method=spec))
    source = residual()
    planned = plan(source, dataclasses.replace(scheme, rules=rules))
    model = wrap(planned, source, EVERY_METHOD["qkeras"], unsigned(8, 1 / 255))
    kinds = {layer.name: type(layer).__name__ for layer in model.layers}
    assert (kinds["conv3"], kinds["relu3"]) == ("LearnedConv2D", "LearnedGrid")
    assert kinds["conv1"] == "QConv2D" and "Learned" not in kinds["relu0"]
    assert model.get_layer("conv3").gradient == 0.5
    np.testing.assert_array_equal(
        model.get_layer("conv3").raw_kernel, source.get_layer("conv3").kernel
    )


def test_one_group_needs_one_method() -> None:
    scheme = scheme_from_bits("4")
    rules = (*scheme.rules, Rule(match="left2", method=MethodSpec(name="toy")))
    source = residual()
    planned = plan(source, dataclasses.replace(scheme, rules=rules))
    with pytest.raises(SchemeError, match=r"one method: left2 \(toy\), right2 \(that of the run"):
        wrap(planned, source, EVERY_METHOD["qkeras"], unsigned(8, 1 / 255))


def test_all_methods_and_options_that_are_not_known_are_told_with_their_rules() -> None:
    specs = [
        MethodSpec(name="tay"),
        MethodSpec(name="toy", options=(("gradiant", 1.0), ("gradient", True))),
        MethodSpec(name="toy", options=(("gradient", -1),)),
        MethodSpec(name="qkeras", options=(("alpha", 1),)),
    ]
    rules = tuple(Rule(match="*", method=spec) for spec in specs)
    with pytest.raises(SchemeError) as caught:
        plan(residual(), Scheme(name="odd", rules=rules))
    for text in (
        "rules[0].method: method 'tay' is not known; close names: toy; methods are qkeras, ",
        "rules[1].method: toy does not know the option 'gradiant'; close names: gradient; its",
        "rules[1].method: toy: gradient is True; a number is expected",
        "rules[2].method: toy: gradient is -1; 0 or more is allowed",
        "rules[3].method: qkeras does not know the option 'alpha'; its",
    ):
        assert text in str(caught.value)
