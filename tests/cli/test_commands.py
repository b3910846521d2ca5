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


def _leaves(name: str) -> list[tuple[str, ...]]:
    command = loaded(name)
    if isinstance(command, click.Group):
        return [(name, inner) for inner in command.commands]
    return [(name,)]


LEAVES = [leaf for name in COMMANDS for leaf in _leaves(name)]
"""What is typed for each command; of groups, each of theirs."""


def leaf(names: tuple[str, ...]) -> click.Command:
    command = loaded(names[0])
    return command.commands[names[1]] if isinstance(command, click.Group) else command


def test_help_lists_every_command() -> None:
    listed = CliRunner().invoke(main, ["--help"]).stdout
    assert all(f"  {name} " in listed for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_command_has_the_name_and_the_summary_of_the_table(name: str) -> None:
    command = loaded(name)
    assert command.name == name
    summary = (command.help or "").partition("\n\n")[0]
    assert " ".join(summary.split()) == COMMANDS[name][1]


@pytest.mark.parametrize("names", LEAVES, ids=" ".join)
def test_command_takes_json(names: tuple[str, ...]) -> None:
    assert "--json" in {option for param in leaf(names).params for option in param.opts}


@pytest.mark.parametrize("names", [*LEAVES, ("anytime",), ("runs",)], ids=" ".join)
def test_help_shows_an_example_of_the_command(names: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*names, "--help"])
    assert result.exit_code == 0
    typed = " ".join(names)
    assert re.search(rf"^  Examples?:\n    kq {typed}\b", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("names", LEAVES, ids=" ".join)
def test_every_option_has_help(names: tuple[str, ...]) -> None:
    options = [param for param in leaf(names).params if isinstance(param, click.Option)]
    assert [option.name for option in options if not option.help] == []
