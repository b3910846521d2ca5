from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.emit.tflite.emit import emit_tflite  # noqa: E402
from keras_quant.errors import ModelError, RunError, UsageError  # noqa: E402
from keras_quant.graph.costs.cost import GraphCost, cost  # noqa: E402
from keras_quant.graph.ir import Graph  # noqa: E402
from keras_quant.graph.passes.realize import realize  # noqa: E402
from keras_quant.graph.store import pack_graph  # noqa: E402
from keras_quant.jobs.inspection import Inspection, file_of, graph_of, inspect  # noqa: E402
from keras_quant.model.files import save_model  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits, with_overrides  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from tests.fake_runs import make_run  # noqa: E402

ROOT = Path(__file__).parents[2]
# A channel's float32 scale and int64 zero point. The zeros of codes and biases are stored once,
# and so are their scales where the layer's input has scale 1, as all but pixels have here.
SCALE_BYTES, ZERO_POINT_BYTES = 4, 8
GRID_BYTES = SCALE_BYTES + ZERO_POINT_BYTES


def zoo_graph(name: str, bits: str) -> Graph:
    return graph_of(name, scheme=scheme_from_bits(bits), dataset=None)


def inspected(name: str, bits: str) -> Inspection:
    return inspect(zoo_graph(name, bits))


def costs(target: object, *bits: str, dataset: str | None = None) -> GraphCost:
    scheme = with_overrides(scheme_from_bits(bits[0]), bits[1:]) if bits else None
    return cost(graph_of(str(target), scheme=scheme, dataset=dataset))


def test_costs_of_a_file_are_those_counted_by_hand(tmp_path: Path) -> None:
    image = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, name="conv")(image)  # to 4x4x4
    x = keras.layers.DepthwiseConv2D(2, strides=2, name="depth")(x)  # to 2x2x4
    x = keras.layers.Dense(5, name="head")(keras.layers.Flatten()(x))
    save_model(keras.Model(image, x), tmp_path / "model.keras")
    total = costs(tmp_path / "model.keras")
    counted = {n.name: (n.shape, n.parameters, n.macs) for n in total.nodes if n.weight_bits}
    assert counted == {
        "conv": ((4, 4, 4), 3 * 3 * 2 * 4 + 4, 4 * 4 * 72),
        "depth": ((2, 2, 4), 2 * 2 * 4 + 4, 2 * 2 * 16),
        "head": ((5,), 16 * 5 + 5, 80),
    }
    assert (total.parameters, total.macs) == (76 + 20 + 85, 1152 + 64 + 80)
    assert total.float_bytes == total.weight_bytes == 4 * 181
    assert total.bit_operations == 32 * 32 * total.macs


def test_zoo_model_under_a_scheme_is_counted_at_its_bits() -> None:
    total = costs("mlp", "w4a4", "dense2=w2a4")
    layers = {node.name: node for node in total.nodes if node.weight_bits}
    bits = {name: (node.weight_bits, node.activation_bits) for name, node in layers.items()}
    # First and last layer have 8-bit weights; pixels have 8 bits.
    assert bits == {"dense1": (8, 8), "dense2": (2, 4), "logits": (8, 4)}
    assert total.macs == 64 * 128 + 128 * 128 + 128 * 10
    assert total.kernel_bits == 8 * 64 * 128 + 2 * 128 * 128 + 8 * 128 * 10
    assert total.bit_operations == 64 * 8192 + 8 * 16384 + 32 * 1280
    assert layers["dense2"].weight_bytes == 128 * 128 // 4 + 2 * 4 * 128  # codes, scales, biases


def test_zoo_model_gets_the_shape_and_classes_of_a_dataset() -> None:
    assert costs("lenet5", dataset="cifar100").nodes[-1].shape == (100,)
    assert costs("lenet5").nodes[-1].shape == (10,)
    assert costs("mlp", dataset="digits+4px").macs == 16 * 128 + 128 * 128 + 128 * 10


def test_zoo_model_of_a_shape_has_the_classes_of_its_paper_or_of_a_dataset() -> None:
    def shapes(dataset: str | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        graph = graph_of("squeezenet1_1", scheme=None, dataset=dataset, input_shape=(40, 32, 3))
        return graph.tensors[graph.inputs[0]].shape, graph.tensors[graph.outputs[0]].shape

    assert shapes(None) == ((40, 32, 3), (1000,))
    assert shapes("cifar10") == ((40, 32, 3), (10,))


@pytest.mark.parametrize("name", ["resnet8", "ds_cnn"])
def test_quantizing_changes_no_count_but_those_of_bits(name: str) -> None:
    # A published counter took quantized layers for nothing: 0.09 of ResNet-50's 1.3 G were left.
    real = costs(name, dataset="cifar10")
    graph = graph_of(name, scheme=scheme_from_bits("8"), dataset="cifar10")
    rounded, stored = cost(graph), cost(realize(graph, snap=False).graph)
    for found in (rounded, stored):
        assert (found.macs, found.parameters) == (real.macs, real.parameters)
    assert rounded.bit_operations == 8 * 8 * real.macs


def test_float_zoo_model_is_float_throughout() -> None:
    assert {n.weight_bits for n in costs("ds_cnn").nodes if n.weight_bits} == {32}


def test_bits_are_for_models_of_the_zoo(tmp_path: Path) -> None:
    for options in (
        {"scheme": scheme_from_bits("4"), "dataset": None},
        {"scheme": None, "dataset": "digits"},
    ):
        with pytest.raises(UsageError, match="are for models of the zoo"):
            graph_of(str(tmp_path), **options)


@pytest.mark.parametrize(
    ("name", "error", "helpful"),
    [
        ("resnet21", RunError, "no such run, file or zoo model; close names: .*resnet20"),
        ("models", RunError, "not a run folder: it has no run.json"),
        ("model.tflite", ModelError, r"ends with '.tflite'; .keras, .h5, .hdf5 files are loaded"),
    ],
)
def test_target_that_is_nothing_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: type[Exception], helpful: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "model.tflite").write_bytes(b"")
    with pytest.raises(error, match=helpful):
        graph_of(name, scheme=None, dataset=None)


