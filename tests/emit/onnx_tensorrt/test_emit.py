"""The emitter for TensorRT: what its files compute, and that they keep TensorRT's rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from keras_quant.emit.onnx_tensorrt.bias import roomy_line
from keras_quant.emit.onnx_tensorrt.emission import shift_codes, stored_shift
from keras_quant.emit.onnx_tensorrt.emit import emit_onnx_tensorrt
from keras_quant.emit.onnx_tensorrt.limits import (
    NARROW_SHARE,
    WIDE_SHARE,
    add_is_exact,
    codes_tolerance,
    find_problems,
)
from keras_quant.emit.onnx_tensorrt.ops import OP_EMITTERS
from keras_quant.errors import EmitError
from keras_quant.graph.exact import accumulator_range
from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.graph.passes.stages import cut
from keras_quant.graph.passes.unquantize import Clamp, unquantize
from keras_quant.graph.reference import run_reference
from keras_quant.graph.rounding import reals_of
from keras_quant.qparams import QParams, signed, unsigned
from keras_quant.targets.check import check_tensorrt
from keras_quant.targets.report import broken
from keras_quant.targets.tensorrt import VERSIONS, TensorRTOptions
from tests.emit.random_graphs import BODY_OPS, GraphBuilder, random_exits, random_graph

SEEDS = st.integers(0, 2**32 - 1)
ONE_CODE = 1
LOGIT_TOLERANCE = 2e-5


def run_onnx(content: bytes, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the file says, operator by operator."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(content, options)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def differences(graph: Graph, images: dict[str, np.ndarray], **options: object) -> np.ndarray:
    """How far each code of each tensor is from the reference's."""
    taps = [tensor.name for tensor in graph.tensors.values() if tensor.qparams]
    content = emit_onnx_tensorrt(graph, outputs=taps, options=TensorRTOptions(**options))
    onnx.checker.check_model(content)
    stored, wanted = run_onnx(content, images), run_reference(graph, images, keep=taps)
    return np.concatenate(
        [
            (
                stored[name].astype(int) - stored_shift(graph.tensors[name].qparams) - wanted[name]
            ).ravel()
            for name in taps
        ]
    )


@given(seed=SEEDS, version=st.sampled_from(["8.5", "10.3"]))
def test_codes_of_power_of_two_networks_are_the_references(seed: int, version: str) -> None:
    builder = random_graph(seed)
    nodes = [node for node in builder.graph().nodes if node.weight and node.output != builder.last]
    graph = replace(builder.graph(), outputs=(builder.last,))
    assume(not find_problems(graph, OP_EMITTERS))
    assume(all(np.all(np.frexp(node.weight.scale)[0] == 0.5) for node in nodes))
    assert not differences(graph, builder.images(4), version=version).any()


@pytest.mark.thinned(3)
@pytest.mark.parametrize("op", BODY_OPS)
@given(seed=SEEDS, power_of_two=st.booleans())
def test_codes_of_each_op_are_the_references(op: str, seed: int, power_of_two: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in (*rng.integers(1, 9, 2), rng.integers(1, 20)))
    builder = GraphBuilder(rng, shape, power_of_two=power_of_two)
    builder.add_random(op)
    graph = builder.graph()
    assume(not find_problems(graph, OP_EMITTERS))
    found = differences(graph, builder.images(4))
    if codes_tolerance(graph, options=TensorRTOptions()) == 0 or power_of_two:
        assert not found.any()
    else:  # float32 sums of shifted codes come near ties now and then
        assert np.abs(found).max() <= ONE_CODE
        assert np.count_nonzero(found) <= 1 + len(found) // 1000


@pytest.mark.thinned(3)
@pytest.mark.parametrize("op", BODY_OPS)
@given(seed=SEEDS)
def test_files_of_floats_round_to_the_codes_of_their_graph(op: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in (*rng.integers(1, 9, 2), rng.integers(1, 20)))
    builder = GraphBuilder(rng, shape, power_of_two=True)
    builder.add_random(op)
    graph = unquantize(builder.graph(), lambda node, qparams: Clamp.ROUND)
    assert not differences(graph, builder.images(4), board="nano").any()
    content = emit_onnx_tensorrt(graph, options=TensorRTOptions(board="nano"))
    operators = {node.op_type for node in onnx.load_model_from_string(content).graph.node}
    assert "Round" in operators
    assert not operators & {"QuantizeLinear", "DequantizeLinear"}


