"""What every command promises, tested over the table of commands."""

from __future__ import annotations

import re

import click
import pytest
from click.testing import CliRunner

from keras_quant.cli.main import COMMANDS, main


def loaded(name: str) -> click.Command:
    """The click command of that name."""
    command = main.get_command(click.Context(main), name)  # type: ignore[attr-defined]
    assert command is not None
    return command


def test_help_lists_every_command() -> None:
    listed = CliRunner().invoke(main, ["--help"]).stdout
    assert all(f"  {name} " in listed for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_command_has_the_name_and_the_summary_of_the_table(name: str) -> None:
    command = loaded(name)
    assert command.name == name
    summary = (command.help or "").partition("\n\n")[0]
    assert " ".join(summary.split()) == COMMANDS[name][1]


@pytest.mark.parametrize("name", COMMANDS)
def test_command_takes_json(name: str) -> None:
    assert "--json" in {option for param in loaded(name).params for option in param.opts}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example_of_the_command(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert re.search(rf"^  Examples?:\n    kq {name}\b", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help(name: str) -> None:
    options = [param for param in loaded(name).params if isinstance(param, click.Option)]
    assert [option.name for option in options if not option.help] == []
