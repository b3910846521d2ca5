"""Parity: what passes, what does not, and what is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.errors import DataError, GraphError, ModelError
from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.graph.reference import iterate_reference, run_reference
from keras_quant.json_codec import to_json
from keras_quant.proof.formats import FORMATS
from keras_quant.proof.parity import FLOAT_CODE_TOLERANCE, codes_tolerance, prove, prove_all
from keras_quant.qparams import unsigned
from tests.emit.random_graphs import GraphBuilder

IMAGES = 10
TFLITE = FORMATS["tflite"]


@pytest.fixture(scope="module")
def builder() -> GraphBuilder:
    builder = GraphBuilder(np.random.default_rng(0), (6, 6, 3), power_of_two=True)
    attrs = {"padding": "same"}
    builder.add_linear("conv2d", (3, 3, 3, 4), qparams=unsigned(4, 0.5), attrs=attrs)
    builder.add_linear("conv2d", (3, 3, 4, 8), qparams=unsigned(4, 0.5), attrs=attrs)
    builder.add_node("mean", qparams=unsigned(8, 0.03125))
    builder.add_head(5)
    return builder


@pytest.fixture(scope="module")
def graph(builder: GraphBuilder) -> Graph:
    return builder.graph()


@pytest.fixture(scope="module")
def images(builder: GraphBuilder) -> dict[str, np.ndarray]:
    return builder.images(IMAGES)


def with_node(graph: Graph, index: int, **changes: object) -> Graph:
    nodes = list(graph.nodes)
    nodes[index] = replace(nodes[index], **changes)
    return replace(graph, nodes=tuple(nodes))


@pytest.mark.parametrize("batch_size", [None, 1, 4])
def test_a_file_passes_against_its_own_graph(graph, images, batch_size) -> None:
    keras = run_reference(graph, images)[graph.outputs[0]] + 0.5
    parity = prove(
        graph, TFLITE, emit_tflite(graph), images, keras_logits=keras, batch_size=batch_size
    )
    assert parity.passed
    assert parity.images == IMAGES
    assert parity.codes_compared == IMAGES * (6 * 6 * (3 + 4 + 8) + 8)
    assert parity.codes_different == 0
    assert parity.first_different is None
    assert parity.keras_logit_difference == pytest.approx(0.5, abs=1e-4)
    assert parity.top1_agreement == parity.keras_top1_agreement == 1.0
    assert parity.probe_kernels == ("XNNPACK",)
    assert '"passed": true' in to_json(parity)


def test_layers_are_told_in_order_and_add_up(graph, images) -> None:
    parity = prove(graph, TFLITE, emit_tflite(graph), images)
    assert [layer.node for layer in parity.layers] == [node.name for node in graph.nodes[:-1]]
    assert sum(layer.codes_compared for layer in parity.layers) == parity.codes_compared


def test_files_of_all_formats_are_proven_by_one_run_of_the_reference(
    graph, images, monkeypatch
) -> None:
    batches = []
    monkeypatch.setattr(
        "keras_quant.proof.parity.iterate_reference",
        lambda *a, **o: (batches.append(b) or b for b in iterate_reference(*a, **o)),
    )
    files = [(form, form.definition.emit(graph)) for form in FORMATS.values()]
    proofs = prove_all(graph, files, images, batch_size=5)
    assert len(batches) == 2
    assert all(proof.passed and proof.images == IMAGES for proof in proofs)
    assert len({proof.kernels for proof in proofs}) == len(FORMATS)


def test_a_wrong_file_does_not_spoil_the_proof_of_another(graph, images) -> None:
    other = with_node(graph, -1, bias=graph.nodes[-1].bias[::-1].copy())
    files = [(TFLITE, emit_tflite(other)), (TFLITE, emit_tflite(graph))]
    assert [proof.passed for proof in prove_all(graph, files, images)] == [False, True]


def test_a_file_with_other_weights_fails(graph, images) -> None:
    head = graph.nodes[-1]
    other = with_node(graph, -1, bias=head.bias[::-1].copy())
    parity = prove(graph, TFLITE, emit_tflite(other), images)
    assert not parity.passed
    assert parity.logit_difference > parity.tolerance
    assert parity.codes_different == 0


def test_codes_that_kernels_round_otherwise_are_counted_and_named(
    graph, images, monkeypatch
) -> None:
    conv = graph.nodes[2]
    shifted = with_node(graph, 2, bias=conv.weight.values.sum((0, 1, 2), dtype=np.int32) + 1000)
    monkeypatch.setattr(
        "keras_quant.proof.formats.tflite.emit_tflite",
        lambda _, **options: emit_tflite(shifted, **options),
    )
    parity = prove(graph, TFLITE, emit_tflite(graph), images)
    assert not parity.passed
    assert parity.codes_different > 0
    assert parity.first_different == conv.name


def test_nan_does_not_pass(graph, images) -> None:
    bias = np.full_like(graph.nodes[-1].bias, np.nan)
    parity = prove(graph, TFLITE, emit_tflite(with_node(graph, -1, bias=bias)), images)
    assert not np.isfinite(parity.logit_difference)
    assert not parity.passed


def test_another_winner_does_not_pass_though_logits_are_close(graph, images) -> None:
    head = graph.nodes[-1]
    flat = replace(head.weight, values=np.zeros_like(head.weight.values))
    ramp = np.linspace(0, 1e-6, 5)
    one, other = (
        with_node(graph, -1, weight=flat, bias=bias) for bias in (ramp, ramp[::-1].copy())
    )
    parity = prove(one, TFLITE, emit_tflite(other), images)
    assert parity.logit_difference < parity.tolerance
    assert parity.top1_agreement == 0
    assert not parity.passed


def test_no_images_is_an_error(graph, images) -> None:
    with pytest.raises(DataError, match="Give at least one"):
        prove(graph, TFLITE, emit_tflite(graph), {"image": images["image"][:0]})


def test_a_missing_input_is_an_error(graph, images) -> None:
    with pytest.raises(GraphError, match="input 'image' is missing"):
        prove(graph, TFLITE, emit_tflite(graph), {"picture": images["image"]})


def test_keras_logits_of_another_size_are_an_error(graph, images) -> None:
    with pytest.raises(DataError, match=r"keras_logits is \(9, 5\); \(10, 5\) is needed"):
        prove(graph, TFLITE, emit_tflite(graph), images, keras_logits=np.zeros((9, 5)))


def test_a_file_of_another_graph_is_an_error(graph, images) -> None:
    other = emit_tflite(graph, outputs=[graph.nodes[-2].output])
    with pytest.raises(ModelError, match="is missing; the graph gives"):
        prove(graph, TFLITE, other, images)


def float_in_front_of_codes() -> Graph:
    """image -> codes -> float convolution -> codes -> float output."""
    codes = unsigned(4, 0.5)
    tensors = [
        Tensor(name="image", shape=(4, 4, 1)),
        Tensor(name="float", shape=(4, 4, 1)),
        Tensor(name="codes", shape=(4, 4, 1), qparams=codes),
        Tensor(name="out", shape=(4, 4, 1)),
    ]
    weight = Weight(values=np.full((1, 1, 1, 1), 1.1, np.float32))
    conv = Node(name="conv", op="conv2d", inputs=("image",), output="float", weight=weight)
    nodes = (
        conv,
        Node(name="quantize", op="quantize", inputs=("float",), output="codes"),
        Node(name="dequantize", op="dequantize", inputs=("codes",), output="out"),
    )
    return Graph(
        name="float", inputs=("image",), outputs=("out",), tensors={t.name: t for t in tensors},
        nodes=nodes,
    )  # fmt: skip


def test_only_codes_behind_a_float_layer_may_differ(graph: Graph) -> None:
    assert codes_tolerance(graph) == 0
    assert codes_tolerance(float_in_front_of_codes()) == FLOAT_CODE_TOLERANCE
