from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_quant.errors import ModelError, RunError
from keras_quant.files import write_bytes, write_json
from keras_quant.jobs.paths import dataset_of, exported_file, files_of
from keras_quant.proof.record import digest
from keras_quant.runs import RunFolder, records
from tests.fake_runs import RECORD, make_run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with a model and two exported files, which hold nothing."""
    folder = RunFolder(make_run(tmp_path / "run"))
    for name in ("model.tflite", "model.onnx"):
        write_bytes(folder.export / name, name.encode())
    proofs = {
        form: {"file": name, "sha256": digest(name.encode()), "passed": True}
        for form, name in (("tflite", "model.tflite"), ("onnx", "model.onnx"))
    }
    write_json(folder.parity, proofs)
    return folder


def test_a_run_is_its_model_and_what_was_exported(run: RunFolder) -> None:
    names = ["model.keras", "model.tflite", "model.onnx"]
    assert [file.name for file in files_of(run.path)] == names


def test_proven_files_that_are_gone_or_others_are_all_told(run: RunFolder) -> None:
    run.tflite.unlink()
    write_bytes(run.export / "model.onnx", b"another")
    with pytest.raises(RunError) as caught:
        files_of(run.path)
    for part in (
        "model.tflite is missing, the file that parity.json says was proven",
        "model.onnx is not the file that parity.json says was proven",
        "kq export " + str(run.path) + " --to tflite,onnx --overwrite",
    ):
        assert part in str(caught.value)


def test_a_file_that_failed_may_be_gone(run: RunFolder) -> None:
    run.tflite.unlink()
    failed = {"file": "model.failed-parity.tflite", "sha256": "", "passed": False}
    write_json(run.parity, {"tflite": failed})
    assert len(files_of(run.path)) == 2


def test_a_folder_in_place_of_a_file_is_told_from_none(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(ModelError, match=r"model\.onnx: is a folder"):
        files_of(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"gone\.onnx: no such file"):
        files_of(tmp_path / "gone.onnx")


def test_an_exported_file_is_the_one_that_was_proven(run: RunFolder) -> None:
    assert exported_file(run.path, "onnx") == run.export / "model.onnx"
    write_bytes(run.export / "model.onnx", b"another")
    with pytest.raises(RunError, match=r"model\.onnx: is not the file that parity\.json"):
        exported_file(run.path, "onnx")
    with pytest.raises(RunError, match="no tensorrt file there. Export it: kq export"):
        exported_file(run.path, "tensorrt")


def test_pictures_of_fewer_pixels_are_averaged_from_their_own_size(tmp_path: Path) -> None:
    for place in range(20):
        name = tmp_path / "pictures" / "ab"[place % 2] / f"{place}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 10), place, np.uint8)).save(name)
    name = f"{tmp_path / 'pictures'}+4px"
    run = make_run(tmp_path / "run")
    dataset = replace(RECORD.dataset, name=name, input_shape=(4, 5, 1))
    records.save(replace(RECORD, dataset=dataset), run)
    assert dataset_of(run, None).input_shape == (4, 5, 1)
    assert dataset_of(run, None, whole=True).input_shape == (8, 10, 1)
    assert dataset_of(tmp_path, name, (4, 5)).input_shape == (4, 5, 1)
