from __future__ import annotations

import numpy as np
import pytest

from keras_quant.emit.onnx_x86.weights import INT16_MAX, saturating, stored_limits
from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.graph.passes.realize import realize
from keras_quant.proof.formats import FORMATS
from keras_quant.qparams import QParams, signed, unsigned


def convolution(source: QParams, *, op: str = "conv2d") -> Graph:
    """An ideal one of single pixels, that reads codes of a grid with weights of 4 bits."""
    tensors = [
        Tensor(name="image", shape=(3, 3, 2)),
        Tensor(name="pixels", shape=(3, 3, 2), qparams=source),
        Tensor(name="features", shape=(3, 3, 2), qparams=unsigned(8, 0.01)),
    ]
    values = np.array([[[[7, -7], [7, 3]]]], np.int8)
    if op == "depthwise_conv2d":
        values = values[:, :, 0]
    conv = Node(
        name="conv",
        op=op,
        inputs=("pixels",),
        output="features",
        attrs={"padding": "same"},
        weight=Weight(values=values, scale=np.array([0.3, 0.4]), bits=4),
        bias=np.array([0.1, 0.2]),
    )
    return Graph(
        name="one convolution",
        inputs=("image",),
        outputs=("features",),
        tensors={tensor.name: tensor for tensor in tensors},
        nodes=(Node(name="grid", op="quantize", inputs=("image",), output="pixels"), conv),
    )


@pytest.mark.parametrize(
    ("source", "limit"),
    [
        (unsigned(8, 1.0), 64),
        (signed(8, 1.0, narrow_range=False), 64),
        (signed(8, 1.0, narrow_range=True), 64),
        (unsigned(7, 1.0), 127),
        (unsigned(1, 1.0), 127),
    ],
)
def test_two_products_of_the_largest_codes_fit_int16(source: QParams, limit: int) -> None:
    graph = convolution(source)
    assert stored_limits(graph) == {"conv": limit}
    assert 2 * (source.qmax - source.qmin) * limit <= INT16_MAX


def test_depthwise_kernels_have_all_of_int8() -> None:
    assert stored_limits(convolution(unsigned(8, 1.0), op="depthwise_conv2d")) == {}


def test_only_what_is_realized_with_the_limits_of_x86_keeps_to_them() -> None:
    graph = convolution(unsigned(8, 2.0**-8))
    limits = FORMATS["onnx"].definition.limits
    assert limits is not None
    for stored_max, largest, at_risk in ((limits(graph), 63, 0), ({}, 126, 1)):
        made = realize(graph, stored_max=stored_max).graph
        assert np.abs(made.nodes[-1].weight.values).max() == largest
        assert len(saturating(made)) == at_risk
