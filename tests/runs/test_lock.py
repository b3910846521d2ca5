from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE

import portalocker
import pytest

from keras_quant.errors import KerasQuantWarning, RunError
from keras_quant.files import FileError
from keras_quant.runs import records
from keras_quant.runs.lock import LOCK_NAME, locked
from tests import fake_runs

HOLD = """
import sys
from pathlib import Path
from keras_quant.runs.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""

RACE = """
import json, os, sys
from pathlib import Path
from keras_quant import runs
from keras_quant.errors import RunError
from keras_quant.runs import records
folder, races = Path(sys.argv[1]), int(sys.argv[2])
record = records.load(folder / "record")
won = []
for race in range(races):
    (folder / f"{race}.{os.getpid()}").touch()
    while len(list(folder.glob(f"{race}.*"))) < 2:
        pass
    try:
        with runs.create(folder / "runs" / str(race), overwrite=False) as run:
            records.save(record, run.path)
            for part in "ab":
                with open(run.path / part, "x") as stream:  # nobody else's
                    stream.write(str(os.getpid()))
            won.append(race)
    except RunError:
        pass
print(json.dumps(won))
"""


@contextmanager
def held_by_another(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=PIPE,
        stdout=PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_that_another_process_holds_is_refused_with_its_number(tmp_path: Path) -> None:
    with held_by_another(tmp_path / "run") as process:
        refusal = rf"run: process {process.pid} works on it. Wait until it has finished"
        with pytest.raises(RunError, match=refusal), locked(tmp_path / "run"):
            pass


def test_a_process_that_is_killed_lets_go(tmp_path: Path) -> None:
    with held_by_another(tmp_path) as process:
        process.kill()
        process.wait()
        with locked(tmp_path):
            assert (tmp_path / LOCK_NAME).read_text() == f"{os.getpid()}\n"


def test_a_folder_is_free_again_behind_the_block(tmp_path: Path) -> None:
    with locked(tmp_path):
        pass
    with held_by_another(tmp_path), pytest.raises(RunError, match="works on it"):
        locked(tmp_path).__enter__()


def test_who_waits_comes_when_the_other_has_finished(tmp_path: Path) -> None:
    with held_by_another(tmp_path) as first:
        waits = [sys.executable, "-c", HOLD.replace("]))", "]), wait=True)"), str(tmp_path)]
        with subprocess.Popen(waits, stdin=PIPE, stdout=PIPE, text=True) as second:
            assert first.stdin is not None and second.stdout is not None
            first.stdin.write("\n")
            first.stdin.flush()
            assert second.stdout.readline() == "held\n"
            second.kill()


def test_of_two_that_make_the_same_run_one_does(tmp_path: Path) -> None:
    races = 50
    (tmp_path / "record").mkdir()
    records.save(fake_runs.RECORD, tmp_path / "record")
    words = [sys.executable, "-c", RACE, str(tmp_path), str(races)]
    racers = [subprocess.Popen(words, stdout=PIPE, text=True) for _ in range(2)]
    won = [json.loads(racer.communicate(timeout=60)[0]) for racer in racers]
    assert sorted(won[0] + won[1]) == list(range(races))
    for race in range(races):
        parts = {(tmp_path / "runs" / str(race) / part).read_text() for part in "ab"}
        assert parts == {str(next(r.pid for r, w in zip(racers, won, strict=True) if race in w))}


def test_a_lock_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).mkdir()
    with pytest.raises(FileError, match="Is a directory. Choose another folder"):
        locked(tmp_path).__enter__()


def test_where_a_file_system_has_no_locks_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise portalocker.LockException("no locks available")

    monkeypatch.setattr(portalocker, "lock", refuse)
    with pytest.warns(KerasQuantWarning, match="no locks available"), locked(tmp_path):
        pass
