"""Functions that jump: files take the same side of the step as the reference, float by float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.graph.pointwise import HALTED, POINTWISE
from keras_quant.graph.reference import run_reference
from keras_quant.proof.formats import FORMATS
from keras_quant.proof.parity import FLOAT_CODE_TOLERANCE, codes_tolerance
from keras_quant.runners.litert import LiteRTRunner
from keras_quant.runners.onnxruntime import OnnxRuntimeRunner

JUMPING = [name for name, function in POINTWISE.items() if function.jumps]
RUNNERS = {"tflite": LiteRTRunner, "onnx": OnnxRuntimeRunner}


def around_the_step() -> np.ndarray:
    """The 20 floats on either side of it, and others far and near."""
    below = above = np.float32(HALTED)
    found = [below]
    for _ in range(20):
        below, above = np.nextafter(below, np.float32(0)), np.nextafter(above, np.float32(2))
        found += [below, above]
    others = np.linspace(-1, 2.5, 200)
    return np.float32([*found, *others, 0, -0.0, 1e-30, 1e6, -1e6])[:, None]


def of_floats(function: str) -> Graph:
    return Graph(
        name="step",
        inputs=("x",),
        outputs=("y",),
        tensors={name: Tensor(name=name, shape=(1,)) for name in ("x", "y")},
        nodes=(
            Node(name="f", op="pointwise", inputs=("x",), output="y", attrs={"function": function}),
        ),
    )


@pytest.mark.parametrize("name", RUNNERS)
@pytest.mark.parametrize("function", JUMPING)
def test_files_jump_at_the_very_float_of_the_reference(
    function: str, name: str, tmp_path: Path
) -> None:
    graph, x = of_floats(function), around_the_step()
    path = tmp_path / f"model{FORMATS[name].suffix}"
    path.write_bytes(FORMATS[name].definition.emit(graph))
    (found,) = RUNNERS[name](path).run({"x": x}).values()
    assert np.array_equal(found, run_reference(graph, {"x": x})["y"])


def test_sums_of_floats_may_end_on_the_other_side_of_a_step() -> None:
    assert len(JUMPING) == 4
    assert codes_tolerance(of_floats("is_on")) == FLOAT_CODE_TOLERANCE
    assert codes_tolerance(of_floats("sigmoid")) == 0
