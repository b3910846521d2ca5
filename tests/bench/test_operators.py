"""Profiles, read as ONNX Runtime writes them and as LiteRT lists operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from keras_quant.bench import worker
from keras_quant.bench.operators import Operator, described, explained, from_events
from keras_quant.emit.onnx_x86.emit import emit_onnx_x86
from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.emit.tflite.options import TFLiteOptions
from tests.emit.random_graphs import small_classifier
from tests.runners.test_runners import pixels_to_four_bits

CONVERSION = "conversion: it was fused with no neighbour"
ISLAND = "float island: it multiplies floats in a file of codes"
PASS = "not fused: a pass over all values of its own"


def event(name: str, op: str, dur: int, reads: list[str], gives: str) -> dict[str, Any]:
    """One event, as ONNX Runtime 1.32 writes it."""
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "dur": dur,
        "args": {
            "op_name": op,
            "input_type_shape": [{kind: [1, 8]} for kind in reads],
            "output_type_shape": [{gives: [1, 8]}],
        },
    }


def test_times_are_medians_behind_the_runs_that_do_not_count() -> None:
    events = [{"cat": "Session", "name": "model_run", "dur": 1000}]
    for slow, fast in ((90, 9), (40, 1), (30, 2), (35, 1)):
        events.append(event("conv", "QLinearConv", slow, ["uint8", "float", "int8"], "uint8"))
        events.append(event("clip", "Clip", fast, ["uint8", "uint8"], "uint8"))
    conv, clip = from_events(events, skip=1)
    assert (conv.name, conv.op, conv.time_us, conv.share) == ("conv", "QLinearConv", 35, 35 / 36)
    assert conv.types == "uint8, float32, int8 -> uint8"
    assert (clip.time_us, clip.why) == (1, PASS)


def test_types_are_named_once_and_as_numpy_does() -> None:
    assert described(["float", "double", "float"], ["int8"]) == "float32, float64 -> int8"


def operators(*kinds: tuple[str, str]) -> list[Operator]:
    return [Operator(name=op.lower(), op=op, types=types) for op, types in kinds]


def test_each_reason_is_told() -> None:
    found = explained(
        operators(
            ("QuantizeLinear", "float32 -> uint8"),
            ("QLinearConv", "uint8, float32, int8, int32 -> uint8"),
            ("DequantizeLinear", "uint8, float32 -> float32"),
            ("Conv", "float32 -> float32"),
            ("QuantizeLinear", "float32, uint8 -> uint8"),
            ("Clip", "uint8 -> uint8"),
            ("DequantizeLinear", "uint8, float32 -> float32"),
        )
    )
    assert [one.why for one in found] == ["", "", CONVERSION, ISLAND, CONVERSION, PASS, ""]


def test_a_file_of_floats_has_no_islands() -> None:
    (found,) = explained(operators(("Conv", "float32 -> float32")))
    assert found.why == ""


def test_onnxruntime_gives_times_and_types(tmp_path: Path) -> None:
    graph = small_classifier().graph()
    (tmp_path / "model.onnx").write_bytes(emit_onnx_x86(graph))
    specs = {name: ["float32", [1, *graph.tensors[name].shape]] for name in graph.inputs}
    found = worker.profile(
        tmp_path / "model.onnx", runtime="onnxruntime", threads=1, inputs=specs, runs=2
    ).operators
    convolutions = [one for one in found if one.op == "QLinearConv"]
    assert convolutions and all(one.types.startswith("uint8") for one in convolutions)
    assert sum(one.share or 0 for one in found) == pytest.approx(1)
    assert ISLAND not in {one.why for one in found}


def test_litert_names_what_xnnpack_leaves_to_builtin_kernels(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(emit_tflite(pixels_to_four_bits(), options=TFLiteOptions(input="uint8")))
    found = worker.profile(path, runtime="litert", threads=1, inputs={}, runs=2).operators
    assert all(one.time_us is None for one in found)
    builtin = [one for one in found if one.why == "builtin kernel: XNNPACK does not take it"]
    assert [(one.op, one.types) for one in builtin] == [("QUANTIZE", "uint8 -> int8")]
