from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_quant.quiet import native_logs_hidden

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def no_debugging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KQ_DEBUG", raising=False)


def native_log(text: str) -> None:
    """Writes as C++ code does: past Python's sys.stderr."""
    os.write(2, text.encode())


def test_native_lines_within_are_hidden_and_later_ones_are_not(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with native_logs_hidden():
        native_log("greeting")
    native_log("later")
    assert capfd.readouterr().err == "later"


def test_python_lines_before_stay_in_order(capfd: pytest.CaptureFixture[str]) -> None:
    print("before", file=sys.stderr)
    with native_logs_hidden():
        native_log("greeting")
    print("after", file=sys.stderr)
    assert capfd.readouterr().err == "before\nafter\n"


def test_native_lines_are_shown_where_the_block_raises(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), native_logs_hidden():
        native_log("the reason")
        raise ValueError("broken")
    native_log(", later")
    assert capfd.readouterr().err == "the reason, later"


def test_debugging_hides_nothing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KQ_DEBUG", "1")
    with native_logs_hidden():
        native_log("greeting")
    assert capfd.readouterr().err == "greeting"


def test_no_descriptor_is_left_open() -> None:
    with native_logs_hidden():
        pass
    before = os.dup(2)
    os.close(before)
    for _ in range(3):
        with native_logs_hidden():
            pass
    after = os.dup(2)
    os.close(after)
    assert after == before


def test_process_whose_stderr_is_closed_goes_on() -> None:
    code = (
        "from keras_quant.quiet import native_logs_hidden\n"
        "with native_logs_hidden(): print('went on')"
    )
    command = ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "went on\n")
