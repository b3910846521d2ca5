from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from keras_quant import runs
from keras_quant.errors import RunError
from keras_quant.files import FileError
from keras_quant.runs import records
from keras_quant.runs.lock import LOCK_NAME
from tests import fake_runs

RECORD = replace(fake_runs.RECORD, status="training")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a model and an export."""
    path = tmp_path / "run"
    (path / "export").mkdir(parents=True)
    records.save(RECORD, path)
    (path / "model.keras").write_bytes(b"weights")
    (path / "export" / "model.tflite").write_bytes(b"file")
    return path


def remake(path: Path, *, overwrite: bool = True) -> None:
    with runs.create(path, overwrite=overwrite):
        pass


def left_in(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if entry.name != LOCK_NAME]


@pytest.mark.parametrize("exists", [False, True])
def test_missing_or_empty_folder_is_made(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "models" / "run"
    if exists:
        path.mkdir(parents=True)
    with runs.create(path, overwrite=False) as folder:
        assert folder.path == path
    assert left_in(path) == []


def test_run_is_replaced_only_when_told(run: Path) -> None:
    with pytest.raises(RunError, match="a run of that name exists.*--overwrite to replace it"):
        remake(run, overwrite=False)
    assert (run / "export" / "model.tflite").exists()
    remake(run)
    assert left_in(run) == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_folder_of_other_things_is_left_alone(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="not empty, and not a run. Give --name NAME, or empty it"):
        remake(tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_leftovers_of_a_process_killed_at_its_first_file_are_no_other_things(
    tmp_path: Path,
) -> None:
    (tmp_path / ".run.tmp-1.json").write_text("{")
    with runs.create(tmp_path, overwrite=False):
        assert left_in(tmp_path) == []


def test_what_a_link_in_a_run_points_to_stays(run: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "images.npz").write_bytes(b"data")
    (run / "data").symlink_to(tmp_path / "data")
    remake(run)
    assert (tmp_path / "data" / "images.npz").exists()


def test_half_removed_run_is_still_a_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(RunError, match="cannot be emptied: .*Permission denied.*Give --name NAME"):
        remake(run)
    assert records.load(run) == RECORD


def test_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    with pytest.raises(FileError, match="A part of that path is a file"):
        remake(tmp_path / "models" / "run")


def test_reopened_run_keeps_its_files_and_loses_half_written_ones(run: Path) -> None:
    (run / "export" / ".model.tmp-1.tflite").write_bytes(b"half")
    with runs.reopen(run) as folder:
        pass
    assert folder.tflite.read_bytes() == b"file"
    assert [path.name for path in folder.export.iterdir()] == ["model.tflite"]


def test_only_a_run_is_reopened(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run folder: it has no run.json"):
        runs.reopen(tmp_path).__enter__()


def test_model_of_a_run_is_found_or_its_lack_explained(run: Path) -> None:
    assert runs.model_of(run) == run / "model.keras"
    (run / "model.keras").unlink()
    with pytest.raises(RunError, match="has no model yet; finish it with kq train --resume"):
        runs.model_of(run)
    with pytest.raises(RunError, match="no such run folder"):
        runs.model_of(run / "gone")
