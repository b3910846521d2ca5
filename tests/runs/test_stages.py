"""stages.json: what is written is read, and what is broken is named."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keras_quant.errors import RunError
from keras_quant.files import write_json
from keras_quant.preprocessing import PREPROCESSINGS
from keras_quant.runs import stages
from keras_quant.runs.stages import Chain, Port, StagedFormat, StageFile, StagesRecord

IMAGE = Port(name="image", dtype="float32", shape=(8, 8, 1))
CODES = Port(name="codes", dtype="int8", shape=(4, 4, 2), scale=0.5, zero_point=-128)
ANSWER = Port(name="logits", dtype="float32", shape=(10,))
FIRST = StageFile(
    file="stage1.tflite",
    sha256="a" * 64,
    answer="logits",
    inputs=(IMAGE,),
    outputs=(ANSWER, CODES),
    macs=1000,
    bit_operations=32000,
)
CHAIN = Chain(images=9, codes_handed=90, codes_different=0, difference=0.0, top1_agreement=1.0)
RECORD = StagesRecord(
    kq_version="1",
    preprocess=PREPROCESSINGS["unit"],
    formats={"tflite": StagedFormat(graph_sha256="b" * 64, stages=(FIRST,), chain=CHAIN)},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / stages.FILE_NAME, RECORD)
    assert stages.load(tmp_path) == RECORD


def test_a_folder_without_one_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no stages\.json.*kq export RUN --stages"):
        stages.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("kq_version"), "kq_version: missing"),
        (lambda content: content.update(format_version=99), "written by a newer kq"),
        (lambda c: _first(c).update(file="../stage1.tflite"), "does not lie in the folder"),
        (lambda c: _first(c).update(file="/stage1.tflite"), "does not lie in the folder"),
        (lambda c: _first(c).update(answer="other"), "its answer 'other' is none of its outputs"),
        (lambda c: _first(c).update(inputs=[]), r"stage1\.tflite: has no inputs"),
        (lambda c: c["formats"]["tflite"].update(stages=[]), r"formats\.tflite\.stages: is empty"),
        (lambda c: _codes(c).update(lowest=0), "codes of 'codes', int8, are from 0 to None"),
        (lambda c: _codes(c).update(lowest=7, highest=7), "from 7 to 7; two codes of such"),
        (lambda c: _codes(c).update(lowest=-1000, highest=7), "from -1000 to 7; two codes of such"),
        (lambda c: _codes(c).update(dtype="float32", lowest=0, highest=7), "float32, are from 0"),
        (lambda c: _first(c).update(macs="many"), r"stages\[0\]\.macs: is 'many'"),
    ],
)
def test_what_is_broken_is_named(tmp_path: Path, change: Any, message: str) -> None:
    write_json(tmp_path / stages.FILE_NAME, RECORD)
    content = json.loads((tmp_path / stages.FILE_NAME).read_text())
    change(content)
    (tmp_path / stages.FILE_NAME).write_text(json.dumps(content))
    with pytest.raises(RunError, match=message):
        stages.load(tmp_path)


def test_formats_whose_files_are_there_still_are_kept(tmp_path: Path) -> None:
    content = b"a file"
    (tmp_path / FIRST.file).write_bytes(content)
    there = replace(FIRST, sha256=hashlib.sha256(content).hexdigest())
    staged = replace(RECORD.formats["tflite"], stages=(there,))
    write_json(tmp_path / stages.FILE_NAME, replace(RECORD, formats={"tflite": staged}))
    other = replace(RECORD, formats={"onnx": RECORD.formats["tflite"]})
    assert set(stages.with_others(other, tmp_path).formats) == {"tflite", "onnx"}
    # Those that failed now are not what they were.
    assert set(stages.with_others(other, tmp_path, tried=["tflite"]).formats) == {"onnx"}
    (tmp_path / FIRST.file).write_bytes(b"another file")
    assert set(stages.with_others(other, tmp_path).formats) == {"onnx"}
    (tmp_path / FIRST.file).unlink()
    assert set(stages.with_others(other, tmp_path).formats) == {"onnx"}
    assert stages.with_others(other, tmp_path / "nowhere") == other


def _codes(content: dict[str, Any]) -> dict[str, Any]:
    codes: dict[str, Any] = _first(content)["outputs"][1]
    return codes


def _first(content: dict[str, Any]) -> dict[str, Any]:
    stage: dict[str, Any] = content["formats"]["tflite"]["stages"][0]
    return stage
