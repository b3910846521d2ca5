"""`kq export` and `kq evaluate`, as a user calls one after the other."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest
from ai_edge_litert.interpreter import Interpreter
from click.testing import CliRunner, Result

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.cli.main import main  # noqa: E402
from keras_quant.emit.tflite.emit import emit_tflite  # noqa: E402
from keras_quant.lower import lower  # noqa: E402
from keras_quant.model.files import save_model  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from keras_quant.zoo import build  # noqa: E402


def kq(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    keras.utils.set_random_seed(0)
    save_model(build("mlp", (8, 8, 1), 10), tmp_path / "model.keras")
    return tmp_path / "model.keras"


@pytest.mark.slow
def test_exported_file_is_proven_and_evaluated(tmp_path: Path, model: Path) -> None:
    result = kq("export", model, "--dataset", "digits", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "top-1 reference" in result.stdout
    assert f"ai-edge-litert {version('ai-edge-litert')}" in result.stdout
    table = kq("evaluate", tmp_path / "out" / "model.tflite", "--dataset", "digits").stdout
    assert "XNNPACK" in table.splitlines()[1]
    rows = [
        json.loads(kq("evaluate", file, "--dataset", "digits", "--json").stdout)
        for file in (model, tmp_path / "out" / "model.tflite")
    ]
    scores = [row[0]["outputs"][0]["scores"] for row in rows]
    assert scores[0]["accuracy"] == scores[1]["accuracy"]


def test_layers_are_shown_for_each_target(tmp_path: Path, model: Path) -> None:
    out = ("--out", tmp_path / "out", "--images", "20")
    result = kq("export", model, "--dataset", "digits", "--to", "tflite,onnx", "--layers", *out)
    assert result.exit_code == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()[2:4]] == ["tflite", "onnx"]
    assert "different, onnx" in result.stdout


def test_a_file_for_a_dla_says_what_was_compared(tmp_path: Path, model: Path) -> None:
    out = ("--dataset", "digits", "--out", tmp_path / "out", "--images", "20")
    result = kq("export", model, *out, "--to", "tensorrt", "--board", "orin-nx", "--dla")
    assert result.exit_code == 0, result.stderr
    assert "it rounds and saturates by calibration.cache" in result.stderr
    assert "the file in float32, without that rounding" in result.stderr


@pytest.mark.slow
def test_a_file_typed_fp16_says_what_was_compared(tmp_path: Path, model: Path) -> None:
    out = ("--dataset", "digits", "--out", tmp_path / "out", "--images", "20")
    result = kq("export", model, *out, "--to", "tensorrt", "--trt", "11.4", "--fp16")
    assert result.exit_code == 0, result.stderr
    assert "fp16 was asked for" in result.stderr
    assert "what is compared is model.onnx, in float32; model.fp16.onnx" in result.stderr
    assert (tmp_path / "out" / "tensorrt" / "model.fp16.onnx").is_file()


def test_each_target_gets_its_options(tmp_path: Path, model: Path) -> None:
    out = ("--dataset", "digits", "--out", tmp_path / "out", "--images", "20")
    options = ("--batch", "1", "--board", "nano", "--to", "tflite,tensorrt")
    result = kq("export", model, *out, *options)
    assert result.exit_code == 0, result.stderr
    note = "tensorrt/ holds a model of floats: the GPU of nano"
    assert note in result.stderr
    assert "is not exact" not in result.stderr  # a float model has no codes
    manifest = json.loads((tmp_path / "out" / "tensorrt" / "manifest.json").read_text())
    assert manifest["board"] == "nano"
    (given,) = Interpreter(str(tmp_path / "out" / "model.tflite")).get_input_details()
    assert given["shape_signature"].tolist() == [1, 8, 8, 1]


def test_json_is_one_document(tmp_path: Path, model: Path) -> None:
    arguments = ("--dataset", "digits", "--images", "20", "--out", tmp_path / "out", "--json")
    whole = json.loads(kq("export", model, *arguments).stdout)
    (done,) = whole["files"]
    assert whole["keras"]["scores"] == whole["keras"]["given_scores"]
    assert done["path"] == str(tmp_path / "out" / "model.tflite")
    assert (done["parity"]["images"], done["parity"]["passed"]) == (20, True)


def test_failed_gate_is_exit_code_3(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = lower(build("mlp", (8, 8, 1), 10))  # the same net with other weights
    monkeypatch.setattr(
        "keras_quant.proof.formats.tflite.emit_tflite",
        lambda graph, **options: emit_tflite(other, **options),
    )
    result = kq("export", model, "--dataset", "digits", "--out", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "model.failed-parity.tflite: the file does not answer as the model" in result.stderr
    assert not (tmp_path / "out" / "model.tflite").exists()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "helpful"),
    [
        (["export", "models/gone"], 1, "models/gone: no such run"),
        (["export", "models/gone", "--to", "tflit"], 2, "close names: tflite"),
        (["export", "models/gone", "--to", "tflite,onx"], 2, "close names: onnx"),
        (["export", "model.keras", "--images", "-1"], 2, "--images"),
        (["export", "models/gone", "--board", "nano"], 2, "--board is for tensorrt; give it with"),
        (["export", "models/gone", "--pack", "tiny"], 2, "pack is 'tiny'; none, fast, smallest"),
        (["export", "models/gone", "--batch", "few"], 2, "--batch is 'few'; a number of images"),
        (["export", "models/gone", "--to", "onnx", "--head", "int8"], 2, "--head is for tflite"),
        (
            ["export", "models/gone", "--to", "tensorrt", "--board", "orin"],
            *(2, "--board 'orin' is not known; close names: orin-nx"),
        ),
        (["evaluate", "models/gone"], 1, "models/gone: no such run folder"),
        (["evaluate", "gone.tflite"], 1, "gone.tflite: no such file"),
    ],
)
def test_bad_argument_is_explained(arguments: list[str], exit_code: int, helpful: str) -> None:
    result = kq(*arguments)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert helpful in result.stderr
    assert "bug of kq" not in result.stderr


def test_options_of_integer_files_do_not_go_with_a_plain_kind(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["export", str(tmp_path / "m.keras"), "--kind", "fp16", "--pack", "none", "--stages"]
    )
    assert result.exit_code == 2
    assert (
        "--pack, --stages goes with integer files; leave it out with --kind fp16" in result.stderr
    )
