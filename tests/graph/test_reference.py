"""The interpreter: order, streaming, what it keeps, what it refuses."""

from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pytest

from keras_quant.errors import GraphError
from keras_quant.graph.ir import Graph
from keras_quant.graph.ops import OPS
from keras_quant.graph.reference import iterate_reference, run_reference


@pytest.fixture
def images() -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(1).random((7, 6, 6, 2), np.float32)}


def test_outputs_are_kept_by_default(graph: Graph, images):
    found = run_reference(graph, images)
    assert {name: (array.shape, array.dtype) for name, array in found.items()} == {
        "logits": ((7, 3), np.float32)
    }


def test_head_is_computed_from_the_codes_before_it(graph: Graph, images):
    found = run_reference(graph, images, keep=["means", "logits"])
    head = graph.nodes[-1]
    real = found["means"] * 0.25 @ (head.weight.values * head.weight.scale) + head.bias
    assert np.ptp(found["means"]) > 0
    np.testing.assert_array_equal(found["logits"], real.astype(np.float32))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_batches_add_up_to_the_whole(graph: Graph, images, batch_size: int):
    keep = ["image", "pixels", "features", "logits"]
    whole = run_reference(graph, images, keep=keep)
    batches = list(iterate_reference(graph, images, keep=keep, batch_size=batch_size))
    assert len(batches) == -(-7 // batch_size)
    assert len(batches[0]["logits"]) == min(batch_size, 7)
    for name in keep:
        joined = np.concatenate([batch[name] for batch in batches])
        np.testing.assert_array_equal(joined, whole[name])
    np.testing.assert_array_equal(whole["image"], images["image"])


def test_no_images_give_empty_outputs(graph: Graph):
    assert run_reference(graph, {"image": np.zeros((0, 6, 6, 2))})["logits"].shape == (0, 3)


def test_nodes_that_no_wanted_tensor_needs_are_not_run(graph: Graph, images):
    quantize, conv, *rest = graph.nodes
    unused = replace(quantize, op="no such op", output="unused")
    tensors = {**graph.tensors, "unused": replace(graph.tensors["pixels"], name="unused")}
    graph = replace(graph, nodes=(quantize, unused, conv, *rest), tensors=tensors)
    assert set(run_reference(graph, images)) == {"logits"}


def test_arrays_are_freed_after_their_last_use(graph: Graph, images, monkeypatch):
    made: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []

    def watched(bind):
        def bind_watched(node, inputs, output):
            kernel = bind(node, inputs, output)

            def run(*arrays):
                result = kernel(*arrays)
                alive.append(sum(ref() is not None for ref in made))
                made.append(weakref.ref(result))
                return result

            return run

        return bind_watched

    for op in ("quantize", "conv2d", "add", "mean", "dense"):
        monkeypatch.setitem(OPS, op, replace(OPS[op], bind=watched(OPS[op].bind)))
    run_reference(graph, images)
    assert alive == [0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("inputs", "keep", "message"),
    [
        ({}, None, "input 'image' is missing; given are none"),
        ({"image": (7, 6, 6)}, None, r"'image' is \(7, 6, 6\); \(images, 6, 6, 2\) is needed"),
        ({"image": (7, 6, 6, 2)}, ["logit"], "'logit' is not in the graph; close names: logits"),
    ],
)
def test_bad_inputs_are_named(graph: Graph, inputs, keep, message):
    arrays = {name: np.zeros(shape) for name, shape in inputs.items()}
    with pytest.raises(GraphError, match=message):
        run_reference(graph, arrays, keep=keep)
