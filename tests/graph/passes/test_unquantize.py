"""Graphs of codes as graphs of floats: what is kept of the grids, and what tables become."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.graph.passes.functions import function_of
from keras_quant.graph.passes.reach import EVERYTHING, reach
from keras_quant.graph.passes.realize import realize
from keras_quant.graph.passes.unquantize import Clamp, unquantize
from keras_quant.graph.pointwise import POINTWISE
from keras_quant.graph.reference import run_reference
from keras_quant.graph.verify import verify
from keras_quant.qparams import QParams, dequantize, signed, unsigned
from tests.emit.lookup_graphs import graph_of, images_of, table_of
from tests.emit.random_graphs import BODY_OPS, GraphBuilder
from tests.graph.conftest import graph

__all__ = ["graph"]

SEEDS = st.integers(0, 2**32 - 1)
FLOAT32_ROUNDING = 1e-5
# Their float32 multipliers are no powers of two, so that halves are not always halves.
AVERAGES = ("avg_pool",)
BYTE, FINE = signed(8, 2.0**-5, narrow_range=False), signed(8, 2.0**-6, narrow_range=False)


def converted(graph: Graph, clamp: Clamp) -> Graph:
    floats = unquantize(graph, lambda node, qparams: clamp)
    verify(floats)
    return floats


@pytest.mark.parametrize("op", [op for op in BODY_OPS if op not in AVERAGES])
@given(seed=SEEDS)
def test_rounded_values_are_those_of_the_codes(op: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 6, 3))
    builder = GraphBuilder(rng, shape, power_of_two=True)
    builder.add_random(op)
    given_, images = builder.graph(), builder.images(3)
    qparams = given_.tensors[given_.outputs[0]].qparams
    codes = run_reference(given_, images)[given_.outputs[0]]
    floats = converted(given_, Clamp.ROUND)
    found = run_reference(floats, images)[floats.outputs[0]]
    np.testing.assert_array_equal(found, dequantize(codes, qparams))


@pytest.mark.parametrize("op", BODY_OPS)
@given(seed=SEEDS)
@example(seed=845)  # of add: a sum beside a convolution that gives nothing but 0
def test_nothing_passes_the_ends_of_the_range_of_codes(op: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 6, 3))
    builder = GraphBuilder(rng, shape, power_of_two=False)
    builder.add_random(op)
    floats, images = converted(builder.graph(), Clamp.CUT), builder.images(3)
    names = [name for name in builder.graph().tensors if name in floats.tensors]
    for name, values in run_reference(floats, images, keep=names).items():
        qparams = builder.graph().tensors[name].qparams
        if qparams is not None and floats.tensors[name].qparams is None:
            low, high = dequantize(np.array([qparams.qmin, qparams.qmax]), qparams)
            slack = FLOAT32_ROUNDING * (high - low)
            assert low - slack <= values.min() and values.max() <= high + slack, name


def test_only_ends_that_values_can_pass_are_cut_off(graph: Graph) -> None:
    wide = replace(graph.tensors["sums"], qparams=unsigned(4, 1.0))  # 3.75 + 3.75 is less than 15
    roomy = replace(graph, tensors={**graph.tensors, "sums": wide})
    floats = converted(realize(roomy).graph, Clamp.CUT)
    ends = {node.output: dict(node.attrs) for node in floats.nodes if node.op == "clip"}
    assert ends == {
        "pixels": {"minimum": 0.0, "maximum": 255 * (1 / 255)},
        "features": {"minimum": 0.0, "maximum": 3.75},
        "means": {"minimum": 0.0, "maximum": 3.75},
    }


def test_a_rectified_range_loses_its_lower_end_alone(graph: Graph) -> None:
    floats = converted(realize(graph).graph, Clamp.RECTIFY)
    ends = {node.output: dict(node.attrs) for node in floats.nodes if node.op == "clip"}
    assert ends == {"pixels": {"minimum": 0.0}, "features": {"minimum": 0.0}}


def test_an_open_graph_is_the_bare_network(graph: Graph) -> None:
    floats = converted(realize(graph).graph, Clamp.OPEN)
    assert [node.op for node in floats.nodes] == ["conv2d", "add", "mean", "dense"]
    assert {tensor.qparams for tensor in floats.tensors.values()} == {None}


def test_an_ideal_graph_has_the_same_floats(graph: Graph) -> None:
    image = {"image": np.random.default_rng(0).uniform(size=(4, 6, 6, 2)).astype(np.float32)}
    ideal, realized = (
        run_reference(converted(g, Clamp.ROUND), image)["logits"]
        for g in (graph, realize(graph).graph)
    )
    np.testing.assert_allclose(ideal, realized, rtol=FLOAT32_ROUNDING)


@pytest.mark.parametrize("function", POINTWISE)
@pytest.mark.parametrize("target", [FINE, unsigned(4, 2.0**-4), unsigned(2, 0.5)])
def test_a_table_becomes_a_function_within_half_a_step(function: str, target: QParams) -> None:
    table = table_of(POINTWISE[function].formula, BYTE, target)
    codes = graph_of(table, BYTE, target)
    assert function_of(codes, codes.nodes[1]) is not None
    floats, images = converted(codes, Clamp.CUT), images_of(codes)
    assert [node.op for node in floats.nodes if node.op != "clip"] == ["pointwise"]
    found = run_reference(floats, images)[floats.outputs[0]]
    wanted = dequantize(run_reference(codes, images)["out"], target)
    assert np.abs(found - wanted).max() <= 0.51 * target.scale


@pytest.mark.parametrize("function", POINTWISE)
def test_a_fine_table_becomes_its_own_function(function: str) -> None:
    table = POINTWISE[function].formula(dequantize(np.arange(-128, 128), BYTE)).astype(np.float32)
    codes = graph_of(table, BYTE, None)
    assert function_of(codes, codes.nodes[1]) == function


@pytest.mark.parametrize("target", [FINE, None])
def test_a_table_without_a_function_stays_one(target: QParams | None) -> None:
    rows = np.random.default_rng(0).integers(-100, 100, (2, 256), dtype=np.int32)
    table = rows if target else rows.astype(np.float32)
    shape = (16, 16, 2)
    codes = graph_of(table, BYTE, target, shape)
    image = np.random.default_rng(1).uniform(-4, 4, (2, *shape)).astype(np.float32)
    wanted = run_reference(codes, {"image": image})["out"]
    floats = converted(codes, Clamp.OPEN)
    assert "lookup" in [node.op for node in floats.nodes]
    found = run_reference(floats, {"image": image})[floats.outputs[0]]
    np.testing.assert_array_equal(found, wanted if target is None else dequantize(wanted, target))


@pytest.mark.parametrize("function", POINTWISE)
def test_functions_stay_within_their_reach(function: str) -> None:
    node = Node(name="f", op="pointwise", inputs=("x",), output="y", attrs={"function": function})
    reals = np.linspace(-30, 30, 60_001)
    values = POINTWISE[function].formula(reals)
    for low, high in (EVERYTHING, (-30.0, 30.0)):
        least, greatest = reach(node, [(low, high)])
        assert least <= values.min() < least + 1e-3
        assert values.max() <= greatest and greatest in (high, *POINTWISE[function].bounds)
    for high in (-0.5, 0.0, 0.25, 0.995):  # what is read ends below where the function does
        least, greatest = reach(node, [(-30.0, high)])
        part = values[reals <= high]
        assert least <= part.min() and part.max() <= greatest


@given(seed=SEEDS)
def test_sums_stay_within_their_reach_and_touch_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(4, 3)).astype(np.float32)
    bias = rng.normal(size=3).astype(np.float32)
    weight = Weight(values=kernel)
    node = Node(name="d", op="dense", inputs=("x",), output="y", weight=weight, bias=bias)
    low, high = -rng.uniform(0, 2), rng.uniform(0, 2)
    corners = np.array(np.meshgrid(*[[low, high]] * 4)).reshape(4, -1).T
    sums = corners @ kernel.astype(np.float64) + bias
    np.testing.assert_allclose(reach(node, [(low, high)]), (sums.min(), sums.max()))
    assert reach(node, [EVERYTHING]) == EVERYTHING
    rectified = replace(node, attrs={"activation": "relu"})
    wanted = np.maximum((sums.min(), sums.max()), 0)
    np.testing.assert_allclose(reach(rectified, [(low, high)]), wanted)


@pytest.mark.parametrize(
    ("op", "sources", "wanted"),
    [
        ("add", [(-1.0, 2.0), (0.0, 5.0)], (-1.0, 7.0)),
        ("multiply", [(-1.0, 2.0), (-3.0, 5.0)], (-6.0, 10.0)),
        ("mean", [(1.0, 2.0)], (0.0, 2.0)),
        ("concat", [(-1.0, 2.0), (0.0, 5.0)], (-1.0, 5.0)),
        ("softmax", [(0.0, 1.0)], EVERYTHING),
    ],
)
def test_reach_of_other_operations(op, sources, wanted) -> None:
    node = Node(name="n", op=op, inputs=("x",) * len(sources), output="y")
    assert reach(node, sources) == wanted


def test_outputs_have_the_names_of_what_was_converted() -> None:
    tensors = [
        Tensor(name="image", shape=(4,)),
        Tensor(name="codes", shape=(4,), qparams=unsigned(4, 0.5)),
        Tensor(name="reals", shape=(4,)),
    ]
    nodes = (
        Node(name="q", op="quantize", inputs=("image",), output="codes"),
        Node(name="dq", op="dequantize", inputs=("codes",), output="reals"),
    )
    by_name = {tensor.name: tensor for tensor in tensors}
    given_ = Graph(name="g", inputs=("image",), outputs=("reals",), tensors=by_name, nodes=nodes)
    outputs = {clamp: converted(given_, clamp).outputs for clamp in Clamp}
    assert outputs == {
        Clamp.ROUND: ("codes/float",),
        Clamp.CUT: ("codes",),
        Clamp.RECTIFY: ("codes",),
        Clamp.OPEN: ("image/output_0",),
    }


def table_of_codes(source: QParams, target: QParams, entries: np.ndarray) -> tuple[Graph, Node]:
    tensors = {
        "image": Tensor(name="image", shape=(4,)),
        "x": Tensor(name="x", shape=(4,), qparams=source),
        "y": Tensor(name="y", shape=(4,), qparams=target),
    }
    nodes = (
        Node(name="quantize", op="quantize", inputs=("image",), output="x"),
        Node(name="table", op="lookup", inputs=("x",), output="y", table=entries),
    )
    graph = Graph(name="g", inputs=("image",), outputs=("y",), tensors=tensors, nodes=nodes)
    return graph, nodes[1]


def test_a_table_half_a_step_from_a_function_that_is_flat_is_not_that_function() -> None:
    below_1 = unsigned(6, 2.0**-6)  # where is_on is 1: half a step of 2
    codes = np.arange(64, dtype=np.int32) % 2
    assert function_of(*table_of_codes(below_1, unsigned(1, 2.0), codes)) is None
    below_2 = unsigned(6, 2.0**-5)
    codes = np.where(np.arange(64) < 32, 255, 0).astype(np.int32)
    assert function_of(*table_of_codes(below_2, unsigned(8, 1 / 255), codes)) == "is_on"
    assert function_of(*table_of_codes(below_2, unsigned(8, 1 / 255), 255 - codes)) is None