@pytest.mark.parametrize(
    ("ends", "operator"),
    [
        ({"minimum": 0.0}, "Relu"),
        ({"minimum": -1.0}, "Clip"),
        ({"maximum": 1.0}, "Clip"),
        ({"minimum": 0.0, "maximum": 1.0}, "Clip"),
    ],
)
def test_ends_are_cut_off_by_one_operator(ends: dict[str, float], operator: str) -> None:
    tensors = {name: Tensor(name=name, shape=(5,)) for name in ("image", "out")}
    node = Node(name="clip", op="clip", inputs=("image",), output="out", attrs=ends)
    graph = Graph(name="g", inputs=("image",), outputs=("out",), tensors=tensors, nodes=(node,))
    content = emit_onnx_tensorrt(graph)
    operators = [item.op_type for item in onnx.load_model_from_string(content).graph.node]
    assert operators == [operator, "Identity"]
    image = {"image": np.array([[-2.0, -0.5, 0.0, 0.5, 2.0]], np.float32)}
    np.testing.assert_array_equal(
        run_onnx(content, image)["out"], run_reference(graph, image)["out"]
    )


PIXELS = unsigned(8, 1 / 255)
# Float32 puts one sum of two codes on the other side of a tie, however it is computed.
NEAR_TIES = [signed(8, scale, narrow_range=False) for scale in (0.026554, 0.018184, 0.020992)]


def adding(first: QParams, second: QParams, output: QParams) -> Graph:
    """The sum of two images, in which all pairs of 256 codes meet."""
    grids = {"a": first, "b": second, "sum": output}
    tensors = [Tensor(name=f"{name}_image", shape=(256, 256, 1)) for name in "ab"]
    tensors += [Tensor(name=n, shape=(256, 256, 1), qparams=q) for n, q in grids.items()]
    nodes = [
        Node(name=f"quantize_{n}", op="quantize", inputs=(f"{n}_image",), output=n) for n in "ab"
    ]
    return Graph(
        name="g",
        inputs=("a_image", "b_image"),
        outputs=("sum",),
        tensors={tensor.name: tensor for tensor in tensors},
        nodes=(*nodes, Node(name="add", op="add", inputs=("a", "b"), output="sum")),
    )


def all_pairs(first: QParams, second: QParams) -> dict[str, np.ndarray]:
    a, b = np.meshgrid(reals_of(first), reals_of(second), indexing="ij")
    return {"a_image": a[None, ..., None], "b_image": b[None, ..., None]}


@pytest.mark.parametrize("exponent", [-7, -3, 0])
def test_raw_pixels_are_added_exactly_whatever_they_are_added_to(exponent: int) -> None:
    grids = [unsigned(8, 2.0**exponent), unsigned(8, 2.0**-2)]
    graph = adding(PIXELS, *grids)
    assert codes_tolerance(graph, options=TensorRTOptions()) == 0
    assert not differences(graph, all_pairs(PIXELS, grids[0])).any()


def test_an_add_that_shifts_spoil_is_written_without_them() -> None:
    grids = PIXELS, unsigned(8, 2.0**-7), unsigned(8, 2.0**-6)
    assert not add_is_exact(*grids)
    assert codes_tolerance(adding(*grids), options=TensorRTOptions()) == 0
    assert not differences(adding(*grids), all_pairs(*grids[:2])).any()


def test_an_add_that_float32_rounds_otherwise_is_declared_inexact() -> None:
    graph = adding(*NEAR_TIES)
    found = differences(graph, all_pairs(*NEAR_TIES[:2]))
    assert np.abs(found).max() == ONE_CODE
    allowed = codes_tolerance(graph, options=TensorRTOptions())
    assert np.count_nonzero(found) <= allowed * len(found)


def test_adds_on_ties_are_refused() -> None:
    halves = signed(8, 0.3, narrow_range=False)
    graph = adding(halves, halves, signed(8, 0.6, narrow_range=False))
    with pytest.raises(EmitError, match="'add': adds codes of scale .* powers of two"):
        emit_onnx_tensorrt(graph)


def test_narrow_codes_have_a_narrow_tolerance_and_floats_none() -> None:
    builder = GraphBuilder(np.random.default_rng(0), (3, 3, 2), power_of_two=True)
    shares = {}
    for bits in (4, 8):
        builder.add_linear("conv2d", (1, 1, 2, 2), qparams=unsigned(bits, 0.5))
        shares[bits] = codes_tolerance(builder.graph(), options=TensorRTOptions())
    assert shares == {4: NARROW_SHARE, 8: WIDE_SHARE}
    rounded = unquantize(builder.graph(), lambda node, qparams: Clamp.ROUND)
    opened = unquantize(builder.graph(), lambda node, qparams: Clamp.OPEN)
    tolerances = [codes_tolerance(g, options=TensorRTOptions()) for g in (rounded, opened)]
    assert tolerances == [WIDE_SHARE, 0.0]


