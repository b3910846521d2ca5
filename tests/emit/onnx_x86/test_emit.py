"""The ONNX emitter for x86: what ONNX Runtime makes of its files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keras_quant.emit.onnx_x86.add import kernel_is_exact
from keras_quant.emit.onnx_x86.emission import stored_range, stored_shift
from keras_quant.emit.onnx_x86.emit import emit_onnx_x86
from keras_quant.emit.onnx_x86.ops import average_scales
from keras_quant.emit.onnx_x86.weights import PRECISION_OPTION, saturating, stored_unsigned
from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.graph.reference import run_reference
from keras_quant.qparams import QParams, signed, unsigned
from keras_quant.runners.onnxruntime import OnnxRuntimeRunner, products_saturate
from keras_quant.runs.records import environment
from tests.emit.random_graphs import GraphBuilder

SAME = {"padding": "same"}


def integer_operators(runner: OnnxRuntimeRunner) -> dict[str, int]:
    """Operators of the optimized graph that compute with codes, without their domain."""
    types = {op.rpartition(":")[2]: count for op, count in runner.operators.items()}
    return {op: count for op, count in types.items() if op.startswith(("Q", "Nhwc"))}


def differing(graph: Graph, images: dict[str, np.ndarray], name: str) -> int:
    """How many codes of a tensor are not the reference's."""
    stored = OnnxRuntimeRunner(emit_onnx_x86(graph, outputs=[name])).run(images)[name]
    shift = stored_shift(graph.tensors[name].qparams)
    wanted = run_reference(graph, images, keep=[name])[name]
    return int(np.count_nonzero(stored.astype(int) - shift != wanted))


def residual(bits: int, *, weight: int = 7) -> GraphBuilder:
    """A convolution, a block with a shortcut, pooling, mean and head, as in a ResNet."""
    builder = GraphBuilder(np.random.default_rng(0), (8, 8, 8), power_of_two=True)
    for _ in range(2):
        builder.add_linear("conv2d", (3, 3, 8, 8), qparams=unsigned(bits, 0.5), attrs=SAME)
    shortcut = builder.last
    builder.add_linear("conv2d", (3, 3, 8, 8), qparams=unsigned(bits, 0.5), attrs=SAME)
    builder.add_node("add", qparams=unsigned(bits, 0.5), inputs=(shortcut, builder.last))
    pool = {"pool_size": (2, 2), "strides": (2, 2)}
    builder.add_node("max_pool", qparams=builder.qparams(), attrs=pool)
    builder.add_linear("depthwise_conv2d", (3, 3, 8), qparams=unsigned(bits, 0.5), attrs=SAME)
    builder.add_node("mean", qparams=unsigned(8, 2.0**-5))
    builder.add_head(10, largest=weight)
    return builder


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_everything_of_codes_is_fused(bits: int) -> None:
    runner = OnnxRuntimeRunner(emit_onnx_x86(residual(bits).graph()))
    clamped = bits < 8  # codes that are averaged by a convolution
    assert integer_operators(runner) == {
        "QuantizeLinear": 1,
        "QLinearConv": 4 + clamped,
        "QLinearAdd": 1,
        "NhwcMaxPool": 1,
        **({} if clamped else {"QLinearGlobalAveragePool": 1}),
        "QGemm": 1,
    }
    assert "DequantizeLinear" not in runner.operators


def with_margins(bits: int) -> GraphBuilder:
    """Windows that pad by margins as a network of PyTorch does, behind a first convolution."""
    builder = GraphBuilder(np.random.default_rng(0), (16, 16, 8), power_of_two=True)
    attrs = {"strides": (2, 2), "padding": ((1, 1), (1, 1))}
    builder.add_linear("conv2d", (3, 3, 8, 8), qparams=unsigned(bits, 0.5), attrs=SAME)
    builder.add_node("max_pool", qparams=builder.qparams(), attrs={"pool_size": (3, 3), **attrs})
    builder.add_linear("conv2d", (3, 3, 8, 8), qparams=unsigned(bits, 0.5), attrs=attrs)
    builder.add_linear("depthwise_conv2d", (3, 3, 8), qparams=unsigned(bits, 0.5), attrs=attrs)
    return builder


