"""Parity: what passes, what does not, and what is reported."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.errors import DataError, GraphError, ModelError
from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.graph.reference import bind_reference, run_reference
from keras_quant.json_codec import to_json
from keras_quant.model.metrics import top1
from keras_quant.proof.formats import FORMATS, Format
from keras_quant.proof.parity import (
    FLOAT_CODE_TOLERANCE,
    Proof,
    codes_tolerance,
    prove,
    prove_all,
)
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
    name = graph.outputs[0]
    keras = {name: run_reference(graph, images)[name] + np.float32(1e-4)}
    parity = prove(graph, TFLITE, emit_tflite(graph), images, keras=keras, batch_size=batch_size)
    assert parity.passed
    assert parity.failures == ()
    assert parity.images == IMAGES
    assert parity.codes_compared == IMAGES * (6 * 6 * (3 + 4 + 8) + 8)
    assert parity.codes_different == 0
    assert parity.first_different is None
    assert parity.outputs[0].keras_difference == pytest.approx(1e-4, rel=0.5)
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

    def bind(*arguments, **options):
        compute = bind_reference(*arguments, **options)
        return lambda inputs: (batches.append(len(inputs["image"])), compute(inputs))[1]

    monkeypatch.setattr("keras_quant.proof.parity.bind_reference", bind)
    files = [(form, form.definition.emit(graph)) for form in FORMATS.values()]
    proofs = prove_all(graph, files, images, batch_size=5)
    assert batches == [5, 5]
    assert all(proof.passed and proof.images == IMAGES for proof in proofs)
    assert len({proof.kernels for proof in proofs}) == len(FORMATS)


@pytest.mark.parametrize("threads", [1, 3])
def test_what_is_found_does_not_depend_on_parts_and_threads(graph, images, threads) -> None:
    other = with_node(graph, -1, bias=graph.nodes[-1].bias[::-1].copy())
    whole = prove(graph, TFLITE, emit_tflite(other), images, batch_size=IMAGES)
    proof = Proof(graph, [(TFLITE, emit_tflite(other))], batch_size=2, threads=threads)
    for rows in (slice(0, 7), slice(7, IMAGES)):
        proof.add({name: array[rows] for name, array in images.items()})
    (parts,) = proof.verdicts()
    assert replace(parts, seconds=whole.seconds) == whole


def test_an_error_in_a_thread_is_raised(graph, images, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ModelError("cannot be computed")

    monkeypatch.setattr("keras_quant.proof.trial.Trial.compare", refuse)
    with pytest.raises(ModelError, match="cannot be computed"):
        prove(graph, TFLITE, emit_tflite(graph), images, batch_size=1, threads=2)


def test_answers_are_scored_as_they_are_compared(graph, images) -> None:
    (name,) = graph.outputs
    labels = run_reference(graph, images)[name].argmax(axis=1)
    labels[:3] = (labels[:3] + 1) % 5
    metrics = {name: {"accuracy": top1}}
    proof = Proof(graph, [(TFLITE, emit_tflite(graph))], metrics=metrics, batch_size=4)
    proof.add(images, targets={name: labels})
    assert proof.scores() == [{name: {"accuracy": 0.7}}]


@pytest.mark.parametrize("form", FORMATS.values(), ids=list(FORMATS))
def test_each_output_is_compared(form: Format) -> None:
    builder = GraphBuilder(np.random.default_rng(0), (6, 6, 3), power_of_two=True)
    builder.add_linear("conv2d", (3, 3, 3, 4), qparams=unsigned(4, 0.5))
    builder.add_node("mean", qparams=unsigned(8, 0.03125))
    builder.add_head(5)
    graph, images = builder.graph(), builder.images(4)
    conv = graph.nodes[1].output
    real = Tensor(name="map", shape=graph.tensors[conv].shape)
    node = Node(name="map", op="dequantize", inputs=(conv,), output="map")
    tensors = {**graph.tensors, "map": real}
    two = replace(
        graph, outputs=(*graph.outputs, "map"), nodes=(*graph.nodes, node), tensors=tensors
    )
    keras = run_reference(two, images)
    content = form.definition.emit(two)
    parity = prove(two, form, content, images, keras=keras)
    assert parity.passed
    assert [output.name for output in parity.outputs] == list(two.outputs)
    assert [output.top1_agreement for output in parity.outputs] == [1.0, None]
    far = {**keras, "map": keras["map"] + 1}
    parity = prove(two, form, content, images, keras=far)
    (failure,) = parity.failures
    assert failure.startswith("output map differs from that of Keras on 4 of 4 images")
    assert parity.outputs[1].keras_difference == 1.0


def test_answers_far_from_keras_do_not_pass_though_the_winner_is_the_same(graph, images) -> None:
    name = graph.outputs[0]
    keras = {name: run_reference(graph, images)[name] * np.float32(1.05)}
    parity = prove(graph, TFLITE, emit_tflite(graph), images, keras=keras)
    assert parity.keras_top1_agreement == parity.top1_agreement == 1
    (failure,) = parity.failures
    assert f"output {name} differs from that of Keras on 10 of 10 images" in failure
    assert "by a root mean square of 4.76% of it" in failure


def test_a_wrong_file_does_not_spoil_the_proof_of_another(graph, images) -> None:
    other = with_node(graph, -1, bias=graph.nodes[-1].bias[::-1].copy())
    files = [(TFLITE, emit_tflite(other)), (TFLITE, emit_tflite(graph))]
    assert [proof.passed for proof in prove_all(graph, files, images)] == [False, True]


def test_a_file_with_other_weights_fails(graph, images) -> None:
    head = graph.nodes[-1]
    other = with_node(graph, -1, bias=head.bias[::-1].copy())
    parity = prove(graph, TFLITE, emit_tflite(other), images)
    assert not parity.passed
    assert parity.difference > parity.tolerance
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
    assert not np.isfinite(parity.difference)
    assert not parity.passed


def test_another_winner_does_not_pass_though_logits_are_close(graph, images) -> None:
    head = graph.nodes[-1]
    flat = replace(head.weight, values=np.zeros_like(head.weight.values))
    ramp = np.linspace(0, 1e-6, 5)
    one, other = (
        with_node(graph, -1, weight=flat, bias=bias) for bias in (ramp, ramp[::-1].copy())
    )
    parity = prove(one, TFLITE, emit_tflite(other), images)
    assert parity.difference < parity.tolerance
    assert parity.top1_agreement == 0
    assert not parity.passed


def test_no_images_is_an_error(graph, images) -> None:
    with pytest.raises(DataError, match="Give at least one"):
        prove(graph, TFLITE, emit_tflite(graph), {"image": images["image"][:0]})


def test_a_missing_input_is_an_error(graph, images) -> None:
    with pytest.raises(GraphError, match="input 'image' is missing"):
        prove(graph, TFLITE, emit_tflite(graph), {"picture": images["image"]})


def test_keras_logits_of_another_size_are_an_error(graph, images) -> None:
    name = graph.outputs[0]
    with pytest.raises(DataError, match=rf"at output {name} are \(9, 5\); \(10, 5\) is needed"):
        prove(graph, TFLITE, emit_tflite(graph), images, keras={name: np.zeros((9, 5))})
    with pytest.raises(DataError, match=rf"at output {name} are missing; \(10, 5\) is needed"):
        prove(graph, TFLITE, emit_tflite(graph), images, keras={"probabilities": np.zeros((9, 5))})


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