@given(seed=SEEDS, ratio=st.sampled_from([0.25, 1.0, 1.5, 2.0]))
def test_means_with_ties_are_the_references(seed: int, ratio: float) -> None:
    rng = np.random.default_rng(seed)
    shape = (*(int(n) for n in rng.integers(1, 9, 2)), 40)
    builder = GraphBuilder(rng, shape, power_of_two=True)
    builder.add_node("mean", qparams=builder.random_qparams(builder.qparams().scale * ratio))
    assert not differences(builder.graph(), builder.images(10)).any()


@given(seed=SEEDS)
def test_a_roomy_line_gives_the_codes_of_every_accumulator(seed: int) -> None:
    rng = np.random.default_rng(seed)
    builder = GraphBuilder(rng, (1, 1, 6), power_of_two=bool(rng.integers(2)))
    builder.add_random("conv2d")
    node, tensors = builder.graph().nodes[-1], builder.graph().tensors
    source, output = tensors[node.inputs[0]].qparams, tensors[node.output].qparams
    scale, bias = roomy_line(node, source, output)
    low, high = accumulator_range(node.weight.values, source)
    multiplier = np.float32(source.scale) * node.weight.scale / np.float32(output.scale)
    stored = np.zeros(len(bias), int) if node.bias is None else node.bias.astype(int)
    for channel in range(len(bias)):
        n = np.unique(np.linspace(low[channel], high[channel], 5000).astype(int))
        wanted = np.rint((n + stored[channel]).astype(np.float32) * multiplier[channel])
        unit = source.scale * float(scale[channel])
        given_ = np.rint((n * unit + bias[channel]) / output.scale)
        ends = output.qmin - output.zero_point, output.qmax - output.zero_point
        np.testing.assert_array_equal(np.clip(given_, *ends), np.clip(wanted, *ends))


@pytest.mark.parametrize(
    ("qparams", "shift", "codes"),
    [
        (unsigned(4, 1.0), 0, 0),
        (unsigned(7, 1.0), 0, 0),
        (unsigned(8, 1.0), -128, 128),
        (signed(8, 1.0, narrow_range=False), 0, 0),
        (QParams(scale=1.0, qmin=0, qmax=192, bits=8), -66, 66),  # a ReLU6
        (QParams(scale=1.0, zero_point=128, qmin=0, qmax=255, bits=8), -128, 0),
        (QParams(scale=1.0, zero_point=3, qmin=0, qmax=255, bits=8), -128, 125),
    ],
)
def test_codes_saturate_at_both_ends_and_are_stored_with_a_shift(
    qparams: QParams, shift: int, codes: int
) -> None:
    assert (stored_shift(qparams), shift_codes(qparams)) == (shift, codes)
    node = Node(name="quantize", op="quantize", inputs=("image",), output="codes")
    tensors = {
        "image": Tensor(name="image", shape=(600,)),
        "codes": Tensor(name="codes", shape=(600,), qparams=qparams),
    }
    graph = Graph(
        name="ramp", inputs=("image",), outputs=("codes",), tensors=tensors, nodes=(node,)
    )
    ramp = np.arange(-300, 300, dtype=np.float32)[np.newaxis]
    stored = run_onnx(emit_onnx_tensorrt(graph), {"image": ramp})["codes"]
    wanted = np.clip(ramp + qparams.zero_point, qparams.qmin, qparams.qmax)
    np.testing.assert_array_equal(stored.astype(int) - shift, wanted)


def test_logits_are_the_references() -> None:
    builder = GraphBuilder(np.random.default_rng(3), (5, 4, 3), power_of_two=True)
    builder.add_node("reshape", qparams=builder.qparams())
    builder.add_head(7, activation="relu6")
    graph, images = builder.graph(), builder.images(5)
    logits = run_onnx(emit_onnx_tensorrt(graph), images)[graph.outputs[0]]
    wanted = run_reference(graph, images)[graph.outputs[0]]
    np.testing.assert_allclose(logits, wanted, atol=LOGIT_TOLERANCE)


