"""Versions and boards: what goes together, and what precision comes of it."""

from __future__ import annotations

import pytest

from keras_quant.emit.onnx_tensorrt.emit import OPSET
from keras_quant.errors import UsageError
from keras_quant.targets.jetson import BOARDS
from keras_quant.targets.tensorrt import VERSIONS, TensorRTOptions, plan


@pytest.mark.parametrize("board", BOARDS)
def test_every_board_has_a_plan(board: str) -> None:
    planned = plan(TensorRTOptions(board=board))
    assert planned.version in BOARDS[board].tensorrt
    assert planned.precision == ("int8" if BOARDS[board].int8 else "fp16")
    assert bool(planned.reason) == (planned.precision == "fp16")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_takes_the_opset_that_is_written(version: str) -> None:
    low, high = VERSIONS[version].opsets
    assert low <= OPSET <= high


def test_boards_name_versions_that_are_known() -> None:
    assert {v for board in BOARDS.values() for v in board.tensorrt} <= VERSIONS.keys()


@pytest.mark.parametrize(
    ("board", "version"), [("agx-orin", "10.3"), ("xavier-nx", "8.5"), ("thor", "10.x")]
)
def test_a_board_gets_the_version_to_expect_there(board: str, version: str) -> None:
    assert plan(TensorRTOptions(board=board)).version == version


def test_a_dla_has_a_precision_of_its_own() -> None:
    planned = plan(TensorRTOptions(board="xavier-nx", dla=True))
    assert (planned.version, planned.precision) == ("8.5", "dla")


@pytest.mark.parametrize(
    ("options", "helpful"),
    [
        (TensorRTOptions(version="8.4"), "--trt '8.4' is not known; close names: 8."),
        (TensorRTOptions(board="orin"), "--board 'orin' is not known; close names: "),
        (TensorRTOptions(board="nano", version="8.5"), "JetPack brings 8.2 to nano"),
        (TensorRTOptions(dla=True), "--dla: no board given; these have one: xavier-nx"),
        (TensorRTOptions(board="orin-nano", dla=True), "--dla: orin-nano; these have one"),
        (
            TensorRTOptions(board="agx-orin", dla=True, version="10.x"),
            "TensorRT 10.x drives none; these do: 8.2, 8.5, 8.6, 10.3",
        ),
    ],
)
def test_what_does_not_go_together_is_explained(options: TensorRTOptions, helpful: str) -> None:
    with pytest.raises(UsageError) as error:
        plan(options)
    assert helpful in str(error.value)
