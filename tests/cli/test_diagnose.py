"""`kq diagnose`, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from keras_quant.cli.main import main
from keras_quant.emit.tflite.emit import emit_tflite
from tests.emit.random_graphs import small_classifier

pytestmark = pytest.mark.tensorflow


def kq(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "model.tflite").write_bytes(emit_tflite(small_classifier().graph()))
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 5, 3)).astype(np.uint8)
    np.savez(tmp_path / "images.npz", x_train=images)
    return tmp_path / "model.tflite"


def test_a_file_alone_is_listed_operator_by_operator(file: Path) -> None:
    result = kq("diagnose", file)
    assert result.exit_code == 0, result.output
    assert "CONV_2D" in result.stdout and "int8, 4 scales" in result.stdout
    assert "findings: none" in result.stdout
    assert "give images with --dataset" in result.stderr


@pytest.mark.slow
def test_layers_table_and_picture_are_written(file: Path) -> None:
    out = file.parent / "out"
    result = kq(
        *("diagnose", file, "--float", file, "--dataset", file.parent / "images.npz"),
        *("--out", out, "--json"),
    )
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    written = json.loads((out / "layers.json").read_text())
    assert printed == written
    assert written["images"] == 4 and written["breaks_at"] is None
    assert (out / "sqnr.png").stat().st_size > 1000


def test_a_file_that_cannot_be_read_ends_with_its_name(file: Path) -> None:
    file.write_bytes(b"no file")
    result = kq("diagnose", file)
    assert result.exit_code == 1
    assert "model.tflite" in result.stderr


def test_a_run_says_which_of_its_files_to_give(tmp_path: Path) -> None:
    (tmp_path / "run/export").mkdir(parents=True)
    (tmp_path / "run/export/model.tflite").write_bytes(b"")
    result = kq("diagnose", tmp_path / "run")
    assert result.exit_code == 2
    assert f"of the run, give {tmp_path}/run/export/model.tflite" in result.stderr


def test_another_kind_of_file_is_not_understood(tmp_path: Path) -> None:
    result = kq("diagnose", tmp_path / "net.pb", "--images", 0)
    assert result.exit_code == 2
    assert "is no .tflite or .onnx file" in result.stderr
    assert "--images is 0" in result.stderr


def test_options_of_other_files_do_not_go_with_a_keras_file(tmp_path: Path) -> None:
    result = kq("diagnose", tmp_path / "net.keras", "--float", "base", "--images", 8)
    assert result.exit_code == 2
    assert "--float, --images is for .tflite and .onnx files" in result.stderr