@pytest.mark.parametrize("bits", [4, 8])
def test_margins_cost_no_operator(bits: int) -> None:
    builder = with_margins(bits)
    graph = builder.graph()
    runner = OnnxRuntimeRunner(emit_onnx_x86(graph))
    assert integer_operators(runner) == {"QuantizeLinear": 1, "QLinearConv": 3, "NhwcMaxPool": 1}
    assert not {"Pad", "DequantizeLinear"} & runner.operators.keys()
    assert differing(graph, builder.images(20), graph.outputs[0]) == 0


def test_codes_are_clamped_behind_a_max_pool_where_nothing_else_reads_them() -> None:
    builder = GraphBuilder(np.random.default_rng(0), (8, 8, 4), power_of_two=True)
    builder.add_linear("conv2d", (3, 3, 4, 4), qparams=unsigned(4, 0.5), attrs=SAME)
    pool = {"pool_size": (2, 2), "strides": (2, 2)}
    builder.add_node("max_pool", qparams=builder.qparams(), attrs=pool)
    model = onnx.load_model_from_string(emit_onnx_x86(builder.graph()))
    ops = [node.op_type for node in model.graph.node]
    assert ops[ops.index("MaxPool") + 1] == "Clip"
    assert "Clip" not in ops[ops.index("Conv") : ops.index("MaxPool")]


def test_without_optimizations_the_file_means_the_same() -> None:
    builder = residual(4)
    graph, images = builder.graph(), builder.images(3)
    content = emit_onnx_x86(graph)
    fused, plain = (OnnxRuntimeRunner(content, optimize=flag) for flag in (True, False))
    assert integer_operators(plain).keys() == {"QuantizeLinear"}
    name = graph.outputs[0]
    np.testing.assert_allclose(plain.run(images)[name], fused.run(images)[name], atol=1e-4)


@pytest.mark.parametrize(
    ("qparams", "stored"),
    [
        (unsigned(4, 1.0), (0, 15, 0)),
        (unsigned(8, 1.0), (0, 255, 0)),
        (signed(8, 1.0, narrow_range=False), (0, 255, 128)),
        (signed(8, 1.0, narrow_range=True), (1, 255, 128)),
        (signed(4, 1.0, narrow_range=False), (0, 15, 8)),
        (signed(4, 1.0, narrow_range=True), (1, 15, 8)),
        (QParams(scale=1.0, zero_point=3, qmin=0, qmax=255, bits=8), (0, 255, 3)),
    ],
)
def test_stored_zero_points_are_even_where_there_is_room(
    qparams: QParams, stored: tuple[int, int, int]
) -> None:
    assert stored_range(qparams) == stored


def test_an_addition_that_the_kernel_rounds_otherwise_goes_through_floats() -> None:
    odd = QParams(scale=1.0, zero_point=3, qmin=0, qmax=255, bits=8)
    fine = unsigned(8, 0.5)
    coarse = unsigned(8, 1.0)
    assert not kernel_is_exact(fine, coarse, odd)
    assert kernel_is_exact(fine, coarse, unsigned(8, 1.0))
    tensors = {"image": None, "a": fine, "b": coarse, "sum": odd}
    nodes = (
        Node(name="a", op="quantize", inputs=("image",), output="a"),
        Node(name="b", op="quantize", inputs=("image",), output="b"),
        Node(name="join", op="add", inputs=("a", "b"), output="sum"),
    )
    graph = Graph(
        name="g",
        inputs=("image",),
        outputs=("sum",),
        tensors={name: Tensor(name=name, shape=(255,), qparams=q) for name, q in tensors.items()},
        nodes=nodes,
    )
    ramp = np.arange(255, dtype=np.float32)[np.newaxis] / 4
    assert differing(graph, {"image": ramp}, "sum") == 0


def test_floats_are_multiplied_by_the_inverse_scale_not_divided() -> None:
    scale = np.float32(0.1)
    ties = (np.arange(200, dtype=np.float32) + np.float32(0.5)) * scale
    values = np.concatenate([ties, np.nextafter(ties, np.float32(0)), np.nextafter(ties, ties * 2)])
    assert (np.rint(values / scale) != np.rint(values * (np.float32(1) / scale))).any()
    tensors = {
        "image": Tensor(name="image", shape=(600,)),
        "codes": Tensor(name="codes", shape=(600,), qparams=unsigned(8, 0.1)),
    }
    node = Node(name="codes", op="quantize", inputs=("image",), output="codes")
    graph = Graph(name="g", inputs=("image",), outputs=("codes",), tensors=tensors, nodes=(node,))
    assert differing(graph, {"image": values[np.newaxis]}, "codes") == 0


