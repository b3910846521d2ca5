"""Tables and products of codes in TFLite files: every entry and every product comes out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import assume, given
from hypothesis import strategies as st

from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.emit.tflite.limits import find_problems
from keras_quant.emit.tflite.lookup import _FLOAT_FUNCTIONS, _INT8_FUNCTIONS
from keras_quant.emit.tflite.rescale import rescale
from keras_quant.errors import EmitError
from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.graph.pointwise import POINTWISE
from keras_quant.graph.rounding import reals_of
from keras_quant.graph.verify import verify
from keras_quant.proof.distance import LOGIT_TOLERANCE
from keras_quant.proof.formats import FORMATS
from keras_quant.proof.parity import Parity, prove
from keras_quant.qparams import QParams, signed, unsigned
from tests.emit.lookup_graphs import (
    graph_of,
    grids,
    images_of,
    powers_of_two,
    product,
    table_of,
)
from tests.emit.random_graphs import GraphBuilder

GATHERED = "GATHER"
WHOLE = signed(8, 2.0**-4, narrow_range=False)
FINE = unsigned(8, 2.0**-8)
SIGNED_4 = signed(4, 0.5, narrow_range=True)


def operators(graph: Graph) -> list[str]:
    """Names of the file's operators in front of any delegate."""
    interpreter = Interpreter(model_content=emit_tflite(graph))
    return [op["op_name"] for op in interpreter._get_ops_details() if op["op_name"] != "DELEGATE"]


def proven(graph: Graph, images: dict[str, np.ndarray]) -> Parity:
    """What comparing the TFLite file of a graph with the reference finds."""
    return prove(graph, FORMATS["tflite"], emit_tflite(graph), images)


def assert_exact(graph: Graph) -> list[str]:
    verify(graph)
    parity = proven(graph, images_of(graph))
    assert parity.codes_different == 0
    return operators(graph)[1:]


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", [*POINTWISE])
@given(source=grids(), target=grids())
def test_entries_of_functions_come_out_on_any_grids(
    name: str, source: QParams, target: QParams
) -> None:
    assert_exact(graph_of(table_of(POINTWISE[name].formula, source, target), source, target))


@given(source=grids(), target=grids(), slope=st.sampled_from([0.0, 0.1, 0.25, 0.3, 1.0, 2.0, -0.5]))
def test_entries_of_leaky_relus_come_out_on_any_grids(
    source: QParams, target: QParams, slope: float
) -> None:
    def leaky(x: np.ndarray) -> np.ndarray:
        return np.where(x < 0, x * np.float32(slope), x)

    table = table_of(leaky, source, target)
    found = assert_exact(graph_of(table, source, target))
    assert GATHERED not in found or not powers_of_two(source, target)


