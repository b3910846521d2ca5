"""Outputs that are one tensor, or an input, get twins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keras_quant.graph.ir import Graph
from keras_quant.graph.passes.outputs import tell_apart
from keras_quant.graph.reference import run_reference
from keras_quant.graph.verify import verify
from tests.graph.conftest import graph

__all__ = ["graph"]


def test_outputs_that_are_apart_are_left_alone(graph: Graph) -> None:
    assert tell_apart(graph) is graph


def test_what_goes_out_twice_gets_a_twin(graph: Graph) -> None:
    images = {"image": np.random.default_rng(0).random((2, 6, 6, 2), np.float32)}
    twice = tell_apart(replace(graph, outputs=("logits", "image", "logits")))
    verify(twice)
    assert twice.outputs == ("logits", "image/output_1", "logits/output_2")
    found = run_reference(twice, images)
    np.testing.assert_array_equal(found["image/output_1"], images["image"])
    np.testing.assert_array_equal(found["logits/output_2"], found["logits"])
