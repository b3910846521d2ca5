"""The TFLite emitter: files whose codes are the reference's, whatever the graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from hypothesis import assume, example, given
from hypothesis import strategies as st

from keras_quant.emit.shared.edges import split_at_edges
from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.emit.tflite.legalize import legalize
from keras_quant.emit.tflite.limits import find_problems
from keras_quant.emit.tflite.rescale import rescale
from keras_quant.errors import EmitError
from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.graph.reference import run_reference
from keras_quant.proof.formats import FORMATS
from keras_quant.proof.parity import prove
from keras_quant.qparams import QParams, signed, unsigned
from keras_quant.runners.litert import LiteRTRunner
from tests.emit.random_graphs import GraphBuilder, random_graph

FLOAT32_ROUNDING = 1e-5
# A head's sums are exact; scales, products and a bias are rounded, each by 2**-24 of its size.
EXACT_SUMS = 5e-7
SEEDS = st.integers(0, 2**32 - 1)


def legal(graph: Graph) -> Graph:
    return legalize(split_at_edges(graph))


@pytest.mark.parametrize("rewrite", [legal, rescale])
@given(seed=SEEDS)
@example(seed=3355)  # an average that reaches over the edge
def test_a_rewritten_graph_means_the_same(rewrite: Callable[[Graph], Graph], seed: int) -> None:
    builder = random_graph(seed)
    graph = builder.graph()
    assume(not find_problems(graph))
    keep = [node.output for node in graph.nodes]
    images = builder.images(3)
    wanted, given_ = (run_reference(g, images, keep=keep) for g in (graph, rewrite(graph)))
    for name in keep[:-1]:
        np.testing.assert_array_equal(given_[name], wanted[name], err_msg=name)


@pytest.mark.parametrize(
    ("power_of_two", "copied"),
    [(False, []), (True, ["QUANTIZE"])],
    ids=["another scale clamps", "another scale would round ties otherwise"],
)
def test_narrow_signed_codes_are_clamped_by_a_scale_that_changes_none(
    power_of_two: bool, copied: list[str]
) -> None:
    builder = GraphBuilder(np.random.default_rng(5), (6, 6, 4), power_of_two=power_of_two)
    # Among the depths below 0 for which float32 does not give multipliers of 2**k back.
    narrow = QParams(scale=0.25, qmin=-41, qmax=41, bits=7)
    builder.add_linear("conv2d", (3, 3, 4, 8), qparams=narrow)
    builder.add_linear("conv2d", (3, 3, 8, 6), qparams=unsigned(8, 0.5))
    graph = builder.graph()
    content = emit_tflite(graph)
    interpreter = Interpreter(model_content=content)
    names = [operator["op_name"] for operator in interpreter._get_ops_details()]
    assert names[names.index("CONV_2D") :] == ["CONV_2D", *copied, "CONV_2D"]
    parity = prove(graph, FORMATS["tflite"], content, builder.images(50))
    assert parity.codes_compared and not parity.codes_different


def with_margins(margins: Sequence[Sequence[int]], *ops: str) -> GraphBuilder:
    """Windows of 3x3 at half the size, each with margins of its own."""
    builder = GraphBuilder(np.random.default_rng(0), (12, 12, 4), power_of_two=True)
    builder.add_node("requantize", qparams=unsigned(4, 0.5))
    attrs = {"strides": (2, 2), "padding": margins}
    for op in ops:
        if op == "max_pool":
            pool = {**attrs, "pool_size": (3, 3)}
            builder.add_node(op, qparams=builder.qparams(), attrs=pool)
        else:
            builder.add_linear(op, (3, 3, 4, 4), qparams=unsigned(4, 0.5), attrs=attrs)
    return builder


@pytest.mark.parametrize(
    ("margins", "pads"), [(((0, 1), (0, 1)), 0), (((1, 1), (1, 1)), 2), (((1, 0), (1, 0)), 2)]
)
def test_only_margins_that_same_does_not_give_are_pads(margins, pads) -> None:
    builder = with_margins(margins, "conv2d", "max_pool")
    graph, content = builder.graph(), emit_tflite(builder.graph())
    names = [o["op_name"] for o in Interpreter(model_content=content)._get_ops_details()]
    assert names.count("PAD") == pads
    assert prove(graph, FORMATS["tflite"], content, builder.images(20)).codes_different == 0


def test_a_max_pooling_with_margins_around_negative_codes_is_refused() -> None:
    builder = with_margins(((1, 1), (1, 1)))
    builder.add_node("requantize", qparams=signed(4, 0.5, narrow_range=False))
    attrs = {"pool_size": (3, 3), "strides": (2, 2), "padding": ((1, 1), (1, 1))}
    builder.add_node("max_pool", qparams=builder.qparams(), attrs=attrs)
    with pytest.raises(EmitError, match=r"max_pool pads \(\(1, 1\), \(1, 1\)\) around what may be"):
        emit_tflite(builder.graph())


def head_graph(
    *, features: int = 2048, classes: int = 1000, largest: int = 7
) -> tuple[Graph, dict[str, np.ndarray]]:
    builder = GraphBuilder(np.random.default_rng(1), (1, 1, features), power_of_two=False)
    builder.add_node("reshape", qparams=builder.qparams())
    builder.add_head(classes, largest=largest)
    return builder.graph(), builder.images(4)


@pytest.mark.parametrize(("largest", "bytes_a_weight"), [(1, 0.25), (7, 0.5), (127, 1.0)])
def test_a_head_is_stored_as_integers_and_answers_within_tolerance(
    largest: int, bytes_a_weight: float
) -> None:
    graph, images = head_graph(largest=largest)
    model = emit_tflite(graph)
    assert len(model) < 2048 * 1000 * bytes_a_weight + 32_000
    parity = prove(graph, FORMATS["tflite"], model, images)
    assert parity.passed
    assert parity.kernels == ("XNNPACK",)
    assert parity.difference <= EXACT_SUMS


@pytest.mark.parametrize("value", [-128, -9, -8, 7, 8, 127])
def test_a_heads_widest_weight_survives(value: int) -> None:
    graph, images = head_graph(features=6, classes=3, largest=7)
    head = graph.nodes[-1]
    weight = replace(head.weight, values=np.full((6, 3), value, np.int8))
    graph = replace(graph, nodes=(*graph.nodes[:-1], replace(head, weight=weight)))
    assert prove(graph, FORMATS["tflite"], emit_tflite(graph), images).passed


@given(seed=SEEDS)
def test_a_heads_sums_are_exact_for_codes_of_any_range(seed: int) -> None:
    rng = np.random.default_rng(seed)
    builder = GraphBuilder(rng, (1, 1, int(rng.integers(1, 300))), power_of_two=False)
    builder.add_node("reshape", qparams=builder.qparams())
    builder.add_head(int(rng.integers(1, 20)), largest=int(rng.choice([1, 7, 127])))
    graph = builder.graph()
    assume(not find_problems(graph))
    parity = prove(graph, FORMATS["tflite"], emit_tflite(graph), builder.images(5))
    assert parity.difference <= EXACT_SUMS


@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_a_heads_activation_is_applied(activation: str) -> None:
    builder = GraphBuilder(np.random.default_rng(2), (1, 1, 50), power_of_two=True)
    builder.add_node("reshape", qparams=builder.qparams())
    builder.add_head(64, activation=activation)
    graph, images = builder.graph(), builder.images(8)
    answers = LiteRTRunner(emit_tflite(graph)).run(images)[graph.outputs[0]]
    assert answers.min() == 0
    np.testing.assert_allclose(
        answers, run_reference(graph, images)[graph.outputs[0]], atol=FLOAT32_ROUNDING
    )


def test_equal_constants_are_stored_once() -> None:
    graph, _ = head_graph(features=512, classes=256, largest=127)
    twice = replace(
        graph,
        nodes=(*graph.nodes, replace(graph.nodes[-1], name="twin", output="twin")),
        tensors={**graph.tensors, "twin": Tensor(name="twin", shape=(256,))},
    )
    assert len(emit_tflite(twice)) - len(emit_tflite(graph)) < 4096


def test_all_problems_are_told_at_once() -> None:
    builder = GraphBuilder(np.random.default_rng(5), (4, 4, 2), power_of_two=True)
    builder.add_linear("conv2d", (1, 1, 2, 3))
    builder.add_node("max_pool", qparams=builder.qparams(), attrs={"pool_size": (1, 1)})
    graph = builder.graph()
    conv, pool = graph.nodes[1:]
    wide = QParams(scale=1.0, qmin=0, qmax=511, bits=9)
    ideal = replace(conv.weight, scale=conv.weight.scale.astype(np.float64))
    tensors = {
        **graph.tensors,
        "quantize_0_out": replace(graph.tensors["quantize_0_out"], qparams=wide),
    }
    nodes = (graph.nodes[0], replace(conv, weight=ideal, bias=None), replace(pool, op="maxpool"))
    with pytest.raises(EmitError) as caught:
        emit_tflite(replace(graph, nodes=nodes, tensors=tensors))
    for part in (
        "codes 0 to 511 do not fit int8",
        "'conv2d_1': weight.scale is float64, the graph is ideal",
        "no TFLite operator for 'maxpool'; close names: max_pool",
    ):
        assert part in str(caught.value)


def test_the_file_names_its_tensors_and_takes_any_batch() -> None:
    graph, images = head_graph(features=6, classes=3)
    interpreter = Interpreter(model_content=emit_tflite(graph))
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["image"], "outputs": list(graph.outputs)}
    }
    (image,) = interpreter.get_input_details()
    assert image["shape"].tolist() == [1, 1, 1, 6]
    assert image["shape_signature"].tolist() == [-1, 1, 1, 6]


def test_constants_start_at_multiples_of_16_bytes() -> None:
    model = emit_tflite(head_graph(features=17, classes=9)[0])
    buffers = schema.ModelT.InitFromPackedBuf(model).buffers
    long = [bytes(buffer.data) for buffer in buffers if buffer.data is not None]
    starts = [model.index(data) for data in long if len(data) > 18 and any(data)]
    assert len(starts) == 3  # weights, scales, bias; zeros would be found anywhere
    assert all(start % 16 == 0 for start in starts)


def test_signed_codes_before_a_weight_take_no_second_pass() -> None:
    builder = GraphBuilder(np.random.default_rng(7), (4, 4, 2), power_of_two=True)
    builder.add_linear("conv2d", (1, 1, 2, 3), qparams=signed(4, 0.5, narrow_range=False))
    builder.add_node("mean", qparams=builder.qparams())
    builder.add_head(3)
    subgraph = schema.ModelT.InitFromPackedBuf(emit_tflite(builder.graph())).subgraphs[0]
    names = [tensor.name.decode() for tensor in subgraph.tensors]
    assert "conv2d_1_out" in names
    assert "conv2d_1_out/unclamped" not in names


@pytest.mark.parametrize("multiplier", [256.0, 2.0**-33])
def test_a_multiplier_that_xnnpack_refuses_is_told(multiplier: float) -> None:
    builder = GraphBuilder(np.random.default_rng(6), (4, 4, 2), power_of_two=True)
    builder.add_linear("conv2d", (1, 1, 2, 3), qparams=unsigned(4, 1.0))
    graph = builder.graph()
    conv = graph.nodes[1]
    source = graph.tensors[conv.inputs[0]].qparams
    scale = np.full(3, multiplier / source.scale, np.float32)
    broken = replace(conv, weight=replace(conv.weight, scale=scale))
    with pytest.raises(EmitError, match=r"in channel 0 \(3 such channels\)"):
        emit_tflite(replace(graph, nodes=(graph.nodes[0], broken)))


def test_an_add_that_float32_rounds_otherwise_is_refused() -> None:
    tensors = {
        name: Tensor(name=name, shape=(4,), qparams=qparams)
        for name, qparams in {
            "image": None,
            "a": unsigned(8, 0.1),
            "b": unsigned(8, 0.1 / 3),
            "sum": unsigned(8, 0.2),
        }.items()
    }
    nodes = (
        Node(name="a", op="quantize", inputs=("image",), output="a"),
        Node(name="b", op="quantize", inputs=("image",), output="b"),
        Node(name="join", op="add", inputs=("a", "b"), output="sum"),
    )
    graph = Graph(name="g", inputs=("image",), outputs=("sum",), tensors=tensors, nodes=nodes)
    with pytest.raises(EmitError, match="'join': adds codes of scale .* powers of two"):
        emit_tflite(graph)
