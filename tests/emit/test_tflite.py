"""The TFLite emitter: files whose codes are the reference's, whatever the graph."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from hypothesis import assume, given
from hypothesis import strategies as st

from keras_quant.emit.tflite import emit_tflite
from keras_quant.emit.tflite_emission import stored_offset
from keras_quant.emit.tflite_legalize import legalize
from keras_quant.emit.tflite_limits import find_problems
from keras_quant.emit.tflite_rescale import rescale
from keras_quant.errors import EmitError
from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.graph.reference import run_reference
from keras_quant.graph.verify import verify
from keras_quant.parity import prove_tflite
from keras_quant.qparams import QParams, signed, unsigned
from keras_quant.runners.litert import LiteRTRunner
from tests.emit.random_graphs import BODY_OPS, GraphBuilder, random_graph

FLOAT32_ROUNDING = 1e-5
# A head's sums are exact; a scale, a product and a bias are rounded: at most 4 * 2**-24.
EXACT_SUMS = 2.5e-7
SEEDS = st.integers(0, 2**32 - 1)


def codes_different(builder: GraphBuilder, *, images: int = 5) -> int:
    graph = builder.graph()
    verify(graph)
    assume(not find_problems(graph))
    parity = prove_tflite(graph, emit_tflite(graph), builder.images(images), batch_size=3)
    assert parity.codes_compared > 0
    return parity.codes_different


@given(seed=SEEDS)
def test_codes_of_random_networks_are_the_references(seed: int) -> None:
    assert codes_different(random_graph(seed)) == 0


@pytest.mark.parametrize("op", BODY_OPS)
@given(seed=SEEDS, power_of_two=st.booleans())
def test_codes_of_each_op_are_the_references(op: str, seed: int, power_of_two: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in (*rng.integers(1, 9, 2), rng.integers(1, 20)))
    builder = GraphBuilder(rng, shape, power_of_two=power_of_two)
    builder.add_random(op)
    assert codes_different(builder) == 0


@given(seed=SEEDS, ratio=st.sampled_from([0.25, 1.0, 1.5, 4.0]))
def test_means_with_ties_are_the_references(seed: int, ratio: float) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in (*rng.integers(1, 9, 2), 40))
    builder = GraphBuilder(rng, shape, power_of_two=True)
    builder.add_node("mean", qparams=builder.random_qparams(builder.qparams().scale * ratio))
    assert codes_different(builder, images=20) == 0


def test_accumulators_beyond_24_bits_are_the_references() -> None:
    builder = GraphBuilder(np.random.default_rng(0), (1, 1, 3000), power_of_two=False)
    builder.add_node("reshape", qparams=builder.qparams())
    graph = builder.graph()
    scale = graph.tensors["quantize_0_out"].qparams.scale
    pixels = unsigned(8, scale)
    tensors = {
        name: replace(tensor, qparams=tensor.qparams and pixels)
        for name, tensor in graph.tensors.items()
    }
    weight = Weight(
        values=np.full((3000, 4), [127, -128, 126, 99], np.int8),
        scale=np.full(4, 2.0**-22, np.float32),
        bits=8,
    )
    dense = Node(
        name="dense",
        op="dense",
        inputs=(graph.outputs[0],),
        output="dense_out",
        weight=weight,
        bias=np.array([1, 2**24 + 1, -3, 7], np.int32),
    )
    tensors["dense_out"] = Tensor(
        name="dense_out", shape=(4,), qparams=signed(8, 1.7 * scale, narrow_range=False)
    )
    graph = replace(graph, tensors=tensors, nodes=(*graph.nodes, dense), outputs=("dense_out",))
    images = {
        "image": np.full(
            (40, 1, 1, 3000), np.linspace(0, 255, 40)[:, None, None, None] * scale, np.float32
        )
    }
    assert prove_tflite(graph, emit_tflite(graph), images).codes_different == 0


@pytest.mark.parametrize("rewrite", [legalize, rescale])
@given(seed=SEEDS)
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
    "qparams",
    [
        unsigned(1, 1.0),
        unsigned(4, 1.0),
        unsigned(8, 1.0),
        signed(2, 1.0, narrow_range=True),
        signed(4, 1.0, narrow_range=False),
        signed(8, 1.0, narrow_range=True),
        signed(8, 1.0, narrow_range=False),
        QParams(scale=1.0, zero_point=3, qmin=0, qmax=6, bits=3),
        QParams(scale=1.0, zero_point=0, qmin=-1, qmax=5, bits=3),
    ],
)
def test_codes_saturate_at_both_ends_of_their_range(qparams: QParams) -> None:
    image = Tensor(name="image", shape=(600,))
    codes = Tensor(name="codes", shape=(600,), qparams=qparams)
    node = Node(name="quantize", op="quantize", inputs=("image",), output="codes")
    graph = Graph(
        name="ramp",
        inputs=("image",),
        outputs=("codes",),
        tensors={"image": image, "codes": codes},
        nodes=(node,),
    )
    ramp = np.arange(-300, 300, dtype=np.float32)[np.newaxis]
    stored = LiteRTRunner(emit_tflite(graph)).run({"image": ramp})["codes"]
    wanted = np.clip(ramp + qparams.zero_point, qparams.qmin, qparams.qmax)
    np.testing.assert_array_equal(stored.astype(int) - stored_offset(qparams), wanted)


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
    parity = prove_tflite(graph, model, images)
    assert parity.passed
    assert parity.kernels == ("XNNPACK",)
    assert parity.logit_difference <= EXACT_SUMS


@pytest.mark.parametrize("value", [-128, -9, -8, 7, 8, 127])
def test_a_heads_widest_weight_survives(value: int) -> None:
    graph, images = head_graph(features=6, classes=3, largest=7)
    head = graph.nodes[-1]
    weight = replace(head.weight, values=np.full((6, 3), value, np.int8))
    graph = replace(graph, nodes=(*graph.nodes[:-1], replace(head, weight=weight)))
    assert prove_tflite(graph, emit_tflite(graph), images).passed


@given(seed=SEEDS)
def test_a_heads_sums_are_exact_for_codes_of_any_range(seed: int) -> None:
    rng = np.random.default_rng(seed)
    builder = GraphBuilder(rng, (1, 1, int(rng.integers(1, 300))), power_of_two=False)
    builder.add_node("reshape", qparams=builder.qparams())
    builder.add_head(int(rng.integers(1, 20)), largest=int(rng.choice([1, 7, 127])))
    graph = builder.graph()
    assume(not find_problems(graph))
    parity = prove_tflite(graph, emit_tflite(graph), builder.images(5))
    assert parity.logit_difference <= EXACT_SUMS


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


def float_graph(*, weight_only: bool) -> Graph:
    rng = np.random.default_rng(3)

    def weight(*shape: int) -> Weight:
        if not weight_only:
            return Weight(values=rng.normal(0, 0.3, shape).astype(np.float32))
        scale = rng.uniform(0.01, 0.1, shape[-1])
        return Weight(values=rng.integers(-8, 8, shape).astype(np.int8), scale=scale, bits=4)

    def bias(channels: int) -> np.ndarray:
        return rng.normal(size=channels).astype(np.float32)

    steps = [
        ("conv2d", (9, 7, 6), {"padding": "same", "activation": "relu"}, weight(3, 3, 3, 6), 6),
        ("depthwise_conv2d", (9, 7, 6), {"padding": "same"}, weight(3, 3, 6), 6),
        ("add", (9, 7, 6), {"activation": "relu6"}, None, 0),
        ("pad", (10, 8, 6), {"padding": ((1, 0), (0, 1))}, None, 0),
        ("max_pool", (5, 4, 6), {"pool_size": (2, 2), "strides": (2, 2)}, None, 0),
        ("avg_pool", (4, 3, 6), {"pool_size": (2, 2), "strides": (1, 1)}, None, 0),
        ("relu", (4, 3, 6), {"max_value": 6.0}, None, 0),
        ("mean", (6,), {}, None, 0),
        ("dense", (5,), {}, weight(6, 5), 5),
        ("softmax", (5,), {}, None, 0),
    ]
    tensors, nodes = {"image": Tensor(name="image", shape=(9, 7, 3))}, []
    for op, shape, attrs, kernel, channels in steps:
        last = nodes[-1].output if nodes else "image"
        inputs = ("conv2d", last) if op == "add" else (last,)
        values = bias(channels) if channels else None
        nodes.append(
            Node(name=op, op=op, inputs=inputs, output=op, attrs=attrs, weight=kernel, bias=values)
        )
        tensors[op] = Tensor(name=op, shape=shape)
    graph = Graph(
        name="real", inputs=("image",), outputs=("softmax",), tensors=tensors, nodes=tuple(nodes)
    )
    verify(graph)
    return graph


@pytest.mark.parametrize("weight_only", [False, True])
def test_float_layers_agree_with_the_reference(weight_only: bool) -> None:
    graph = float_graph(weight_only=weight_only)
    images = {"image": np.random.default_rng(4).random((3, 9, 7, 3), np.float32)}
    names = [node.output for node in graph.nodes]
    answers = LiteRTRunner(emit_tflite(graph, outputs=names)).run(images)
    wanted = run_reference(graph, images, keep=names)
    for name in names:
        np.testing.assert_allclose(answers[name], wanted[name], atol=FLOAT32_ROUNDING)


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


def test_emitting_loads_no_tensorflow() -> None:
    code = "import sys, keras_quant.emit.tflite; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