def assert_average_scales(s_in: float, ratio: float, count: int) -> None:
    source, output = unsigned(8, s_in), unsigned(8, s_in * ratio)
    given_, gives = map(np.float32, average_scales(source, output, count))
    share = np.float32(1) / np.float32(count)
    wanted = np.float32(source.scale) * share / np.float32(output.scale)
    assert given_ / (gives * np.float32(count)) == wanted


@given(
    s_in=st.floats(2**-20, 2**20, width=32),
    ratio=st.floats(0.01, 100),
    count=st.integers(1, 400),
)
@example(s_in=135.0, ratio=39.8125, count=103)
def test_the_average_kernel_gets_scales_that_give_the_references_multiplier(
    s_in: float, ratio: float, count: int
) -> None:
    assert_average_scales(s_in, ratio, count)


@pytest.mark.parametrize("count", [41, 49])  # float32(1 / 41) * 41 is below 1
def test_there_are_scales_for_averages_of_any_scale(count: int) -> None:
    for mantissa in range(2**23, 2**24, 12289):  # a prime
        assert_average_scales(mantissa * 2.0**-23, 1.0, count)


@pytest.mark.parametrize(
    "target",
    [
        unsigned(8, 0.91),
        unsigned(2, 1.48),
        QParams(scale=0.74, zero_point=3, qmin=0, qmax=255, bits=8),
    ],
)
def test_a_requantization_between_two_layers_is_not_merged_with_them(target: QParams) -> None:
    builder = GraphBuilder(np.random.default_rng(2), (4, 4, 3), power_of_two=False)
    builder.add_linear("conv2d", (1, 1, 3, 8), qparams=unsigned(8, 0.37))
    builder.add_node("requantize", qparams=target)
    builder.add_linear("conv2d", (1, 1, 8, 8), qparams=unsigned(8, 3.3))
    graph = builder.graph()
    assert differing(graph, builder.images(20), graph.outputs[0]) == 0
    runner = OnnxRuntimeRunner(emit_onnx_x86(graph))
    assert integer_operators(runner)["QLinearLeakyRelu"] == 1


def test_margins_that_a_pooling_would_refuse_stay_in_front_of_it() -> None:
    builder = GraphBuilder(np.random.default_rng(0), (4, 4, 2), power_of_two=True)
    builder.add_node("requantize", qparams=unsigned(8, 1.0))  # only zeros are taken over
    builder.add_node("pad", qparams=builder.qparams(), attrs={"padding": ((2, 0), (1, 0))})
    pool = {"pool_size": (1, 3), "strides": (2, 2)}
    builder.add_node("max_pool", qparams=builder.qparams(), attrs={**pool, **SAME})
    graph = builder.graph()
    assert differing(graph, builder.images(3), graph.outputs[0]) == 0


def with_weights(first: int, second: int) -> Graph:
    """A small convolution of 8-bit codes in front of one with many more products."""
    builder = GraphBuilder(np.random.default_rng(0), (8, 8, 1), power_of_two=True)
    builder.add_linear("conv2d", (1, 1, 1, 16), qparams=unsigned(8, 1.0))
    builder.add_linear("conv2d", (3, 3, 16, 16), qparams=unsigned(8, 1.0))
    graph = builder.graph()
    tensors = dict(graph.tensors)
    pixels = graph.nodes[0].output
    tensors[pixels] = replace(tensors[pixels], qparams=unsigned(8, 1.0))
    nodes = [graph.nodes[0]]
    for node, largest in zip(graph.nodes[1:], (first, second), strict=True):
        values = np.zeros_like(node.weight.values)
        values[:, :, :2] = largest
        nodes.append(replace(node, weight=replace(node.weight, values=values)))
    return replace(graph, nodes=tuple(nodes), tensors=tensors)


@pytest.mark.parametrize(
    ("weights", "at_risk"), [((64, 64), 0), ((64, 65), 1), ((127, 127), 1), ((-65, -65), 1)]
)
def test_two_weights_above_128_on_8_bit_codes_are_at_risk(
    weights: tuple[int, int], at_risk: int
) -> None:
    assert len(saturating(with_weights(*weights))) == at_risk  # the first has one weight only


