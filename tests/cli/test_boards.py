"""`kq boards`, as a user calls it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from keras_quant.cli.main import main
from keras_quant.targets.jetson import BOARDS


def kq(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_each_board_has_a_line() -> None:
    result = kq("boards")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["board", *BOARDS]


def test_a_board_without_int8_has_no_peak_of_it() -> None:
    lines = kq("boards").stdout.splitlines()
    column = lines[0].index("int8 TOPS") + len("int8 TOPS")
    peaks = {line.split()[0]: line[:column].split()[-1] for line in lines[1:]}
    assert {name for name, peak in peaks.items() if peak == "-"} == {"nano", "tx1", "tx2"}


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_is_shown_with_its_modes_and_sources(name: str) -> None:
    result = kq("boards", name)
    assert result.exit_code == 0, result.output
    for mode in BOARDS[name].modes:
        assert f"{mode.name}" in result.stdout
        assert f"{mode.gpu_mhz:g}" in result.stdout
        assert str(mode.source) in result.stdout
    # Each number of a source stands in the list below.
    cited = {word for word in result.stdout.split() if word.startswith("[")}
    listed = {line.split()[0] for line in result.stdout.splitlines() if line.startswith("[")}
    assert cited == listed


def test_json_tells_figures_with_sources() -> None:
    one = json.loads(kq("boards", "orin-nano", "--json").stdout)
    assert one["sources"]["sms"]["text"].startswith("nvpmodel_p3701")
    assert one["modes"][0]["peak_tops"]["int8"] == pytest.approx(33.4, abs=0.1)
    every = json.loads(kq("boards", "--json").stdout)
    assert list(every) == list(BOARDS) and every["nano"]["int8"] is False


def test_an_unknown_board_is_named_with_those_that_are_known() -> None:
    result = kq("boards", "xavier")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: board 'xavier' is not known; close names: ")
    assert "agx-xavier" in result.stderr
