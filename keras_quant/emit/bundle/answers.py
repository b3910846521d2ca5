"""What an engine should answer to a bundle's samples, and how near it should come."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from keras_quant.graph.ir import Graph
from keras_quant.graph.reference import run_reference
from keras_quant.targets.tensorrt import Plan

# Allowed difference of an engine's answers, as a share of the largest. int8: one code of 8 bits
# more or less in what the head reads. fp16: 8 of its steps of 2**-10, for the rounding of each
# layer. dla, in a simulation that rounds weights to its int8 too (359 digits): 0.28 at most at
# w2a2, 0.12 at w4a4, 0.04 at w8a8.
TOLERANCES = {"int8": 2.0**-7, "fp16": 2.0**-7, "dla": 0.375}
# A value that float16 moves across a tie becomes the next of a few codes. Simulated as
# `onnx_tensorrt.floats` states: 0.17 at most at w2a2, 0.08 at w4a4.
ROUNDED_FP16_TOLERANCE = 0.25


def expected_answers(
    graph: Graph, written: Graph, planned: Plan, samples: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Computes what an engine should answer.

    Args:
        graph: the model's, of codes.
        written: that the file is of. It is what runs, but on a DLA, which rounds and saturates
            as the model does.
    Returns: by output of the file, (samples, *shape).
    """
    if planned.precision != "dla":
        return run_reference(written, samples)
    answers = run_reference(graph, samples)
    return dict(zip(written.outputs, answers.values(), strict=True))


def allowed_difference(written: Graph, planned: Plan) -> float:
    """Gives the allowed difference of answers, as a share of the largest."""
    if rounds_in_fp16(written, planned):
        return ROUNDED_FP16_TOLERANCE
    return TOLERANCES[planned.precision]


def rounds_in_fp16(written: Graph, planned: Plan) -> bool:
    """Whether an engine computes codes, in float16."""
    return planned.precision == "fp16" and any(node.op == "quantize" for node in written.nodes)