def test_dataset_that_is_not_known_gets_close_names() -> None:
    with pytest.raises(UsageError, match="dataset 'cifar11' is not known; close names: cifar10"):
        graph_of("mlp", scheme=None, dataset="cifar11")


def test_file_bytes_and_peak_of_mlp_are_those_counted_by_hand() -> None:
    found = inspected("mlp", "4")
    # int8 codes, int32 biases, and grids of both; the zeros of dense2 are those of dense1. The head
    # has four features more, a float32 for each feature that spans the range of codes, and
    # the (2, 2) margins that add them.
    assert {name: size for name, size in found.file.layers.items() if "dense" in name} == {
        "dense1": 64 * 128 + 4 * 128 + (SCALE_BYTES + GRID_BYTES) * 128,
        "dense2": 128 * 128 + 4 * 128 + SCALE_BYTES * 128,
    }
    head, ends, margins = 132 * 10 + (GRID_BYTES + 4) * 10, 4 * 132, 4 * 2 * 2
    assert found.file.layers["logits"] == head + ends + margins
    # float32 pixels beside 8-bit ones; at the head 128 codes of 4 bits and 10 floats.
    assert found.cost.peak_live_bytes == 64 * 4 + 64
    assert found.cost.nodes[-1].live_bytes == 128 + 40
    assert found.cost.nodes[-1].live_logical_bytes == 64 + 40


def test_file_bytes_and_peak_of_lenet5_are_those_counted_by_hand() -> None:
    found = inspected("lenet5", "4")
    assert found.file.layers["conv1"] == 5 * 5 * 6 + (4 + SCALE_BYTES + GRID_BYTES) * 6
    assert found.file.layers["conv2"] == 5 * 5 * 6 * 16 + (4 + GRID_BYTES) * 16
    assert found.file.layers["dense3"] == 64 * 120 + (4 + GRID_BYTES) * 120
    # 8x8x6 codes of the first convolution beside their 4x4x6 maxima; at 4 bits the pixels
    # beside their codes are more.
    assert found.cost.peak_live_bytes == 384 + 96
    assert found.cost.peak_live_logical_bytes == 64 * 4 + 64


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage"])
def test_a_damaged_file_is_told(damage: str, tmp_path: Path) -> None:
    graph = zoo_graph("mlp", "8")
    whole = emit_tflite(realize(graph, snap=False).graph)
    content = {"cut": whole[: len(whole) // 3], "empty": b"", "garbage": b"\xff" * 1000}[damage]
    (tmp_path / "model.tflite").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.tflite: no whole TFLite file .* Export it again"):
        inspect(graph, file=tmp_path / "model.tflite")


def test_bytes_of_a_file_are_those_of_layers_and_structure() -> None:
    graph = zoo_graph("lenet5", "4")
    found = inspect(graph)
    content = emit_tflite(realize(graph, snap=False).graph)
    assert found.file.total == len(content)
    assert found.file.structure + sum(found.file.layers.values()) == len(content)


def test_graph_that_tflite_cannot_hold_is_told() -> None:
    graph = zoo_graph("mlp", "4")
    name = graph.nodes[1].output
    tensor = graph.tensors[name]
    tiny = replace(tensor, qparams=replace(tensor.qparams, scale=2.0**-60))
    found = inspect(replace(graph, tensors={**graph.tensors, name: tiny}))
    assert found.file is None
    assert "float32 kernels allow" in found.file_problem
    assert found.cost.macs > 0


def test_exported_run_is_read_from_its_graph_and_its_file(tmp_path: Path) -> None:
    graph = realize(zoo_graph("mlp", "4"), snap=False).graph
    run = make_run(tmp_path / "run", tflite=emit_tflite(graph) + b"1234")
    (run / "export" / "model.kqgraph").write_bytes(pack_graph(graph))
    found = inspect(graph_of(str(run), scheme=None, dataset=None), file=file_of(str(run)))
    assert found.cost == cost(graph)
    assert found.file.total == len(emit_tflite(graph)) + 4
    assert costs(run / "export" / "model.kqgraph") == cost(graph)


@pytest.mark.slow
def test_inspecting_a_graph_file_does_not_load_tensorflow(tmp_path: Path) -> None:
    (tmp_path / "model.kqgraph").write_bytes(pack_graph(zoo_graph("mlp", "4")))
    code = (
        "import sys; from keras_quant.jobs.inspection import graph_of, inspect; "
        "inspect(graph_of(sys.argv[1], scheme=None, dataset=None)); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "model.kqgraph"], cwd=ROOT)
    assert done.returncode == 0
