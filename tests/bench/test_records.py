"""A record is read as it was written, and what is broken is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.bench.machine import Machine
from keras_quant.bench.records import (
    BenchRecord,
    Load,
    Measurement,
    from_text,
    load,
    save,
    to_text,
)
from keras_quant.bench.statistics import summarize
from keras_quant.bench.verdict import compare
from keras_quant.errors import RunError

ROUNDS = ("1000000 1100000", "1200000 900000")


def a_measurement(name: str = "a.tflite", factor: int = 1, **fields: Any) -> Measurement:
    rounds = tuple(to_text((from_text(text) * factor).tolist()) for text in ROUNDS)
    loads = tuple(Load(rounds=rounds) for _ in range(8))
    summary = summarize([[from_text(text) for text in one.rounds] for one in loads])
    known = {
        "name": name,
        "file": f"folder/{name}",
        "size_bytes": 5,
        "runtime": "litert",
        "threads": 1,
        "batch": 1,
        "kernels": ("XNNPACK",),
        "versions": {"ai-edge-litert": "2"},
        "input_shapes": {"image": (1, 8, 8, 1)},
        "summary": summary,
        "images_per_s": 1e3 / summary.mean_ms.value,
        "loads": loads,
    }
    return Measurement(**{**known, **fields})


def a_record(*measurements: Measurement, **fields: Any) -> BenchRecord:
    given = measurements or (a_measurement(), a_measurement("b.tflite", 2))
    first, last = given[0], given[-1]
    verdict = compare(last.name, first.name, loads=last.samples(), other_loads=first.samples())
    known = {
        "command": ("kq", "bench"),
        "created": "2026-01-01T00:00:00+00:00",
        "kq_version": "0",
        "machine": Machine(environment={"cpu": "x"}),
        "settings": {"duration_s": 1.0},
        "measurements": given,
        "verdicts": (verdict,),
    }
    return BenchRecord(**{**known, **fields})


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    save(a_record(), tmp_path / "bench.json")
    assert load(tmp_path / "bench.json") == a_record()


@given(st.lists(st.integers(1, 2**53), min_size=1))
def test_samples_come_back_as_they_were(samples: list[int]) -> None:
    assert from_text(to_text(samples)).tolist() == samples
    assert from_text(to_text(samples)).dtype == np.int64


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"loads\[0\]\.rounds\[0\] is not a text of whole nanoseconds above 0"),
        ("12 0", "not a text of whole nanoseconds"),
        ("12 -3", "not a text of whole nanoseconds"),
        ("12 9999999999999999999", "not a text of whole nanoseconds"),
        ("12 1e9", "not a text of whole nanoseconds"),
    ],
)
def test_samples_of_another_kind_are_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "bench.json"
    save(a_record(), path)
    content = json.loads(path.read_text())
    content["measurements"][0]["loads"][0]["rounds"][0] = text
    path.write_text(json.dumps(content))
    with pytest.raises(RunError, match=rf"bench\.json: a\.tflite: .*{told}"):
        load(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[]", "holds a list, and no object"),
        ("{", "not JSON .*Give a file that kq bench wrote"),
        ('{"format_version": 99}', "written by a newer kq"),
        ("{}", "machine: missing"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(content)
    with pytest.raises(RunError, match=told):
        load(path)
    with pytest.raises(RunError, match="cannot be read: No such file"):
        load(tmp_path / "gone.json")
