"""Packed kernels: bytes by hand, and files that answer as the reference does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from keras_quant.emit.tflite.emission import stored_shift
from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.emit.tflite.limits import find_problems
from keras_quant.emit.tflite.options import TFLiteOptions
from keras_quant.emit.tflite.packing import (
    INT2,
    INT4,
    narrowest_type,
    pack_codes,
    packed_type,
    stored_limits,
)
from keras_quant.errors import EmitError
from keras_quant.graph.ir import Graph, Weight
from keras_quant.graph.passes.realize import realize
from keras_quant.graph.reference import run_reference
from keras_quant.qparams import unsigned
from keras_quant.runners.litert import LiteRTRunner
from tests.emit.random_graphs import GraphBuilder

SMALLEST = TFLiteOptions(pack="smallest")
# What cuts the patches of a file's first packed convolution; those of equal shape share most.
FIRST_PATCHES_BYTES = 2500


@pytest.mark.parametrize(
    ("codes", "bits", "written"),
    [
        ([1, 2], 4, "21"),
        ([-8, 7], 4, "78"),
        ([-1, -1, 3], 4, "ff03"),
        ([1, 0, -1, -2], 2, "b1"),
        ([-2, -2, -2, -2, 1], 2, "aa01"),
        ([], 4, ""),
    ],
)
def test_codes_fill_bytes_from_the_lowest_bits(codes: list[int], bits: int, written: str) -> None:
    assert pack_codes(np.array(codes, np.int8), bits).hex() == written


@pytest.mark.parametrize(
    ("codes", "columns", "kind"),
    [
        ([-2, 1], 4, INT2),
        ([-2, 1], 6, INT4),
        ([-2, 1], 5, None),
        ([-2, 2], 4, INT4),
        ([-8, 7], 2, INT4),
        ([-9, 7], 2, None),
        ([0, 8], 2, None),
    ],
)
def test_the_narrowest_type_holds_all_codes_in_whole_bytes(
    codes: list[int], columns: int, kind: str | None
) -> None:
    assert narrowest_type(np.array(codes, np.int8), columns=columns) == kind


def narrow(builder: GraphBuilder, largest: int) -> Graph:
    """The graph with weight codes of at most `largest`."""
    graph = builder.graph()
    nodes = [
        node
        if node.weight is None
        else replace(node, weight=replace(node.weight, values=_wrapped(node.weight, largest)))
        for node in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes))


def _wrapped(weight: Weight, largest: int) -> np.ndarray:
    codes = weight.values.astype(np.int32)
    return (codes % (2 * largest + 2) - largest - 1).astype(np.int8)


def codes_different(graph: Graph, builder: GraphBuilder, options: TFLiteOptions) -> int:
    images = builder.images(3)
    names = [node.output for node in graph.nodes]
    stored = LiteRTRunner(emit_tflite(graph, outputs=names, options=options)).run(images)
    wanted = run_reference(graph, images, keep=names)
    found = {n: stored[n].astype(int) - stored_shift(graph.tensors[n].qparams) for n in names}
    return sum(int((found[name] != wanted[name]).sum()) for name in names)


@pytest.mark.parametrize("largest", [7, 1])
@given(seed=st.integers(0, 2**32 - 1))
def test_packed_convolutions_are_the_references(largest: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = int(rng.integers(1, 9)), int(rng.integers(1, 9)), 4 * int(rng.integers(1, 4))
    builder = GraphBuilder(rng, shape, power_of_two=bool(rng.integers(2)))
    builder._add_conv2d()
    builder._add_conv2d()
    graph = narrow(builder, largest)
    assume(not find_problems(graph))
    assert codes_different(graph, builder, SMALLEST) == 0


def large_convolution(*, largest: int, **attrs: object) -> tuple[Graph, GraphBuilder]:
    builder = GraphBuilder(np.random.default_rng(0), (7, 6, 16), power_of_two=False)
    kernel = (3, 3, 16, 64)
    builder.add_linear("conv2d", kernel, qparams=unsigned(4, 0.5), attrs=attrs)
    return narrow(builder, largest), builder


@pytest.mark.parametrize(("largest", "kind", "bits"), [(7, INT4, 4), (1, INT2, 2)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_a_large_convolution_is_packed_and_exact(
    largest: int, kind: str, bits: int, strides: tuple[int, int]
) -> None:
    graph, builder = large_convolution(largest=largest, padding="same", strides=strides)
    assert packed_type(graph, graph.nodes[-1], "smallest") == kind
    assert packed_type(graph, graph.nodes[-1], "fast") is None
    assert codes_different(graph, builder, SMALLEST) == 0
    saved = len(emit_tflite(graph)) - len(emit_tflite(graph, options=SMALLEST))
    assert saved > graph.nodes[-1].weight.values.size * (8 - bits) / 8 - FIRST_PATCHES_BYTES


@pytest.mark.parametrize(("channels", "kind"), [(44, None), (45, INT4)])
def test_a_convolution_is_packed_where_that_saves_more_than_its_patches_cost(
    channels: int, kind: str | None
) -> None:
    """3 x 3 x 4 weights of 4 bits for each channel save 18 bytes: 44 save 792, and 45 save 810."""
    builder = GraphBuilder(np.random.default_rng(0), (5, 5, 4), power_of_two=False)
    builder.add_linear("conv2d", (3, 3, 4, channels), qparams=unsigned(4, 0.5))
    graph = narrow(builder, 7)
    assert packed_type(graph, graph.nodes[-1], "smallest") == kind


def test_a_dilated_convolution_is_packed_and_exact() -> None:
    graph, builder = large_convolution(largest=7, padding="same", dilation=(2, 1))
    assert codes_different(graph, builder, SMALLEST) == 0


def test_single_pixels_and_dense_layers_are_packed_where_that_is_fast() -> None:
    builder = GraphBuilder(np.random.default_rng(0), (3, 3, 8), power_of_two=False)
    builder.add_linear("conv2d", (1, 1, 8, 6), qparams=unsigned(4, 0.5))
    builder.add_node("reshape", qparams=builder.qparams())
    builder.add_linear("dense", (54, 10), qparams=unsigned(4, 0.5))
    graph = narrow(builder, 7)
    kinds = [packed_type(graph, node, "fast") for node in graph.nodes]
    assert kinds == [None, INT4, None, INT4]
    assert codes_different(graph, builder, TFLiteOptions(pack="fast")) == 0
    assert all(packed_type(graph, node, "none") is None for node in graph.nodes)


def test_a_strided_convolution_of_single_pixels_is_not_fast() -> None:
    builder = GraphBuilder(np.random.default_rng(0), (4, 4, 8), power_of_two=False)
    builder.add_linear("conv2d", (1, 1, 8, 6), attrs={"strides": (2, 2)})
    graph = narrow(builder, 7)
    assert packed_type(graph, graph.nodes[-1], "fast") is None


def test_packed_kernels_run_on_xnnpack() -> None:
    graph, _ = large_convolution(largest=7, padding="same")
    assert LiteRTRunner(emit_tflite(graph, options=SMALLEST)).info.kernels == ("XNNPACK",)


def ideal_convolution() -> Graph:
    graph, _ = large_convolution(largest=7, padding="same")
    conv = graph.nodes[-1]
    weight = replace(conv.weight, scale=conv.weight.scale.astype(np.float64), bits=4)
    node = replace(conv, weight=weight, bias=None)
    return replace(graph, nodes=(*graph.nodes[:-1], node))


def test_codes_are_realized_within_the_width_they_are_packed_in() -> None:
    ideal = ideal_convolution()
    assert stored_limits(ideal, options=TFLiteOptions(pack="smallest")) == {ideal.nodes[-1].name: 7}
    assert stored_limits(ideal) == {}
    realized = realize(
        ideal, stored_max=stored_limits(ideal, options=TFLiteOptions(pack="smallest"))
    ).graph
    assert np.abs(realized.nodes[-1].weight.values).max() <= 8
    emit_tflite(realized, options=SMALLEST)


def test_codes_multiplied_beyond_their_width_are_told() -> None:
    realized = realize(ideal_convolution()).graph
    emit_tflite(realized)
    with pytest.raises(EmitError, match=r"stored codes reach \d+.*stored_limits .*pack='smallest'"):
        emit_tflite(realized, options=SMALLEST)
