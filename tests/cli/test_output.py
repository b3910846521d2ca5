from __future__ import annotations

import json

import pytest

from keras_quant.cli.output import note, print_json, print_table


def test_piped_table_is_plain_aligned_and_uncut(capsys: pytest.CaptureFixture[str]) -> None:
    path = "models/" + "x" * 300
    print_table(("file", "size", "accuracy"), [(path, 1234567, "97.5 %"), ("b", 8, None)])
    heading, first, second = capsys.readouterr().out.splitlines()
    assert first.split() == [path, "1,234,567", "97.5", "%"]
    assert second.split() == ["b", "8", "-"]
    assert len(first) == len(second) == len(heading)


def test_text_is_aligned_to_the_left(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name",), [("conv1",), ("fc",)])
    assert capsys.readouterr().out == "name\nconv1\nfc\n"


def test_brackets_are_text_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("shape",), [("[bold]8[/bold]",), (":warning:",)], title="[red]")
    out = capsys.readouterr().out
    assert all(text in out for text in ("[bold]8[/bold]", ":warning:", "[red]"))


def test_terminal_table_folds_and_cuts_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "30")
    print_table(("name", "note"), [("a" * 25, "b" * 25)])
    out = capsys.readouterr().out
    assert (out.count("a"), out.count("b"), out.count("…")) == (26, 25, 0)  # "name" has one


def test_json_is_one_document_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    note("progress")
    print_json({"accuracy": 0.5})
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"accuracy": 0.5}
    assert captured.err == "progress\n"
