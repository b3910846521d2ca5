"""ensemble.json: what is written is read again, and what does not fit the runs is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from keras_quant.errors import RunError
from keras_quant.runs import ensembles, records
from tests.fake_runs import RECORD, make_run

Runs = tuple[Path, ...]


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return make_run(tmp_path / "e-1"), make_run(tmp_path / "e-2")


def saved(runs: Runs, **changes) -> Path:
    folder = runs[0].parent / "e"
    given = {"kind": "boosting", "combination": "sum", "weights": (0.5, 0.25), "created": "now"}
    ensembles.save(folder, runs, **{**given, **changes})
    return folder


def test_what_was_saved_is_loaded(runs: Runs) -> None:
    folder = saved(runs)
    assert ensembles.is_ensemble(folder) and not ensembles.is_ensemble(runs[0])
    wanted = ensembles.Combined(runs=runs, combination="sum", weights=(0.5, 0.25))
    assert ensembles.load(folder) == wanted


def test_a_folder_may_move_with_its_members(runs: Runs, tmp_path: Path) -> None:
    saved(runs)
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    tmp_path.rename(moved)
    assert ensembles.load(moved / "e").runs == (moved / "e-1", moved / "e-2")


def test_a_member_that_was_trained_anew_is_told(runs: Runs) -> None:
    folder = saved(runs)
    records.save(replace(RECORD, created="2026-02-02T00:00:00+00:00"), runs[1])
    with pytest.raises(RunError, match=r"e-2: trained anew since .* train-ensemble --overwrite"):
        ensembles.load(folder)


def test_a_member_that_is_gone_is_told(runs: Runs) -> None:
    folder = saved(runs)
    (runs[0] / records.FILE_NAME).unlink()
    with pytest.raises(RunError, match=r"e-1: not a run folder"):
        ensembles.load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"combination": "product"}, "combination: is 'product'; allowed are mean, logits"),
        ({"members": []}, "members: 0 is named; an ensemble has two or more"),
        ({"members": [{"run": "x"}]}, r"members\[0\]"),
        ({"format_version": 2}, "written by a newer kq"),
    ],
)
def test_broken_records_are_told(runs: Runs, changes: dict[str, object], message: str) -> None:
    folder = saved(runs)
    path = folder / ensembles.FILE_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(RunError, match=message):
        ensembles.load(folder)
