"""kq run: what it prints and leaves, of steps that were done before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from keras_quant.cli.main import main
from keras_quant.runs.lock import locked

RECIPE = """
format: 1
name: sizes
title: Sizes
scales: {small: {}}
steps:
  asked: [evaluate, net.tflite]
table:
  columns: {top-1 error: "error %"}
  rows: {ours: {top-1 error: "asked: 0.accuracy"}}
"""
PUBLISHED = """
published: {source: somewhere, columns: {top-1 error: "%"}, rows: {theirs: {top-1 error: 8.5}}}
"""
DIFFERS = """
differs: [one seed]
"""
DONE = {"words": ["evaluate", "net.tflite"], "printed": [{"accuracy": 0.9}], "seconds": 1.0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "asked.json").write_text(json.dumps(DONE))
    return tmp_path


def kq_run(folder: Path, text: str, *more: str) -> Result:
    (folder / "recipe.yaml").write_text(text)
    return CliRunner().invoke(
        main, ["run", str(folder / "recipe.yaml"), "--out", str(folder), *more]
    )


def test_tables_come_first_and_what_differs_behind(folder: Path) -> None:
    done = kq_run(folder, RECIPE + PUBLISHED + DIFFERS)
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["ours", "10.00"] in lines and ["theirs", "8.5"] in lines
    assert lines.count(["top-1", "error", "(%)"]) == 2
    assert "differs: one seed" in done.stderr
    names = {path.name for path in folder.glob("results.*")}
    assert names == {f"results.{suffix}" for suffix in ("md", "csv", "json", "png")}


def test_notes_stand_behind_a_table_of_our_own(folder: Path) -> None:
    done = kq_run(folder, RECIPE + DIFFERS)
    assert "note: one seed" in done.stderr and "published" not in done.stdout


def test_json_is_the_record_that_is_written(folder: Path) -> None:
    done = kq_run(folder, RECIPE, "--json")
    assert json.loads(done.stdout) == json.loads((folder / "results.json").read_text())


def test_a_folder_that_another_process_writes_is_left_alone(folder: Path) -> None:
    with locked(folder):
        done = kq_run(folder, RECIPE)
    assert (done.exit_code, list(folder.glob("results.*"))) == (1, [])
    assert "works on it. Wait until it has finished" in done.stderr


def test_a_scale_that_the_recipe_has_not_is_a_usage_error(folder: Path) -> None:
    done = kq_run(folder, RECIPE, "--scale", "huge")
    assert done.exit_code == 2 and "scales are small" in done.stderr