def metadata(content: bytes) -> dict[str, str]:
    return {p.key: p.value for p in onnx.load_model_from_string(content).metadata_props}


def test_few_weights_at_risk_are_stored_where_they_cannot_saturate() -> None:
    builder = residual(4, weight=127)  # of its layers, only the head reads 8-bit codes
    graph = builder.graph()
    first = graph.nodes[0].output
    tensors = {**graph.tensors, first: replace(graph.tensors[first], qparams=unsigned(4, 0.5))}
    graph = replace(graph, tensors=tensors)
    assert stored_unsigned(graph) == {graph.nodes[-1].name}
    content = emit_onnx_x86(graph)
    assert metadata(content) == {}
    dtypes = [t.data_type for t in onnx.load_model_from_string(content).graph.initializer]
    assert onnx.TensorProto.INT8 in dtypes


def test_many_weights_at_risk_are_told_in_the_metadata() -> None:
    graph = with_weights(127, 127)
    assert stored_unsigned(graph) == frozenset()
    assert metadata(emit_onnx_x86(graph)) == {PRECISION_OPTION: "1"}


@pytest.mark.parametrize("saturate", [False, True])
def test_the_runner_sets_the_option_where_products_saturate(
    saturate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keras_quant.runners.onnxruntime.products_saturate", lambda: saturate)
    seen = []

    class Noting(onnxruntime.SessionOptions):
        def add_session_config_entry(self, key: str, value: str) -> None:
            seen.append((key, value))
            super().add_session_config_entry(key, value)

    monkeypatch.setattr(onnxruntime, "SessionOptions", Noting)
    OnnxRuntimeRunner(emit_onnx_x86(with_weights(127, 127)))
    assert seen == ([(PRECISION_OPTION, "1")] if saturate else [])


@pytest.mark.parametrize("sum_found", [32767, 64770])
def test_products_saturate_where_their_sum_is_not_what_it_should_be(
    sum_found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Session:
        def __init__(self, *given: object, **options: object) -> None: ...

        def run(self, *given: object) -> list[np.ndarray]:
            return [np.array([[sum_found]], np.int32)]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    assert products_saturate.__wrapped__() == (sum_found == 32767)


def test_products_do_not_saturate_on_processors_with_vnni() -> None:
    if {"avx_vnni", "avx512_vnni"} & set(environment()["cpu_instructions"].split(", ")):
        assert not products_saturate.__wrapped__()


def float_between_codes(op: str) -> tuple[Graph, dict[str, np.ndarray]]:
    """image -> codes -> floats by a layer kept in float, or by integer weights -> codes."""
    rng = np.random.default_rng(0)
    fine, coarse = unsigned(8, 2.0**-6), unsigned(4, 0.5)
    tensors = {"image": None, "codes": fine, "real": None, "float": None, "out": coarse}
    if op == "dequantize":
        weight = Weight(values=rng.normal(0, 0.5, (3, 3, 2, 4)).astype(np.float32))
        source = "real"
    else:
        values = rng.integers(-100, 100, (3, 3, 2, 4)).astype(np.int8)
        weight = Weight(values=values, scale=rng.uniform(0.003, 0.006, 4), bits=8)
        source = "codes"
    conv = Node(
        name="conv",
        op="conv2d",
        inputs=(source,),
        output="float",
        attrs={**SAME, "activation": "relu"},
        weight=weight,
        bias=rng.normal(size=4).astype(np.float32),
    )
    nodes = (
        Node(name="codes", op="quantize", inputs=("image",), output="codes"),
        Node(name="real", op="dequantize", inputs=("codes",), output="real"),
        conv,
        Node(name="out", op="quantize", inputs=("float",), output="out"),
    )
    channels = {"float": 4, "out": 4}
    graph = Graph(
        name="mixed",
        inputs=("image",),
        outputs=("out",),
        tensors={
            name: Tensor(name=name, shape=(9, 9, channels.get(name, 2)), qparams=qparams)
            for name, qparams in tensors.items()
        },
        nodes=nodes,
    )
    return graph, {"image": rng.random((20, 9, 9, 2), np.float32) * 4}


@pytest.mark.parametrize("op", ["dequantize", "conv2d"])
def test_a_layer_that_gives_floats_is_not_quantized_by_the_runtime(op: str) -> None:
    graph, images = float_between_codes(op)
    assert differing(graph, images, "out") == 0
