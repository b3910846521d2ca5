"""A small graph with codes, a residual and a head, for the tests of whole graphs."""

from __future__ import annotations

import numpy as np
import pytest

from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.qparams import unsigned


@pytest.fixture
def graph() -> Graph:
    """quantize, a 3x3 convolution, its sum with itself, a mean and a dense head."""
    rng = np.random.default_rng(0)
    codes = unsigned(4, 0.25)
    tensors = [
        Tensor(name="image", shape=(6, 6, 2)),
        Tensor(name="pixels", shape=(6, 6, 2), qparams=unsigned(8, 1 / 255)),
        Tensor(name="features", shape=(3, 3, 4), qparams=codes),
        Tensor(name="sums", shape=(3, 3, 4), qparams=unsigned(4, 0.5)),
        Tensor(name="means", shape=(4,), qparams=codes),
        Tensor(name="logits", shape=(3,)),
    ]
    conv_weight = Weight(
        values=rng.integers(-7, 8, (3, 3, 2, 4)).astype(np.int8),
        scale=rng.uniform(0.01, 0.1, 4),
        bits=4,
    )
    head_weight = Weight(
        values=np.array([[2, -4, 1], [0, 2, 3], [6, 6, 2], [-2, 0, -1]], np.int8),
        scale=np.array([0.5, 0.25, 1.0]),
        bits=3,
        multiplier=np.array([2, 2, 1], np.int32),
    )
    nodes = [
        Node(name="quantize", op="quantize", inputs=("image",), output="pixels"),
        Node(
            name="conv",
            op="conv2d",
            inputs=("pixels",),
            output="features",
            attrs={"strides": (2, 2), "padding": "same"},
            weight=conv_weight,
            bias=rng.normal(size=4),
            layers=("conv", "batch_norm"),
        ),
        Node(name="add", op="add", inputs=("features", "features"), output="sums"),
        Node(name="mean", op="mean", inputs=("sums",), output="means"),
        Node(
            name="head",
            op="dense",
            inputs=("means",),
            output="logits",
            weight=head_weight,
            bias=np.array([1.0, 0.0, -1.0]),
        ),
    ]
    return Graph(
        name="small",
        inputs=("image",),
        outputs=("logits",),
        tensors={tensor.name: tensor for tensor in tensors},
        nodes=tuple(nodes),
    )
