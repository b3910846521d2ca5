"""What holds for every format: files whose codes are the reference's, whatever the graph."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from keras_quant.emit.onnx_x86 import limits as onnx_x86_limits
from keras_quant.emit.tflite import limits as tflite_limits
from keras_quant.emit.tflite.options import TFLiteOptions
from keras_quant.errors import EmitError
from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.graph.passes.stages import cut
from keras_quant.graph.reference import run_reference
from keras_quant.graph.verify import verify
from keras_quant.proof.formats import EXACT_FORMATS, Format
from keras_quant.proof.parity import prove
from keras_quant.qparams import QParams, signed, unsigned
from keras_quant.runners import Runner
from tests.emit.random_graphs import BODY_OPS, GraphBuilder, random_exits, random_graph

FLOAT32_ROUNDING = 1e-5
SEEDS = st.integers(0, 2**32 - 1)

FIND_PROBLEMS: dict[str, Callable[[Graph], list[str]]] = {
    "tflite": tflite_limits.find_problems,
    "onnx": onnx_x86_limits.find_problems,
}
"""What each format refuses; an entry of EXACT_FORMATS without one fails below."""

every_format = pytest.mark.parametrize("form", EXACT_FORMATS.values(), ids=list(EXACT_FORMATS))


def load(form: Format, graph: Graph, **options: object) -> Runner:
    return form.definition.runner(form.definition.emit(graph, **options))


def codes_different(form: Format, builder: GraphBuilder, *, images: int = 5) -> int:
    graph = builder.graph()
    verify(graph)
    assume(not FIND_PROBLEMS[form.name](graph))
    content = form.definition.emit(graph)
    parity = prove(graph, form, content, builder.images(images), batch_size=3)
    assert parity.codes_compared > 0
    return parity.codes_different


@every_format
@given(seed=SEEDS)
def test_codes_of_random_networks_are_the_references(form: Format, seed: int) -> None:
    assert codes_different(form, random_graph(seed)) == 0


@pytest.mark.thinned(3)
@every_format
@pytest.mark.parametrize("op", BODY_OPS)
@given(seed=SEEDS, power_of_two=st.booleans())
def test_codes_of_each_op_are_the_references(
    form: Format, op: str, seed: int, power_of_two: bool
) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in (*rng.integers(1, 9, 2), rng.integers(1, 20)))
    builder = GraphBuilder(rng, shape, power_of_two=power_of_two)
    builder.add_random(op)
    assert codes_different(form, builder) == 0


@pytest.mark.parametrize(
    "form",
    [*EXACT_FORMATS.values(), EXACT_FORMATS["tflite"].with_options(TFLiteOptions(batch=2))],
    ids=[*EXACT_FORMATS, "tflite, two at a time"],
)
def test_what_was_cut_is_read_on_in_batches(form: Format) -> None:
    builder = GraphBuilder(np.random.default_rng(0), (4, 5, 2), power_of_two=True)
    attrs = {"padding": ((-1, 0), (0, -2))}
    builder.add_node("pad", qparams=builder.qparams(), attrs=attrs)
    builder.add_linear("conv2d", (1, 1, 2, 3))
    assert codes_different(form, builder) == 0


@every_format
@given(seed=SEEDS, ratio=st.sampled_from([0.25, 1.0, 1.5, 4.0]))
def test_means_with_ties_are_the_references(form: Format, seed: int, ratio: float) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in (*rng.integers(1, 9, 2), 40))
    builder = GraphBuilder(rng, shape, power_of_two=True)
    builder.add_node("mean", qparams=builder.random_qparams(builder.qparams().scale * ratio))
    assert codes_different(form, builder, images=20) == 0


@every_format
def test_accumulators_beyond_24_bits_are_the_references(form: Format) -> None:
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
    assert prove(graph, form, form.definition.emit(graph), images).codes_different == 0


@every_format
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
def test_codes_saturate_at_both_ends_of_their_range(form: Format, qparams: QParams) -> None:
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
    stored = load(form, graph).run({"image": ramp})["codes"]
    wanted = np.clip(ramp + qparams.zero_point, qparams.qmin, qparams.qmax)
    np.testing.assert_array_equal(
        stored.astype(int) - form.definition.stored_shift(qparams), wanted
    )


@every_format
@pytest.mark.parametrize("value", [-128, -9, -8, 7, 8, 127])
def test_a_heads_widest_weight_survives(form: Format, value: int) -> None:
    builder = GraphBuilder(np.random.default_rng(1), (1, 1, 6), power_of_two=False)
    builder.add_node("reshape", qparams=builder.qparams())
    builder.add_head(3)
    graph, images = builder.graph(), builder.images(4)
    head = graph.nodes[-1]
    weight = replace(head.weight, values=np.full((6, 3), value, np.int8))
    graph = replace(graph, nodes=(*graph.nodes[:-1], replace(head, weight=weight)))
    assert prove(graph, form, form.definition.emit(graph), images).passed


@every_format
@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_a_heads_activation_is_applied(form: Format, activation: str) -> None:
    builder = GraphBuilder(np.random.default_rng(2), (1, 1, 50), power_of_two=True)
    builder.add_node("reshape", qparams=builder.qparams())
    builder.add_head(64, activation=activation)
    graph, images = builder.graph(), builder.images(8)
    answers = load(form, graph).run(images)[graph.outputs[0]]
    assert answers.min() == 0
    np.testing.assert_allclose(
        answers, run_reference(graph, images)[graph.outputs[0]], atol=FLOAT32_ROUNDING
    )


POOL = {"pool_size": (2, 2), "strides": (1, 1)}


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
        ("avg_pool", (5, 3, 6), {**POOL, "padding": ((1, 0), (0, 0))}, None, 0),
        ("edges", (5, 3, 6), {**POOL, "padding": "same"}, None, 0),
        ("transpose", (3, 5, 6), {"perm": (1, 0, 2)}, None, 0),
        ("relu", (3, 5, 6), {"max_value": 6.0}, None, 0),
        ("mean", (6,), {}, None, 0),
        ("dense", (5,), {}, weight(6, 5), 5),
        ("softmax", (5,), {}, None, 0),
    ]
    tensors, nodes = {"image": Tensor(name="image", shape=(9, 7, 3))}, []
    for name, shape, attrs, kernel, channels in steps:
        op = {"edges": "avg_pool"}.get(name, name)
        last = nodes[-1].output if nodes else "image"
        node = Node(
            name=name,
            op=op,
            inputs=("conv2d", last) if op == "add" else (last,),
            output=name,
            attrs=attrs,
            weight=kernel,
            bias=bias(channels) if channels else None,
        )
        nodes.append(node)
        tensors[name] = Tensor(name=name, shape=shape)
    graph = Graph(
        name="real", inputs=("image",), outputs=("softmax",), tensors=tensors, nodes=tuple(nodes)
    )
    verify(graph)
    return graph


@every_format
@pytest.mark.parametrize("weight_only", [False, True])
def test_float_layers_agree_with_the_reference(form: Format, weight_only: bool) -> None:
    graph = float_graph(weight_only=weight_only)
    images = {"image": np.random.default_rng(4).random((3, 9, 7, 3), np.float32)}
    names = [node.output for node in graph.nodes]
    answers = load(form, graph, outputs=names).run(images)
    wanted = run_reference(graph, images, keep=names)
    for name in names:
        np.testing.assert_allclose(answers[name], wanted[name], atol=FLOAT32_ROUNDING)


@every_format
@pytest.mark.parametrize("shape", [(5,), (3, 2, 5), (2, 3, 4, 5)])
def test_softmax_is_over_the_last_axis_of_however_many(
    form: Format, shape: tuple[int, ...]
) -> None:
    tensors = {name: Tensor(name=name, shape=shape) for name in ("logits", "shares")}
    node = Node(name="softmax", op="softmax", inputs=("logits",), output="shares")
    graph = Graph(
        name="head", inputs=("logits",), outputs=("shares",), tensors=tensors, nodes=(node,)
    )
    logits = {"logits": np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)}
    wanted = run_reference(graph, logits)["shares"]
    np.testing.assert_allclose(
        load(form, graph).run(logits)["shares"], wanted, atol=FLOAT32_ROUNDING
    )


@every_format
def test_channels_that_are_zero_or_saturate_are_the_references(form: Format) -> None:
    builder = GraphBuilder(np.random.default_rng(3), (5, 7, 6), power_of_two=True)
    builder.add_linear("conv2d", (3, 3, 6, 4), attrs={"padding": "same", "strides": (2, 1)})
    graph = builder.graph()
    conv = graph.nodes[-1]
    values = conv.weight.values.copy()
    values[..., 0], values[..., 1], values[..., 2] = 0, 127, -128
    weight = replace(conv.weight, values=values)
    bias = np.array([-1, 2**20, -(2**20), 0], np.int32)
    graph = replace(graph, nodes=(*graph.nodes[:-1], replace(conv, weight=weight, bias=bias)))
    parity = prove(graph, form, form.definition.emit(graph), builder.images(5))
    assert parity.codes_different == 0


@every_format
def test_problems_of_a_graph_are_told_at_once(form: Format) -> None:
    builder = GraphBuilder(np.random.default_rng(5), (4, 4, 2), power_of_two=True)
    builder.add_linear("conv2d", (1, 1, 2, 3))
    builder.add_node("max_pool", qparams=builder.qparams(), attrs={"pool_size": (1, 1)})
    graph = builder.graph()
    conv, pool = graph.nodes[1:]
    ideal = replace(conv.weight, scale=conv.weight.scale.astype(np.float64))
    codes = graph.tensors["quantize_0_out"]
    wide = replace(codes, qparams=QParams(scale=1.0, qmin=0, qmax=511, bits=9))
    nodes = (graph.nodes[0], replace(conv, weight=ideal, bias=None), replace(pool, op="maxpool"))
    broken = replace(graph, nodes=nodes, tensors={**graph.tensors, codes.name: wide})
    with pytest.raises(EmitError) as caught:
        form.definition.emit(broken)
    for part in (
        "codes 0 to 511 do not fit",
        "'conv2d_1': weight.scale is float64, the graph is ideal",
        "operator for 'maxpool'; close names: max_pool",
    ):
        assert part in str(caught.value)


@every_format
def test_inputs_and_outputs_have_the_graphs_names(form: Format) -> None:
    builder = GraphBuilder(np.random.default_rng(0), (4, 4, 2), power_of_two=True)
    builder.add_linear("conv2d", (3, 3, 2, 3))
    graph = builder.graph()
    wanted = ("quantize_0_out", "conv2d_1_out")
    runner = load(form, graph, outputs=wanted)
    assert runner.inputs == ("image",)
    stored = runner.run(builder.images(2))
    assert {name: array.shape for name, array in stored.items()} == {
        name: (2, *graph.tensors[name].shape) for name in wanted
    }


@every_format
def test_emitting_and_running_load_no_tensorflow(form: Format) -> None:
    assert "tensorflow" not in loaded_by(definition_of(form))


def test_a_tflite_file_is_run_without_onnx() -> None:
    loaded = loaded_by(definition_of(EXACT_FORMATS["tflite"]))
    assert "ai_edge_litert" in loaded
    assert loaded & {"onnx", "onnxruntime"} == set()


def definition_of(form: Format) -> str:
    return f"from keras_quant.proof.formats import FORMATS; FORMATS[{form.name!r}].definition"


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh Python has loaded after some code."""
    report = "; import sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code + report], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.slow
@every_format
@given(seed=SEEDS)
def test_stages_hand_over_the_codes_that_the_whole_graph_has(form: Format, seed: int) -> None:
    builder, graph = random_exits(seed)
    assume(not FIND_PROBLEMS[form.name](graph))
    images, values = builder.images(3), {}
    wanted = run_reference(graph, images, keep=[node.output for node in graph.nodes])
    for stage in cut(graph):
        content = form.definition.emit(stage.graph)
        given_codes = {n: {**images, **wanted}[n] for n in stage.graph.inputs}
        assert prove(stage.graph, form, content, given_codes).codes_different == 0
        runner = form.definition.runner(content)
        values |= runner.run({n: {**images, **values}[n] for n in stage.graph.inputs})
    for name, grid in ((n, graph.tensors[n].qparams) for n in values):
        if grid is not None:
            stored = values[name].astype(int) - form.definition.stored_shift(grid)
            np.testing.assert_array_equal(stored, wanted[name])
        else:
            # Of floats beyond 128 neighbours are further apart than FLOAT32_ROUNDING.
            apart = {"rtol": np.finfo(np.float32).eps, "atol": FLOAT32_ROUNDING}
            np.testing.assert_allclose(values[name], wanted[name], **apart)