def test_floats_pass_through_unchanged() -> None:
    rng = np.random.default_rng(0)
    shape = (4, 4, 4)  # a cube, in which no axis can be told by its size
    tensors = {name: Tensor(name=name, shape=shape) for name in ("image", "conv", "relu", "prob")}
    weight = Weight(values=rng.normal(size=(3, 3, 4, 4)).astype(np.float32))
    nodes = (
        Node(
            name="conv",
            op="conv2d",
            inputs=("image",),
            output="conv",
            attrs={"padding": "same"},
            weight=weight,
            bias=rng.normal(size=4).astype(np.float32),
        ),
        Node(name="relu", op="relu", inputs=("conv",), output="relu", attrs={"max_value": 6.0}),
        Node(name="prob", op="softmax", inputs=("relu",), output="prob"),
    )
    graph = Graph(name="f", inputs=("image",), outputs=("prob",), tensors=tensors, nodes=nodes)
    images = {"image": rng.normal(size=(2, *shape)).astype(np.float32)}
    prob = run_onnx(emit_onnx_tensorrt(graph), images)["prob"]
    np.testing.assert_allclose(prob, run_reference(graph, images)["prob"], atol=LOGIT_TOLERANCE)


@given(seed=SEEDS, version=st.sampled_from(list(VERSIONS)))
def test_files_break_no_rule_of_any_version(seed: int, version: str) -> None:
    builder = random_graph(seed)
    assume(not find_problems(builder.graph(), OP_EMITTERS))
    options = TensorRTOptions(version=version)
    content = emit_onnx_tensorrt(builder.graph(), options=options)
    assert broken(check_tensorrt(onnx.ModelProto.FromString(content), options)) == ()


@pytest.mark.parametrize(
    ("version", "kind"), [("8.5", TensorProto.FLOAT), ("11", TensorProto.INT8)]
)
def test_weights_are_floats_before_version_10(version: str, kind: int) -> None:
    builder = GraphBuilder(np.random.default_rng(0), (4, 4, 2), power_of_two=True)
    builder.add_random("conv2d")
    content = emit_onnx_tensorrt(builder.graph(), options=TensorRTOptions(version=version))
    graph = onnx.ModelProto.FromString(content).graph
    (weight,) = [item for item in graph.initializer if item.name.endswith("/weight")]
    assert weight.data_type == kind


def test_scales_are_scalars_and_zero_points_are_given() -> None:
    builder = GraphBuilder(np.random.default_rng(0), (4, 4, 2), power_of_two=True)
    builder.add_random("max_pool")
    graph = onnx.ModelProto.FromString(emit_onnx_tensorrt(builder.graph())).graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    quantizing = [node for node in graph.node if node.op_type.endswith("uantizeLinear")]
    assert len(quantizing) >= 3
    for node in quantizing:
        assert constants[node.input[1]].shape == ()
        assert constants[node.input[2]] == np.int8(0)


def test_everything_that_cannot_be_written_is_named_at_once() -> None:
    wide = QParams(scale=0.3, qmin=0, qmax=300, bits=9)
    tensors = {
        "image": Tensor(name="image", shape=(2,)),
        "a": Tensor(name="a", shape=(2,), qparams=unsigned(4, 0.3)),
        "b": Tensor(name="b", shape=(2,), qparams=wide),
        "c": Tensor(name="c", shape=(2,), qparams=unsigned(4, 0.6)),
        "d": Tensor(name="d", shape=(2,), qparams=unsigned(4, 0.6)),
    }
    nodes = (
        Node(name="qa", op="quantize", inputs=("image",), output="a"),
        Node(name="qb", op="quantize", inputs=("image",), output="b"),
        Node(name="sum", op="add", inputs=("a", "a"), output="c"),
        Node(name="odd", op="soft_max", inputs=("c",), output="d"),
    )
    graph = Graph(name="bad", inputs=("image",), outputs=("d",), tensors=tensors, nodes=nodes)
    with pytest.raises(EmitError, match="cannot be written for TensorRT") as error:
        emit_onnx_tensorrt(graph)
    assert "tensor 'b': codes 0 to 300 do not fit int8" in str(error.value)
    assert "no ONNX operator for 'soft_max'; close names: softmax" in str(error.value)


def test_an_ideal_graph_is_refused(graph: Graph) -> None:
    with pytest.raises(EmitError, match="layer 'conv': weight.scale is float64"):
        emit_onnx_tensorrt(graph)


def test_inputs_of_codes_are_refused_by_name_and_stages_of_floats_are_not() -> None:
    builder, graph = random_exits(5)
    (_, coded), (_, real) = cut(graph)[:2], cut(graph, codes=False)[:2]
    name = coded.graph.inputs[0]
    with pytest.raises(EmitError, match=f"input '{name}' has codes; files for TensorRT take"):
        emit_onnx_tensorrt(coded.graph)
    emit_onnx_tensorrt(real.graph)
