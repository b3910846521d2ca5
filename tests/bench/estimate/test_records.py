"""Estimates are records of their own kind, which come back as they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from keras_quant.bench import records as measured
from keras_quant.bench.estimate.fusion import fuse
from keras_quant.bench.estimate.parameters import load_fitted
from keras_quant.bench.estimate.predict import estimate
from keras_quant.bench.estimate.records import EstimateRecord, file_name, find, load, save
from keras_quant.errors import RunError
from keras_quant.graph.ir import Graph
from keras_quant.targets.jetson import find_board, find_mode
from tests.bench.estimate.graphs import residual
from tests.bench.test_records import a_record


def an_estimate(
    *, board: str = "orin-nano", graph: Graph | None = None, name: str = "net", **fields: Any
) -> EstimateRecord:
    """Of a small graph, in all precisions of the board."""
    known, mode = find_board(board), find_mode(board, None)
    content: dict[str, Any] = {
        "command": ("kq", "bench"),
        "created": "2026-01-01T00:00:00+00:00",
        "kq_version": "0",
        "board": board,
        "title": known.title,
        "power_mode": mode.name,
        "gpu_mhz": mode.gpu_mhz,
        "memory_mhz": mode.memory_mhz,
        "sms": mode.sms,
        "fitted": load_fitted(),
        "estimates": estimate(
            name,
            fuse(graph or residual(bits=4)),
            board=known,
            mode=mode,
            precisions=known.precisions,
            batch=1,
            fitted=load_fitted(),
        ),
        "versions": {},
    }
    return EstimateRecord(**{**content, **fields})


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    save(an_estimate(), tmp_path / file_name("orin-nano"))
    save(an_estimate(board="nano"), tmp_path / file_name("nano"))
    assert load(tmp_path / "estimate-orin-nano.json") == an_estimate()
    assert list(find(tmp_path)) == ["nano", "orin-nano"]


def test_neither_kind_of_record_is_read_as_the_other(tmp_path: Path) -> None:
    measured.save(a_record(), tmp_path / "measured.json")
    save(an_estimate(), tmp_path / "estimate.json")
    with pytest.raises(RunError, match="kind is None, not 'estimate'.*kq bench --estimate wrote"):
        load(tmp_path / "measured.json")
    with pytest.raises(RunError, match="estimates: unknown field"):
        measured.load(tmp_path / "estimate.json")


def test_a_broken_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "estimate-nano.json"
    save(an_estimate(), path)
    content = json.loads(path.read_text())
    content["estimates"][0]["estimate_ms"] = "fast"
    path.write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"estimates\[0\].estimate_ms.*a number"):
        load(path)


def test_the_interval_holds_the_estimate_and_layers_add_up() -> None:
    record = an_estimate()
    for one in record.estimates:
        assert one.low_ms < one.estimate_ms < one.high_ms
        assert one.high_ms / one.low_ms == pytest.approx(record.fitted.spread.factor**2)
        assert sum(layer.time_us for layer in one.layers) == pytest.approx(1e3 * one.estimate_ms)
        for layer in one.layers:
            parts = {
                "arithmetic": layer.arithmetic_us,
                "memory": layer.memory_us,
                "launch": layer.launch_us,
            }
            assert parts[layer.bound] == max(parts.values())
            assert layer.time_us == pytest.approx(
                max(layer.arithmetic_us, layer.memory_us) + layer.launch_us
            )


def test_speed_up_is_over_fp32_of_the_same_net() -> None:
    by_precision = {one.precision: one for one in an_estimate().estimates}
    slow, fast = by_precision["fp32"], by_precision["int8"]
    assert slow.speed_up == 1
    assert fast.speed_up == pytest.approx(slow.estimate_ms / fast.estimate_ms)


def test_what_is_not_as_expected_is_told() -> None:
    floats = an_estimate(graph=residual()).estimates[-1]
    assert "int8 is what it would take quantized throughout" in " ".join(floats.notes)
    wide = an_estimate(graph=residual(bits=16)).estimates[-1]
    assert "in fp16, as they read or multiply floats: conv1, conv2, logits" in wide.notes
    assert "launching kernels" in " ".join(wide.notes)
    thor = an_estimate(board="thor").estimates[0]
    assert "no figure of a Blackwell GPU" in " ".join(thor.notes)
