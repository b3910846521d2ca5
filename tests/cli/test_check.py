"""`kq check`, as a user calls it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from keras_quant.cli.main import main
from keras_quant.emit.onnx_tensorrt.emit import emit_onnx_tensorrt
from keras_quant.emit.onnx_x86.emit import emit_onnx_x86
from keras_quant.targets import builder
from tests.emit.random_graphs import GraphBuilder
from tests.runners import stand_ins
from tests.runners.test_runners import keep_in


def kq(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    net = GraphBuilder(np.random.default_rng(0), (8, 8, 4), power_of_two=True)
    net.add_linear("conv2d", (3, 3, 4, 8))
    (tmp_path / "model.onnx").write_bytes(emit_onnx_tensorrt(net.graph()))
    return tmp_path / "model.onnx"


def test_a_good_file_passes(file: Path) -> None:
    result = kq("check", file, "--target", "tensorrt")
    assert result.exit_code == 0, result.output
    assert "no rule is broken" in result.stdout


def test_a_file_for_another_board_is_rejected(file: Path) -> None:
    result = kq("check", file, "--board", "nano")
    assert result.exit_code == 1
    assert "quantized-on-float-board" in result.stdout
    assert "model.onnx: TensorRT would reject this file" in result.stderr


@pytest.mark.slow
def test_remedy_is_told_once_for_all_that_break_a_rule(tmp_path: Path) -> None:
    net = GraphBuilder(np.random.default_rng(0), (8, 8, 4), power_of_two=True)
    net.add_linear("conv2d", (3, 3, 4, 8))
    net.add_linear("conv2d", (3, 3, 8, 8))
    file = tmp_path / "model.onnx"
    file.write_bytes(emit_onnx_x86(net.graph()))
    findings = json.loads(kq("check", file, "--json").stdout)["findings"]
    remedies = {finding["remedy"] for finding in findings}
    assert len(remedies) < len(findings)
    told = kq("check", file).stdout
    assert [told.count(remedy) for remedy in remedies] == [1] * len(remedies)


@pytest.mark.slow
def test_costs_are_told_apart_from_broken_rules(tmp_path: Path) -> None:
    net = GraphBuilder(np.random.default_rng(0), (8, 8, 3), power_of_two=True)
    net.add_linear("conv2d", (3, 3, 3, 8))
    file = tmp_path / "model.onnx"
    file.write_bytes(emit_onnx_tensorrt(net.graph()))
    result = kq("check", file)
    assert result.exit_code == 0, result.output
    assert "model.onnx: no rule is broken" in result.stdout
    assert "1 thing in it will cost time (predicted)" in result.stdout
    assert "reads 3 channels; int8 kernels take 4 at a time" in result.stdout
    (finding,) = json.loads(kq("check", file, "--json").stdout)["findings"]
    assert (finding["rule"], finding["effect"]) == ("padded-channels", "costs time")


@pytest.mark.slow
@pytest.mark.skipif(not builder.builder_is_installed(), reason="extra tensorrt is missing")
def test_layers_of_the_engine_are_told(file: Path) -> None:
    document = json.loads(kq("check", file, "--json").stdout)
    assert document["findings"] == []
    layers = [(layer["op"], layer["precision"]) for layer in document["builder"]["layers"]]
    assert layers == [("Conv", "Int8")]
    assert "strong evidence for other GPUs, no proof" in kq("check", file).stdout


def test_a_builder_that_dies_is_an_error_behind_what_was_found(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keras_quant.cli.check._CHECKS", stand_ins.__name__)
    monkeypatch.setattr(builder, "MODULE", "numpy")  # installed
    result = kq("check", file)
    assert result.exit_code == 1
    assert "model.onnx: 1 finding" in result.stdout
    assert "model.onnx: the process that opened it died by SIGSEGV" in result.stderr


DAMAGED: dict[str, Callable[[onnx.ModelProto], None]] = {
    "a node without inputs": lambda model: model.graph.node[0].ClearField("input"),
    "an initializer shorter than its shape": lambda model: setattr(
        model.graph.initializer[0], "raw_data", b""
    ),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_invalid_onnx_is_told(file: Path, damage: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(file)
    damage(model)
    onnx.save(model, file)
    result = kq("check", file)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "model.onnx: not valid ONNX" in result.stderr


def test_weights_outside_of_the_folder_are_refused(file: Path) -> None:
    content = keep_in(onnx.load(file), "../weights")
    file.write_bytes(content)
    result = kq("check", file)
    assert result.exit_code == 1
    assert "model.onnx: not valid ONNX" in result.stderr and "../weights" in result.stderr


def test_without_the_extra_the_rules_are_still_checked(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "MODULE", "no_such_module")
    result = kq("check", file)
    assert result.exit_code == 0
    assert "no rule is broken" in result.stdout
    assert "pip install 'keras_quant[tensorrt]'" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "exit_code", "helpful"),
    [
        (["gone.onnx"], 1, "gone.onnx: no such file"),
        (["gone.onnx", "--target", "tensor"], 2, "close names: tensorrt"),
    ],
)
def test_bad_argument_is_explained(arguments: list[str], exit_code: int, helpful: str) -> None:
    result = kq("check", *arguments)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert helpful in result.stderr
