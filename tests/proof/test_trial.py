"""A file beside its probe: what is stored is counted, and what a probe may answer for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from keras_quant.emit.onnx.cover import covers
from keras_quant.emit.onnx_tensorrt.limits import find_problems
from keras_quant.emit.onnx_tensorrt.ops import OP_EMITTERS
from keras_quant.graph.rounding import code_dtype
from keras_quant.proof.formats import FORMATS
from keras_quant.proof.trial import _as_stored, call_witness
from keras_quant.qparams import QParams
from tests.emit.random_graphs import random_graph, small_classifier

TENSORRT = FORMATS["tensorrt"]


@pytest.mark.parametrize(
    ("qmin", "qmax", "shift", "dtype"),
    [
        (0, 15, 112, np.int8),
        (0, 255, -128, np.int8),
        (-128, 127, 128, np.uint8),
        (0, 255, 0, np.uint8),
        (-8, 7, 0, np.int8),
        (-8, 7, 0, np.float32),
        (0, 300, 0, np.uint8),
        (-4, 4, -126, np.int8),
    ],
)
def test_codes_are_compared_as_a_file_stores_them(
    qmin: int, qmax: int, shift: int, dtype: type
) -> None:
    qparams = QParams(scale=1.0, qmin=qmin, qmax=qmax, bits=9 if qmax > 255 else 8)
    codes = np.arange(qmin, qmax + 1).astype(code_dtype(qparams))
    found = _as_stored(codes, qparams, shift, np.dtype(dtype))
    np.testing.assert_array_equal(found.astype(int), np.arange(qmin, qmax + 1) + shift)


def test_only_a_file_that_is_run_node_by_node_is_answered_for_by_its_probe() -> None:
    graph = small_classifier().graph()
    answered_for = {
        name: call_witness(graph, form, form.definition.emit(graph), {}).probe_answers
        for name, form in FORMATS.items()
    }
    assert answered_for == {"tflite": False, "onnx": False, "tensorrt": True}


def test_a_file_of_other_weights_is_not_answered_for() -> None:
    graph = small_classifier().graph()
    head = graph.nodes[-1]
    assert head.bias is not None
    nodes = (*graph.nodes[:-1], replace(head, bias=head.bias + np.float32(1)))
    content = TENSORRT.definition.emit(replace(graph, nodes=nodes))
    assert not call_witness(graph, TENSORRT, content, {}).probe_answers


@given(seed=st.integers(0, 2**32 - 1))
def test_what_covers_a_file_gives_its_answers_bit_for_bit(seed: int) -> None:
    builder = random_graph(seed)
    graph, images = builder.graph(), builder.images(3)
    definition = TENSORRT.definition
    assume(not find_problems(graph, OP_EMITTERS))
    names = tuple(dict.fromkeys((*(node.output for node in graph.nodes), *graph.outputs)))
    whole, part = (definition.emit(graph, outputs=outputs) for outputs in (names, None))
    assert covers(whole, part)
    found, wanted = (definition.runner(content).run(images) for content in (whole, part))
    for name in graph.outputs:
        np.testing.assert_array_equal(found[name], wanted[name])
