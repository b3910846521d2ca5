"""Pads that windows take over, and get back: every code stays, and each pad that must stays."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.graph.passes.pads import fold_pads, has_margins, unfold_pads
from keras_quant.graph.reference import run_reference
from keras_quant.graph.verify import verify
from keras_quant.qparams import QParams, signed, unsigned
from tests.emit.random_graphs import GraphBuilder

SEEDS = st.integers(0, 2**32 - 1)
WINDOWS = ("conv2d", "grouped_conv2d", "depthwise_conv2d", "max_pool", "avg_pool", "pad")
POSITIVE = unsigned(4, 0.5)
SIGNED = signed(4, 0.5, narrow_range=False)
SAME = {"padding": "same"}
POOL = {"pool_size": (3, 3), "strides": (2, 2), "padding": "valid"}


def padded(
    op: str,
    margins: tuple,
    attrs: dict,
    *,
    qparams: QParams | None = POSITIVE,
    kernel: tuple[int, ...] = (),
) -> Graph:
    """An image of 6x7 as codes, a pad, and a window behind it."""
    builder = GraphBuilder(np.random.default_rng(0), (6, 7, 4), power_of_two=True)
    builder.add_node("requantize", qparams=qparams)
    builder.add_node("pad", qparams=qparams, attrs={"padding": margins})
    if kernel:
        builder.add_linear(op, kernel, qparams=qparams, attrs=attrs)
    else:
        builder.add_node(op, qparams=qparams, attrs=attrs)
    return builder.graph()


def ops(graph: Graph) -> Counter:
    return Counter(node.op for node in graph.nodes)


def assert_same_answers(one: Graph, other: Graph, images: dict[str, np.ndarray]) -> None:
    verify(other)
    wanted, found = (run_reference(graph, images) for graph in (one, other))
    for name in one.outputs:
        np.testing.assert_array_equal(found[name], wanted[name])


@given(seed=SEEDS)
def test_folding_and_unfolding_pads_change_no_code(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in (*rng.integers(1, 9, 2), rng.integers(1, 4)))
    builder = GraphBuilder(rng, shape, power_of_two=bool(rng.integers(2)))
    for op in rng.choice(WINDOWS, 4):
        builder.add_random("pad")
        builder.add_random(str(op))
    graph, images = builder.graph(), builder.images(2)
    folded = fold_pads(graph)
    assert_same_answers(graph, folded, images)
    unfolded = unfold_pads(folded, lambda node: False)
    assert_same_answers(graph, unfolded, images)
    assert {node.op for node in unfolded.nodes if has_margins(node)} <= {"max_pool"}


@pytest.mark.parametrize(
    ("op", "margins", "attrs", "kernel", "padding"),
    [
        ("conv2d", ((1, 1), (1, 1)), {}, (3, 3, 4, 2), "same"),
        ("conv2d", ((1, 1), (1, 1)), {"strides": (2, 2)}, (3, 3, 4, 2), ((1, 1), (1, 1))),
        ("conv2d", ((0, 1), (1, 1)), {"strides": (2, 2)}, (3, 3, 4, 2), "same"),
        ("conv2d", ((0, 1), (0, 1)), {"padding": "same"}, (3, 3, 4, 2), ((1, 2), (1, 2))),
        ("conv2d", ((2, 2), (2, 2)), {"dilation": (2, 2)}, (3, 3, 4, 2), "same"),
        ("conv2d", ((0, 0), (2, 0)), {}, (1, 3, 4, 2), ((0, 0), (2, 0))),
        ("depthwise_conv2d", ((1, 0), (0, 1)), {}, (2, 2, 4), ((1, 0), (0, 1))),
        ("max_pool", ((1, 1), (1, 1)), POOL, (), ((1, 1), (1, 1))),
        ("max_pool", ((0, 1), (1, 1)), POOL, (), "same"),
        ("avg_pool", ((0, 1), (1, 1)), POOL, (), ((0, 1), (1, 1))),  # it counts what it pads
        ("pad", ((1, 0), (0, 0)), {"padding": ((1, 2), (3, 0))}, (), ((2, 2), (3, 0))),
    ],
)
def test_a_window_takes_the_margins_in_front_of_it(op, margins, attrs, kernel, padding) -> None:
    graph = padded(op, margins, attrs, kernel=kernel)
    folded = fold_pads(graph)
    last = folded.nodes[-1]
    assert ops(folded)["pad"] == (op == "pad")
    assert last.attrs["padding"] == padding
    assert last.inputs == ("requantize_1_out",)
    assert "pad_2_out" not in folded.tensors


@pytest.mark.parametrize(
    ("op", "margins", "attrs", "qparams"),
    [
        pytest.param("max_pool", ((1, 1), (1, 1)), POOL, SIGNED, id="0 may be the greatest"),
        pytest.param("max_pool", ((3, 0), (0, 0)), POOL, POSITIVE, id="only padded pixels"),
        pytest.param("avg_pool", ((0, 0), (0, 3)), POOL, POSITIVE, id="an average of them"),
        pytest.param("avg_pool", ((1, 0), (0, 0)), POOL | SAME, POSITIVE, id="two kinds of pixels"),
        pytest.param("max_pool", ((-1, 0), (0, 0)), POOL, POSITIVE, id="a crop"),
        pytest.param("pad", ((1, 0), (0, 0)), {"padding": ((-1, 0), (0, 0))}, POSITIVE, id="both"),
        pytest.param("upsample", ((1, 0), (0, 0)), {"size": (2, 2)}, POSITIVE, id="no window"),
    ],
)
def test_a_pad_stays_where_its_reader_computes_something_else(op, margins, attrs, qparams) -> None:
    graph = padded(op, margins, attrs, qparams=qparams)
    assert ops(fold_pads(graph)) == ops(graph)


def test_a_transposed_convolution_leaves_its_pad() -> None:
    graph = padded("conv2d_transpose", ((1, 1), (1, 1)), {}, kernel=(3, 3, 4, 2))
    assert ops(fold_pads(graph)) == ops(graph)


@pytest.mark.parametrize(("zero_point", "pads"), [(0, 0), (3, 0), (9, 1)])
def test_what_is_padded_and_then_rounded_is_rounded_first(zero_point: int, pads: int) -> None:
    builder = GraphBuilder(np.random.default_rng(0), (6, 7, 4), power_of_two=True)
    builder.add_node("requantize", qparams=unsigned(8, 0.5))
    builder.add_node("pad", qparams=builder.qparams(), attrs={"padding": ((1, 1), (0, 2))})
    narrow = QParams(scale=0.75, zero_point=zero_point, qmin=0, qmax=7, bits=3)
    builder.add_node("requantize", qparams=narrow)
    rounded = builder.last
    builder.add_linear("conv2d", (3, 3, 4, 2), qparams=POSITIVE)
    graph, images = builder.graph(), builder.images(3)
    folded = fold_pads(graph)
    assert ops(folded) == Counter(quantize=1, requantize=2, conv2d=1, pad=pads)
    assert_same_answers(graph, folded, images)
    asked = replace(graph, outputs=(rounded, *graph.outputs))  # it keeps its name and its pixels
    assert_same_answers(asked, fold_pads(asked), images)


def two_readers(second: str) -> Graph:
    """A convolution behind a pad that something else reads too, or the caller."""
    builder = GraphBuilder(np.random.default_rng(0), (6, 6, 4), power_of_two=True)
    builder.add_node("requantize", qparams=POSITIVE)
    builder.add_node("pad", qparams=POSITIVE, attrs={"padding": ((1, 0), (1, 0))})
    pad, strided = builder.last, {"strides": (2, 2)}
    builder.add_linear("conv2d", (3, 3, 4, 4), qparams=POSITIVE, attrs=strided)
    first = builder.last
    if second == "caller":
        return replace(builder.graph(), outputs=(pad, first))
    builder.last = pad
    if second == "conv2d":
        builder.add_linear("conv2d", (3, 3, 4, 4), qparams=POSITIVE, attrs=strided)
    else:
        builder.add_node("upsample", qparams=POSITIVE, attrs={"size": (2, 2)})
    return replace(builder.graph(), outputs=(first, builder.last))


@pytest.mark.parametrize(("second", "pads"), [("conv2d", 0), ("upsample", 1), ("caller", 1)])
def test_a_pad_goes_once_nothing_reads_it(second: str, pads: int) -> None:
    graph = two_readers(second)
    folded = fold_pads(graph)
    assert ops(folded)["pad"] == pads
    assert folded.nodes[-1 if second == "caller" else -2].attrs["padding"] == ((1, 0), (1, 0))
    rng = np.random.default_rng(1)
    assert_same_answers(graph, folded, {"image": rng.normal(0, 5, (3, 6, 6, 4)).astype(np.float32)})


def test_windows_that_pad_one_tensor_alike_get_one_pad_back() -> None:
    unfolded = unfold_pads(fold_pads(two_readers("conv2d")), lambda node: False)
    assert ops(unfolded) == ops(two_readers("conv2d"))
    verify(unfolded)


def test_a_window_that_pads_itself_keeps_its_margins() -> None:
    folded = fold_pads(two_readers("conv2d"))
    kept = unfold_pads(folded, lambda node: True)
    assert [node.attrs for node in kept.nodes] == [node.attrs for node in folded.nodes]


def test_a_max_pooling_of_negative_codes_keeps_margins_that_no_pad_has() -> None:
    attrs = POOL | {"padding": ((1, 1), (0, 0))}
    graph = padded("max_pool", ((0, 0), (0, 0)), attrs, qparams=SIGNED)
    assert unfold_pads(graph, lambda node: False).nodes[-1].attrs == attrs


@pytest.mark.parametrize(("activation", "pads"), [("relu", 0), ("relu6", 0), ("none", 1)])
def test_a_max_pooling_of_floats_pads_itself_behind_a_relu_only(activation, pads) -> None:
    rng = np.random.default_rng(0)
    nodes = (
        Node(
            name="conv",
            op="conv2d",
            inputs=("image",),
            output="features",
            attrs={"padding": "same", "activation": activation},
            weight=Weight(values=rng.normal(size=(3, 3, 2, 3)).astype(np.float32)),
        ),
        Node(
            name="pad",
            op="pad",
            inputs=("features",),
            output="padded",
            attrs={"padding": ((1, 1), (1, 1))},
            layers=("pool1_pad",),
        ),
        Node(name="pool", op="max_pool", inputs=("padded",), output="pooled", attrs=POOL),
    )
    shapes = {"image": (5, 5, 2), "features": (5, 5, 3), "padded": (7, 7, 3), "pooled": (3, 3, 3)}
    tensors = {name: Tensor(name=name, shape=shape) for name, shape in shapes.items()}
    graph = Graph(
        name="floats", inputs=("image",), outputs=("pooled",), tensors=tensors, nodes=nodes
    )
    folded = fold_pads(graph)
    assert ops(folded)["pad"] == pads
    assert folded.nodes[-1].layers == (() if pads else ("pool1_pad",))
    assert_same_answers(graph, folded, {"image": rng.normal(size=(2, 5, 5, 2)).astype(np.float32)})
