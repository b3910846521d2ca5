from __future__ import annotations

import errno
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


def test_what_the_system_refuses_is_told_with_the_path_and_what_to_do(run_raising) -> None:
    result = run_raising(PermissionError(errno.EACCES, "Permission denied", "models/closed"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: models/closed: Permission denied. You need the right to read and write there, or "
        "give another path.\n"
    )


@pytest.mark.parametrize("words", [("runs", "list"), ("engine",), ("run",), ("import-results",)])
def test_a_name_that_is_too_long_is_no_bug_of_ours(words: tuple[str, ...]) -> None:
    name = "n" * 300
    result = CliRunner().invoke(main, [*words, name])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {name}")
    assert result.stderr.endswith(": File name too long. Give a shorter path.\n")


def test_a_file_that_is_not_there_inside_of_a_command_is_still_called_a_bug(run_raising) -> None:
    result = run_raising(FileNotFoundError(errno.ENOENT, "No such file or directory", "ours.json"))
    assert "This is a bug of kq" in result.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("bench", "m.tflite", "--output", "gone/b.json"), "gone/b.json: there is no folder gone"),
        (("bench", "m.tflite", "--output", "folder"), "'folder' is a directory"),
        (("import-results", "b", "--output", "file/b.json"), "file is a file, not a folder"),
        (("search", "r", "--budget", "size=1", "--out", "gone/s.yaml"), "there is no folder gone"),
        (("runs", "list", "--csv", "gone/r.csv"), "there is no folder gone"),
        (("plot", "accuracy-bits", "--out", "file/new/p.png"), "file is a file, not a folder"),
        (("anytime", "cut", "r", "--plot", "file/p.png"), "file is a file, not a folder"),
    ],
)
def test_what_cannot_be_written_at_the_end_is_told_at_the_start(
    words: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, words)
    assert (result.exit_code, told in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("train",),
        ("quantize", "r"),
        ("sweep",),
        ("export", "r"),
        ("diagnose", "m.tflite"),
        ("run", "recipe.yaml"),
        ("report",),
        ("anytime", "unpack", "w.kqnested"),
    ],
    ids=" ".join,
)
def test_a_file_in_place_of_a_folder_is_told_at_the_start(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "file")])
    assert result.exit_code == 2
    assert "Invalid value for '--out'" in result.stderr and "is a file" in result.stderr


def test_a_folder_that_may_not_be_written_to_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    result = CliRunner().invoke(main, ["runs", "list", "--csv", str(tmp_path / "r.csv")])
    assert result.exit_code == 2
    assert f"you may not write into {tmp_path}; name another" in result.stderr


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
