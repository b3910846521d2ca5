from __future__ import annotations

import pytest

from keras_quant.runs.history import Epoch
from keras_quant.runs.progress import Progress

ROW = Epoch(
    epoch=3,
    loss=0.25,
    score=0.9,
    val_loss=0.5,
    val_score=0.8,
    learning_rate=1e-3,
    seconds=1.25,
)


def test_lines_go_to_stderr_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    Progress().say("loading [bold]models/a[/bold] :warning: " + "x" * 200)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "loading [bold]models/a[/bold] :warning: " + "x" * 200 + "\n"


def test_epoch_line_tells_losses_and_accuracies(capsys: pytest.CaptureFixture[str]) -> None:
    Progress().epoch(ROW, 20)
    assert capsys.readouterr().err == (
        "epoch 3/20  loss 0.2500  accuracy 0.9000  val_loss 0.5000  val_accuracy 0.8000  1.2 s\n"
    )


def test_bar_is_silent_where_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress().bar("proving", 2) as show:
        show(1, "loss 0.5")
    assert capsys.readouterr().err == ""


def test_bar_on_a_terminal_shows_how_much_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with Progress().bar("proving", 100) as show:
        show(60, "loss 0.5")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert all(text in captured.err for text in ("proving", "60/100", "loss 0.5"))


def test_quiet_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(quiet=True)
    progress.say("loading")
    progress.epoch(ROW, 20)
    with progress.bar("proving", 2) as show:
        show(1, "")
    assert capsys.readouterr().err == ""
