from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from keras_quant import __version__
from keras_quant.cli.main import COMMANDS, main
from keras_quant.errors import KerasQuantError, ParityError, RunError, SchemeError, warn

ROOT = Path(__file__).parents[2]
RUN_KQ = [sys.executable, "-c", "from keras_quant.cli.main import main; main(prog_name='kq')"]


@pytest.fixture
def run_raising(monkeypatch: pytest.MonkeyPatch):
    """Runs `kq [options] broken`, a command that raises a given exception."""

    def run(error: BaseException, *options: str) -> Result:
        @click.command()
        def broken() -> None:
            raise error

        module = types.ModuleType("broken_module")
        module.broken = broken  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "broken_module", module)
        monkeypatch.setitem(COMMANDS, "broken", ("broken_module:broken", "Break."))
        return CliRunner().invoke(main, [*options, "broken"])

    return run


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [(RunError("no run"), 1), (SchemeError("no rule"), 2), (ParityError("codes differ"), 3)],
)
def test_our_errors_are_one_line_and_their_exit_code(
    run_raising, error: KerasQuantError, exit_code: int
) -> None:
    result = run_raising(error)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert result.stderr == f"error: {error}\n"


def test_unexpected_error_is_told_in_one_line_with_the_way_to_its_traceback(run_raising) -> None:
    result = run_raising(TypeError("bits"))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: TypeError: bits\n")
    assert "`kq --debug ...`" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("error", [TypeError("bits"), RunError("no run")])
def test_debug_shows_the_traceback_before_the_message(run_raising, error: Exception) -> None:
    result = run_raising(error, "--debug")
    trace, _, message = result.stderr.partition("\nerror: ")
    assert trace.startswith("Traceback (most recent call last)")
    assert str(error) in message
    assert result.exit_code == 1


def test_debug_can_be_asked_for_by_the_environment(
    run_raising, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KQ_DEBUG", "1")
    assert "Traceback" in run_raising(TypeError("bits")).stderr


def test_termination_ends_with_143_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def slow() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(main, "get_command", lambda *_: slow)
    result = CliRunner().invoke(main, ["models"])
    assert (result.exit_code, result.stderr) == (143, "error: terminated\n")
    assert signal.getsignal(signal.SIGTERM) is before


def test_interrupt_ends_with_130_and_one_line(run_raising) -> None:
    result = run_raising(KeyboardInterrupt())
    assert (result.exit_code, result.stderr) == (130, "error: interrupted\n")


def test_unknown_command_suggests_close_names() -> None:
    result = CliRunner().invoke(main, ["modls"])
    assert result.exit_code == 2
    assert "no command 'modls'; close names: models" in result.stderr


def test_unknown_option_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["models", "--colour"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "No such option" in result.stderr and "--colour" in result.stderr


def test_version_is_printed() -> None:
    assert CliRunner().invoke(main, ["--version"]).stdout == f"kq, version {__version__}\n"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_closed_pipe_is_no_error_to_talk_about(options: list[str]) -> None:
    process = subprocess.Popen(
        [*RUN_KQ, "models", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    told = process.stderr.read()
    process.stderr.close()
    process.wait()
    assert "Traceback" not in told
    assert "error" not in told.lower()


def test_a_warning_of_the_library_is_one_line_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def two_warnings() -> None:
        warn("layers were left out")
        warn("layers were left out")

    monkeypatch.setattr(main, "get_command", lambda *_: two_warnings)
    result = CliRunner().invoke(main, ["models"])
    assert (result.exit_code, result.stderr) == (0, "warning: layers were left out\n")
