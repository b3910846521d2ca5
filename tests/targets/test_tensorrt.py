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
        (TensorRTOptions(board="orin-nano", version="11.4"), "JetPack brings 10.3 and 8.5"),
        (TensorRTOptions(board="xavier-nx", version="10.13"), "JetPack brings 8.5 and 8.2"),
        (
            TensorRTOptions(board="thor", version="11.4", dla=True),
            "--dla: thor; these have one: xavier-nx",
        ),
        (TensorRTOptions(board="agx-orin", version="11", dla=True), "TensorRT 11 drives none"),
        (TensorRTOptions(board="agx-orin", dla=True, half=True), "--dla and --fp16: give one"),
        (TensorRTOptions(dla=True), "--dla: no board given; these have one: xavier-nx"),
        (TensorRTOptions(board="orin-nano", dla=True), "--dla: orin-nano; these have one"),
        (
            TensorRTOptions(board="agx-orin", dla=True, version="10.x"),
            "TensorRT 10.x drives none; these do: 8.2, 8.5, 8.6, 10.3, 11.4",
        ),
    ],
)
def test_what_does_not_go_together_is_explained(options: TensorRTOptions, helpful: str) -> None:
    with pytest.raises(UsageError) as error:
        plan(options)
    assert helpful in str(error.value)


VERSIONED = [
    # version, board, precision, whether types of fp16 are in the file
    ("8.2", "nano", "fp16", False),
    ("8.2", "xavier-nx", "int8", False),
    ("8.5", "agx-xavier", "int8", False),
    ("8.6", "orin-nano", "int8", False),
    ("10.3", "orin-nx", "int8", False),
    ("10.13", "thor", "int8", False),
    ("10.16", "thor", "int8", False),
    ("10.16", "orin-nano", "int8", False),
    ("11", "thor", "int8", False),
    ("11.4", "agx-orin", "int8", False),
]


def test_every_version_is_in_the_table() -> None:
    assert {version for version, *_ in VERSIONED} | {"10.x"} == VERSIONS.keys()
    assert all(version.jetpacks for version in VERSIONS.values())


@pytest.mark.parametrize(("version", "board", "precision", "typed"), VERSIONED)
def test_a_version_goes_with_the_boards_that_get_it(
    version: str, board: str, precision: str, typed: bool
) -> None:
    planned = plan(TensorRTOptions(version=version, board=board))
    assert (planned.version, planned.precision, planned.typed_half) == (version, precision, typed)


@pytest.mark.parametrize(
    ("version", "dla", "typed"),
    [
        ("8.5", False, False),
        ("10.3", False, False),
        ("11", False, True),
        ("11.4", False, True),
        ("11.4", True, True),
    ],
)
def test_from_11_on_types_of_fp16_are_in_the_file(version: str, dla: bool, typed: bool) -> None:
    planned = plan(TensorRTOptions(version=version, board="agx-orin", dla=dla, half=not dla))
    assert (planned.typed_half, planned.precision) == (typed, "dla" if dla else "fp16")
    assert planned.reason
