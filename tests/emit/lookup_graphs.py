"""Graphs of tables and products of codes, for the tests of each format."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.graph.rounding import reals_of, to_codes
from keras_quant.qparams import QParams

exponents = st.integers(-7, 1)
odd_factors = st.sampled_from([1.0, 1.0, 1.3, 0.7501])


@st.composite
def grids(draw: st.DrawFn) -> QParams:
    """2 to 8 bits, signed or not, at any zero point, of scales that are powers of two or not."""
    bits = draw(st.integers(2, 8))
    scale = 2.0 ** draw(exponents) * draw(odd_factors)
    zero_point = draw(st.integers(0, 2**bits - 1))
    low = draw(st.sampled_from([0, -zero_point, zero_point - 2**bits + 1]))
    return QParams(
        scale=scale,
        zero_point=zero_point + min(low, 0),
        qmin=min(low, 0),
        qmax=min(low, 0) + 2**bits - 1,
        bits=bits,
    )


def graph_of(table: np.ndarray, source: QParams, target: QParams | None, shape=None) -> Graph:
    """A lookup of images that hold every code of the source, in each channel."""
    shape = shape or (source.qmax - source.qmin + 1,)
    tensors = [
        Tensor(name="image", shape=shape),
        Tensor(name="codes", shape=shape, qparams=source),
        Tensor(name="out", shape=shape, qparams=target),
    ]
    nodes = (
        Node(name="quantize", op="quantize", inputs=("image",), output="codes"),
        Node(name="lookup", op="lookup", inputs=("codes",), output="out", table=table),
    )
    by_name = {tensor.name: tensor for tensor in tensors}
    return Graph(name="g", inputs=("image",), outputs=("out",), tensors=by_name, nodes=nodes)


def table_of(function, source: QParams, target: QParams) -> np.ndarray:
    values = np.asarray(function(reals_of(source)), np.float32)
    return to_codes(values * (np.float32(1) / np.float32(target.scale)), target).astype(np.int32)


def images_of(graph: Graph) -> dict[str, np.ndarray]:
    reals = reals_of(graph.tensors["codes"].qparams)
    shape = graph.tensors["image"].shape
    columns = reals if len(shape) == 1 else reals.reshape(*shape[:-1], 1)
    return {"image": np.broadcast_to(columns, shape)[None]}


def powers_of_two(*grids: QParams) -> bool:
    """Whether all scales are: elsewhere halves are computed with an error, in ways of their own."""
    return all(np.frexp(grid.scale)[0] == 0.5 for grid in grids)


def product(first: QParams, second: QParams, output: QParams, shapes: list) -> Graph:
    tensors = [Tensor(name=f"x{i}", shape=shape) for i, shape in enumerate(shapes[:2])]
    tensors += [
        Tensor(name=f"c{i}", shape=shape, qparams=qparams)
        for i, (shape, qparams) in enumerate(zip(shapes, (first, second), strict=False))
    ]
    tensors.append(Tensor(name="out", shape=shapes[2], qparams=output))
    nodes = [Node(name=f"q{i}", op="quantize", inputs=(f"x{i}",), output=f"c{i}") for i in range(2)]
    nodes.append(Node(name="m", op="multiply", inputs=("c0", "c1"), output="out"))
    return Graph(
        name="g",
        inputs=("x0", "x1"),
        outputs=("out",),
        tensors={tensor.name: tensor for tensor in tensors},
        nodes=tuple(nodes),
    )
