"""Tables and products of codes in both ONNX files: every entry and every product comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.emit.onnx_tensorrt.emission import stored_shift as tensorrt_shift
from keras_quant.emit.onnx_tensorrt.emit import emit_onnx_tensorrt
from keras_quant.emit.onnx_x86.emission import stored_shift as x86_shift
from keras_quant.emit.onnx_x86.emit import emit_onnx_x86
from keras_quant.emit.onnx_x86.lookup import _FUNCTIONS
from keras_quant.emit.onnx_x86.multiply import kernel_is_exact
from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.graph.pointwise import POINTWISE
from keras_quant.graph.reference import run_reference
from keras_quant.graph.rounding import reals_of
from keras_quant.graph.verify import verify
from keras_quant.proof.distance import LOGIT_TOLERANCE
from keras_quant.qparams import QParams, signed, unsigned
from keras_quant.runners.onnxruntime import OnnxRuntimeRunner
from keras_quant.targets.builder import build, builder_is_installed
from keras_quant.targets.check import check_tensorrt
from keras_quant.targets.report import broken
from keras_quant.targets.tensorrt import TensorRTOptions
from tests.emit.lookup_graphs import graph_of, grids, images_of, product, table_of

WHOLE = signed(8, 2.0**-4, narrow_range=False)
FINE = unsigned(8, 2.0**-8)
SEEDS = st.integers(0, 2**32 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One of the ONNX formats.

    Attributes:
        optimize: whether ONNX Runtime may fuse; the file for TensorRT counts as it is.
    """

    emit: Callable[[Graph], bytes]
    shift: Callable[[QParams], int]
    optimize: bool

    def run(self, graph: Graph, images: dict[str, np.ndarray]) -> np.ndarray:
        verify(graph)
        runner = OnnxRuntimeRunner(self.emit(graph), optimize=self.optimize)
        found, qparams = runner.run(images)["out"], graph.tensors["out"].qparams
        return found if qparams is None else found.astype(int) - self.shift(qparams)


X86 = Target(emit=emit_onnx_x86, shift=x86_shift, optimize=True)
TENSORRT = Target(emit=emit_onnx_tensorrt, shift=tensorrt_shift, optimize=False)
both_formats = pytest.mark.parametrize("form", [X86, TENSORRT], ids=["onnx", "tensorrt"])


