"""parity.json, whatever is in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keras_quant.proof.record import digest, is_recorded, read_records

GOOD = {"file": "model.tflite", "sha256": digest(b"content")}


def test_a_record_is_of_the_file_that_was_proven(tmp_path: Path) -> None:
    (tmp_path / "parity.json").write_text(json.dumps({"tflite": GOOD}))
    (record,) = read_records(tmp_path).values()
    assert not is_recorded(tmp_path, record)
    (tmp_path / "model.tflite").write_bytes(b"content")
    assert is_recorded(tmp_path, record)


@pytest.mark.parametrize(
    "content", ["", "[]", "3", "{", "[" * 50_000, '{"tflite": 3}', '{"tflite": {"file": "a"}}']
)
def test_a_broken_file_records_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "parity.json").write_text(content)
    assert read_records(tmp_path) == {}


@pytest.mark.parametrize("name", ["/etc/passwd", "../model.tflite", "", "a\0b", "x" * 300, 3, None])
def test_a_record_of_what_is_no_file_of_the_folder_counts_for_nothing(
    tmp_path: Path, name: object
) -> None:
    records = {"tflite": GOOD, "onnx": {**GOOD, "file": name}}
    (tmp_path / "parity.json").write_text(json.dumps(records))
    assert read_records(tmp_path) == {"tflite": GOOD}
