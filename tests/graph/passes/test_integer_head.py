"""Heads whose logits are codes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from keras_quant.errors import GraphError
from keras_quant.graph.ir import Graph
from keras_quant.graph.passes.integer_head import integer_head, measured_ranges
from keras_quant.graph.passes.realize import realize
from keras_quant.graph.reference import run_reference
from keras_quant.graph.verify import verify

# The bias is rounded to an accumulator step, a hundredth of an output step here.
HALF_A_STEP = 0.51


@pytest.fixture
def images() -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(1).random((50, 6, 6, 2), np.float32)}


@pytest.mark.parametrize("is_measured", [True, False])
@pytest.mark.parametrize("activation", ["none", "relu", "relu6"])
def test_logits_keep_within_half_a_step(
    graph: Graph, images: dict[str, np.ndarray], is_measured: bool, activation: str
) -> None:
    head = replace(graph.nodes[-1], attrs={"activation": activation})
    graph = realize(replace(graph, nodes=(*graph.nodes[:-1], head))).graph
    ranges = measured_ranges(graph, images) if is_measured else None
    made = integer_head(graph, ranges)
    verify(made)
    qparams = made.tensors["logits"].qparams
    codes = run_reference(made, images)["logits"].astype(np.float64)
    reals = run_reference(graph, images)["logits"]
    error = np.abs((codes - qparams.zero_point) * qparams.scale - reals)
    assert error.max() <= HALF_A_STEP * qparams.scale
    assert reals.max() > 100 * qparams.scale * (0.1 if not is_measured else 1)


def test_measured_ranges_are_those_of_the_reference(
    graph: Graph, images: dict[str, np.ndarray]
) -> None:
    logits = run_reference(graph, images)["logits"]
    assert measured_ranges(graph, images) == {"logits": (logits.min(), logits.max())}


def test_stored_codes_keep_to_the_limits_given(graph: Graph) -> None:
    made = integer_head(realize(graph).graph, limits=lambda graph: {"head": 7})
    assert np.abs(made.nodes[-1].weight.values).max() <= 7


def test_outputs_of_codes_stay_as_they_are(graph: Graph) -> None:
    done = integer_head(realize(graph).graph)
    again = integer_head(done)
    assert again.nodes[-1] is done.nodes[-1]
    assert again.tensors == done.tensors


def test_outputs_that_no_weights_give_are_named(graph: Graph) -> None:
    softmax = replace(graph.nodes[0], name="softmax", op="softmax", inputs=("logits",), output="p")
    classes = replace(graph.tensors["logits"], name="p")
    ended = replace(
        graph,
        nodes=(*graph.nodes, softmax),
        tensors={**graph.tensors, "p": classes},
        outputs=("p",),
    )
    with pytest.raises(GraphError, match="'p': softmax gives floats that no weights give. End the"):
        integer_head(ended)


def test_a_head_of_float_weights_is_named(graph: Graph) -> None:
    head = graph.nodes[-1]
    weight = replace(head.weight, values=head.weight.values.astype(np.float32), scale=None)
    with pytest.raises(GraphError, match="layer 'head' computes in floats"):
        integer_head(replace(graph, nodes=(*graph.nodes[:-1], replace(head, weight=weight))))