def assert_exact(form: Target, graph: Graph, images: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(form.run(graph, images), run_reference(graph, images)["out"])


@pytest.mark.thinned(3)
@both_formats
@pytest.mark.parametrize("name", [*POINTWISE])
@given(source=grids(), target=grids())
def test_entries_of_functions_come_out_on_any_grids(
    form: Target, name: str, source: QParams, target: QParams
) -> None:
    graph = graph_of(table_of(POINTWISE[name].formula, source, target), source, target)
    assert_exact(form, graph, images_of(graph))


@both_formats
@given(seed=SEEDS, source=grids(), target=grids(), channels=st.sampled_from([1, 3]))
def test_entries_of_leaky_relus_come_out_on_any_grids(
    form: Target, seed: int, source: QParams, target: QParams, channels: int
) -> None:
    slopes = np.random.default_rng(seed).choice([0, 0.1, 0.25, 0.3, 1, 2, -0.5], channels)
    rows = [
        table_of(lambda x, slope=slope: np.where(x < 0, x * np.float32(slope), x), source, target)
        for slope in slopes
    ]
    shape = (2, (source.qmax - source.qmin + 1) // 2, channels)
    graph = graph_of(np.stack(rows), source, target, shape)
    assert_exact(form, graph, images_of(graph))


@both_formats
@given(source=grids(), target=grids(), seed=SEEDS, channels=st.integers(1, 5))
def test_entries_of_any_tables_come_out(
    form: Target, source: QParams, target: QParams, seed: int, channels: int
) -> None:
    codes = source.qmax - source.qmin + 1
    rng = np.random.default_rng(seed)
    table = rng.integers(target.qmin, target.qmax + 1, (channels, codes)).astype(np.int32)
    graph = graph_of(table, source, target, (2, codes // 2, channels))
    assert_exact(form, graph, images_of(graph))


@both_formats
def test_reals_are_gathered(form: Target) -> None:
    graph = graph_of(POINTWISE["sigmoid"].formula(reals_of(WHOLE)), WHOLE, None)
    assert_exact(form, graph, images_of(graph))


def operators(graph: Graph) -> list[str]:
    """Those of the optimized file, without what makes codes of the image."""
    names = [op.rpartition(":")[2] for op in OnnxRuntimeRunner(emit_onnx_x86(graph)).operators]
    return [name for name in names if name not in ("QuantizeLinear", "Transpose")]


@pytest.mark.parametrize(
    ("function", "target", "expected"),
    [
        (POINTWISE["sigmoid"].formula, FINE, ["QLinearSigmoid"]),
        (lambda x: np.where(x < 0, x * np.float32(0.3), x), WHOLE, ["QLinearLeakyRelu"]),
        (POINTWISE["tanh"].formula, WHOLE, ["DequantizeLinear", "Tanh"]),
        (lambda x: x**2, WHOLE, ["Cast", "Gather"]),
    ],
)
def test_tables_are_written_with_fast_operators(function, target: QParams, expected) -> None:
    graph = graph_of(table_of(function, WHOLE, target), WHOLE, target)
    assert operators(graph) == expected


def test_every_function_without_a_jump_is_tried_for_a_table_once() -> None:
    assert sorted(_FUNCTIONS) == sorted(name for name, one in POINTWISE.items() if not one.jumps)


@both_formats
@pytest.mark.parametrize("name", [*POINTWISE])
def test_functions_of_floats_are_the_references(form: Target, name: str) -> None:
    tensors = {key: Tensor(name=key, shape=(500,)) for key in ("x", "out")}
    node = Node(name="f", op="pointwise", inputs=("x",), output="out", attrs={"function": name})
    graph = Graph(name="g", inputs=("x",), outputs=("out",), tensors=tensors, nodes=(node,))
    images = {"x": np.linspace(-20, 20, 500, dtype=np.float32)[None]}
    wanted = run_reference(graph, images)["out"]
    np.testing.assert_allclose(form.run(graph, images), wanted, atol=LOGIT_TOLERANCE)


@both_formats
@given(first=grids(), second=grids(), output=grids())
def test_products_of_all_pairs_of_codes_are_the_references(
    form: Target, first: QParams, second: QParams, output: QParams
) -> None:
    a, b = np.meshgrid(reals_of(first), reals_of(second), indexing="ij")
    graph = product(first, second, output, [a.shape] * 3)
    assert_exact(form, graph, {"x0": a[None], "x1": b[None]})


@both_formats
@pytest.mark.parametrize("gate", [(6,), (1, 1, 6), (5, 6), (4, 5, 1), (4, 5, 6)])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("is_float", [False, True])
def test_gates_are_multiplied_along_the_axes_that_they_lack(
    form: Target, gate: tuple[int, ...], swapped: bool, is_float: bool
) -> None:
    shapes = [(4, 5, 6), gate][:: -1 if swapped else 1]
    rng = np.random.default_rng(0)
    images = {f"x{i}": rng.normal(0, 3, (3, *shape)) for i, shape in enumerate(shapes)}
    images = {name: image.astype(np.float32) for name, image in images.items()}
    graph = product(WHOLE, FINE, WHOLE, [*shapes, (4, 5, 6)])
    if is_float:
        tensors = {
            name: Tensor(name=name, shape=shape)
            for name, shape in zip(("x0", "x1", "out"), [*shapes, (4, 5, 6)], strict=True)
        }
        node = Node(name="m", op="multiply", inputs=("x0", "x1"), output="out")
        graph = Graph(
            name="g", inputs=("x0", "x1"), outputs=("out",), tensors=tensors, nodes=(node,)
        )
    assert_exact(form, graph, images)


@pytest.mark.parametrize("zero_point", [0, 3])
def test_products_are_fused_where_the_kernel_is_exact(zero_point: int) -> None:
    """With an odd zero point, halves go to odd codes."""
    output = QParams(scale=0.5, zero_point=zero_point, qmin=0, qmax=255, bits=8)
    first = second = unsigned(4, 0.5)
    a, b = np.meshgrid(reals_of(first), reals_of(second), indexing="ij")
    graph = product(first, second, output, [a.shape] * 3)
    is_exact = kernel_is_exact(first, second, output)
    assert is_exact == (zero_point == 0)
    assert ("QLinearMul" in operators(graph)) == is_exact
    assert_exact(X86, graph, {"x0": a[None], "x1": b[None]})


@pytest.mark.parametrize("version", ["8.5", "11"])
def test_files_break_no_rule_of_tensorrt(version: str) -> None:
    options = TensorRTOptions(version=version)
    table = np.random.default_rng(0).integers(0, 255, (3, 256)).astype(np.int32)
    for graph in (
        product(WHOLE, FINE, WHOLE, [(4, 5, 6), (6,), (4, 5, 6)]),
        graph_of(table, WHOLE, FINE, (2, 128, 3)),
        graph_of(table_of(POINTWISE["hard_swish"].formula, WHOLE, WHOLE), WHOLE, WHOLE),
    ):
        model = onnx.ModelProto.FromString(emit_onnx_tensorrt(graph, options=options))
        assert broken(check_tensorrt(model, options)) == ()
        if builder_is_installed():
            assert build(model).rejected == ()
