"""docs/operations.md describes each operation, for each target."""

from __future__ import annotations

from pathlib import Path

import pytest

from keras_quant.emit.onnx_tensorrt.ops import OP_EMITTERS as TENSORRT
from keras_quant.emit.onnx_x86.ops import OP_EMITTERS as ONNX
from keras_quant.emit.tflite.ops import OP_EMITTERS as TFLITE
from keras_quant.graph.ops import OPS
from keras_quant.proof.formats import FORMATS

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
EMITTERS = {"tflite": TFLITE, "onnx": ONNX, "tensorrt": TENSORRT}
FLOATS_ONLY = {"relu", "clip", "pointwise", "softmax"}
VERDICTS = ("exact", "float sums")  # what each target's cell says of an operation of codes


def rows() -> dict[str, list[str]]:
    """The cells of each operation: its Keras layers, and what it becomes in each format."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    table = [line.strip("|").split("|") for line in lines if line.startswith("| `")]
    return {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in table}


def test_each_operation_has_one_row_and_each_row_an_operation() -> None:
    assert sorted(rows()) == sorted(OPS)


def test_each_format_has_a_column() -> None:
    assert set(EMITTERS) == set(FORMATS)
    assert {len(cells) for cells in rows().values()} == {1 + len(FORMATS)}


@pytest.mark.parametrize("op", OPS)
def test_each_cell_says_how_exact_an_operation_of_codes_is(op: str) -> None:
    layers, *targets = rows()[op]
    assert layers
    for (name, emitters), cell in zip(EMITTERS.items(), targets, strict=True):
        assert (op in emitters) == bool(cell), name
        assert op in FLOATS_ONLY or any(verdict in cell for verdict in VERDICTS), name
