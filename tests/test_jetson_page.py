"""docs/jetson.md: its commands are commands of kq, and its table is that of the versions."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from keras_quant.cli.main import COMMANDS, main
from keras_quant.emit.bundle.texts import build_flags
from keras_quant.targets.tensorrt import VERSIONS, TensorRTOptions, plan

PAGE = (Path(__file__).parents[1] / "docs" / "jetson.md").read_text(encoding="utf-8")
LINES = [
    line.strip().partition("#")[0].strip()
    for line in PAGE.splitlines()
    if line.startswith("    kq ")
]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if re.match(r"\| \d\.\d", line)
]


def test_the_page_has_commands() -> None:
    assert {shlex.split(line)[1] for line in LINES} >= {
        *("export", "check", "bench", "import-results", "engine")
    }


@pytest.mark.parametrize("line", LINES)
def test_every_command_is_understood(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    assert name in COMMANDS
    command = main.get_command(click.Context(main), name)  # type: ignore[attr-defined]
    context = command.make_context(name, arguments)
    given = context.params
    if name == "export":
        options = TensorRTOptions(version=given["trt"], board=given["board"])
        assert plan(options).board == given["board"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[3]} {row[2][:4]}")
def test_a_row_says_what_trtexec_gets(row: list[str]) -> None:
    jetpacks, _, boards, version, flags, _ = row
    assert VERSIONS[version].jetpacks == jetpacks
    board = "nano" if "no int8" in boards else None
    planned = plan(TensorRTOptions(version=version, board=board))
    named = {flag for flag in re.findall(r"`(--\w+)`", flags)}
    assert named == {flag for flag in build_flags(planned) if flag != "--noTF32"}


def test_every_version_has_a_row() -> None:
    assert {row[3] for row in ROWS} == VERSIONS.keys() - {"10.x", "11"}