@given(source=grids(), target=grids(), seed=st.integers(0, 2**32 - 1), channels=st.integers(1, 5))
def test_entries_of_any_tables_come_out(
    source: QParams, target: QParams, seed: int, channels: int
) -> None:
    codes = source.qmax - source.qmin + 1
    rng = np.random.default_rng(seed)
    table = rng.integers(target.qmin, target.qmax + 1, (channels, codes)).astype(np.int32)
    assert_exact(graph_of(table, source, target, (2, codes // 2, channels)))


@given(seed=st.integers(0, 2**32 - 1), source=grids(), target=grids())
def test_slopes_of_channels_come_out(seed: int, source: QParams, target: QParams) -> None:
    slopes = np.random.default_rng(seed).normal(0, 0.6, 5).astype(np.float32)
    rows = [
        table_of(lambda x, slope=slope: np.where(x < 0, x * slope, x), source, target)
        for slope in slopes
    ]
    shape = (2, (source.qmax - source.qmin + 1) // 2, 5)
    found = assert_exact(graph_of(np.stack(rows), source, target, shape))
    assert GATHERED not in found or not powers_of_two(source, target)


@pytest.mark.parametrize(
    ("name", "target", "expected"),
    [
        ("sigmoid", FINE, ["LOGISTIC"]),
        ("sigmoid", unsigned(4, 2.0**-4), ["LOGISTIC"]),
        ("tanh", signed(8, 2.0**-7, narrow_range=False), ["TANH"]),
        ("elu", WHOLE, ["ELU"]),
        ("hard_swish", WHOLE, ["DEQUANTIZE", "HARD_SWISH", "QUANTIZE"]),
        ("hard_swish", SIGNED_4, ["DEQUANTIZE", "HARD_SWISH", "QUANTIZE"]),
        ("identity", SIGNED_4, ["DEQUANTIZE", "LEAKY_RELU", "QUANTIZE", "QUANTIZE"]),
        ("relu", SIGNED_4, ["DEQUANTIZE", "RELU", "QUANTIZE"]),
        ("swish", WHOLE, ["DEQUANTIZE", "LOGISTIC", "MUL", "QUANTIZE"]),
        ("gelu", WHOLE, ["DEQUANTIZE", "GELU", "QUANTIZE"]),
        ("hard_sigmoid", FINE, ["DEQUANTIZE", "MUL", "ADD", "RELU", "QUANTIZE"]),
    ],
)
def test_functions_are_written_with_fast_operators(name, target, expected) -> None:
    functions = {name: function.formula for name, function in POINTWISE.items()}
    functions |= {"identity": lambda x: x, "relu": lambda x: np.maximum(x, 0)}
    graph = graph_of(table_of(functions[name], WHOLE, target), WHOLE, target)
    assert assert_exact(graph) == expected
    assert proven(graph, images_of(graph)).kernels == ("XNNPACK",)


def test_halves_of_an_elu_go_to_even_codes() -> None:
    """The int8 ELU adds the odd stored zero point, -121, before it rounds."""
    table = table_of(POINTWISE["elu"].formula, WHOLE, SIGNED_4)
    assert "DEQUANTIZE" in assert_exact(graph_of(table, WHOLE, SIGNED_4))


def test_a_zero_point_that_hides_what_is_short_of_a_half_is_seen() -> None:
    """sigmoid(12) / 2 is 3e-6 short of a half, and 125 more than that rounds to 125.5."""
    source = QParams(scale=2.0, zero_point=1, qmin=0, qmax=7, bits=3)
    target = QParams(scale=2.0, zero_point=1, qmin=0, qmax=3, bits=2)
    table = table_of(POINTWISE["sigmoid"].formula, source, target)
    assert "LOGISTIC" not in assert_exact(graph_of(table, source, target))


def test_reals_are_gathered() -> None:
    table = POINTWISE["sigmoid"].formula(reals_of(WHOLE))
    graph = graph_of(table, WHOLE, None)
    found = proven(graph, images_of(graph))
    assert found.difference == 0


def test_every_function_without_a_jump_is_tried_for_a_table() -> None:
    smooth = {name for name, one in POINTWISE.items() if not one.jumps}
    assert {*_INT8_FUNCTIONS.values(), *_FLOAT_FUNCTIONS} == smooth


@pytest.mark.parametrize("name", [*POINTWISE])
def test_functions_of_floats_are_the_references(name: str) -> None:
    tensors = {key: Tensor(name=key, shape=(500,)) for key in ("x", "y")}
    node = Node(name="f", op="pointwise", inputs=("x",), output="y", attrs={"function": name})
    graph = Graph(name="g", inputs=("x",), outputs=("y",), tensors=tensors, nodes=(node,))
    verify(graph)
    images = {"x": np.linspace(-20, 20, 500, dtype=np.float32)[None]}
    found = proven(graph, images)
    assert found.difference <= LOGIT_TOLERANCE
    assert found.kernels == ("XNNPACK",)


@pytest.mark.parametrize("op", ["lookup", "multiply"])
def test_scales_around_functions_and_products_stay_as_they_are(op: str) -> None:
    """A convolution's 4-bit codes could have a scale that clamps them at no cost."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder(rng, (3, 3, 2), power_of_two=True)
    grid = signed(4, 0.25, narrow_range=False)
    builder.add_linear("conv2d", (1, 1, 2, 2), qparams=grid)
    inputs = (builder.last,) * (2 if op == "multiply" else 1)
    builder.add_node(op, qparams=grid, inputs=inputs)
    builder.add_node("reshape", qparams=grid)
    builder.add_linear("dense", (18, 3), qparams=grid)
    graph = builder.graph()
    if op == "lookup":
        table = table_of(np.tanh, grid, grid)
        nodes = [replace(node, table=table) if node.op == op else node for node in graph.nodes]
        graph = replace(graph, nodes=tuple(nodes))
    verify(graph)
    assert proven(graph, builder.images(20)).codes_different == 0
    node = next(node for node in graph.nodes if node.op == op)
    rescaled = rescale(graph).tensors
    assert {rescaled[name].qparams.scale for name in (*node.inputs, node.output)} == {0.25}


@given(first=grids(), second=grids(), output=grids())
def test_products_of_all_pairs_of_codes_are_the_references(
    first: QParams, second: QParams, output: QParams
) -> None:
    a, b = np.meshgrid(reals_of(first), reals_of(second), indexing="ij")
    graph = product(first, second, output, [a.shape] * 3)
    verify(graph)
    assume(not find_problems(graph))
    found = proven(graph, {"x0": a[None], "x1": b[None]})
    assert (found.codes_different, found.kernels) == (0, ("XNNPACK",))


@pytest.mark.parametrize("gate", [(6,), (1, 1, 6), (4, 5, 1), (4, 5, 6)])
@pytest.mark.parametrize("swapped", [False, True])
def test_gates_are_multiplied_along_the_axes_that_they_lack(gate, swapped: bool) -> None:
    shapes = [(4, 5, 6), gate][:: -1 if swapped else 1]
    graph = product(WHOLE, FINE, WHOLE, [*shapes, (4, 5, 6)])
    verify(graph)
    rng = np.random.default_rng(0)
    images = {f"x{i}": rng.normal(0, 3, (3, *shape)) for i, shape in enumerate(shapes)}
    found = proven(graph, images)
    assert (found.codes_different, found.kernels) == (0, ("XNNPACK",))


def test_products_that_the_kernel_would_leave_to_others_are_refused() -> None:
    coarse, fine = unsigned(8, 4.0), unsigned(8, 2.0**-6)
    with pytest.raises(EmitError, match=r"s_a \* s_b / s_out is 1024; 2\*\*-16 to below 256"):
        emit_tflite(product(coarse, coarse, fine, [(3,)] * 3))
