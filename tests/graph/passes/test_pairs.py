from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from keras_quant.graph.passes.pairs import INT16_MAX, pair_limit
from keras_quant.qparams import QParams, signed, unsigned
from tests.emit.random_graphs import GraphBuilder


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
    builder = GraphBuilder(np.random.default_rng(0), (3, 3, 2), power_of_two=True)
    builder.add_linear("conv2d", (1, 1, 2, 2))
    graph = builder.graph()
    conv = graph.nodes[-1]
    tensor = replace(graph.tensors[conv.inputs[0]], qparams=source)
    graph = replace(graph, tensors={**graph.tensors, tensor.name: tensor})
    assert pair_limit(graph, conv) == limit
    assert 2 * (source.qmax - source.qmin) * limit <= INT16_MAX
    assert pair_limit(graph, replace(conv, op="depthwise_conv2d")) == 127
