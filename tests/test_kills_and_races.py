"""Kills of `kq train` and `kq export` at random moments, and two commands at once in one folder.

    pytest -m slow tests/test_kills_and_races.py --kills 100    # as many as were asked for

Nothing that was there is lost, and what is there is of one command: a run that goes on ends as if
nothing had been, and no proof is of another file than the one beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_quant.proof.formats import FORMATS
from keras_quant.proof.record import UNFINISHED
from tests.forks import Forks

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.slow,
    # Without importing it: the commands run in other processes.
    pytest.mark.skipif(find_spec("tensorflow") is None, reason="needs TensorFlow"),
]

KILLED = -signal.SIGKILL
KILLS_OF_A_RUN = 4  # then it is let go on to its end
TRAIN = (
    *("train", "--dataset", "data.npz", "--model", "mlp", "--option", "units=8"),
    *("--bits", "4", "--epochs", "3"),
)
TO_ALL = ("--to", "tflite,onnx,tensorrt", "--images", "8")
# Of other bytes each: what one export leaves, another replaces.
EXPORTS = (("--input", "float", "--trt", "10.3"), ("--input", "uint8", "--trt", "8.5"))

Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The current folder of all commands, with small images."""
    path = tmp_path_factory.mktemp("kills")
    numbers = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 48), ("test", 12)):
        arrays[f"x_{part}"] = numbers.integers(0, 256, (count, 8, 8, 1), np.uint8)
        arrays[f"y_{part}"] = np.arange(count) % 3
    np.savez(path / "data.npz", **arrays)
    return path


@pytest.fixture(scope="module")
def forks(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with Forks(folder, tmp_path_factory.mktemp("log") / "log") as forks:
        yield forks


@pytest.fixture
def chance() -> random.Random:
    return random.Random(0)


@pytest.fixture(scope="module")
def whole(folder: Path, forks: Forks) -> tuple[dict[str, Any], float]:
    """What a run comes to that nothing disturbs, and the seconds that it takes."""
    started = time.monotonic()
    assert forks.run((*TRAIN, "--name", "whole")) == [0], forks.log.read_text()
    return content_of(folder / "models" / "whole"), time.monotonic() - started


def test_a_training_that_is_killed_goes_on_to_the_same_bytes(
    folder: Path,
    forks: Forks,
    whole: tuple[dict[str, Any], float],
    chance: random.Random,
    pytestconfig: pytest.Config,
    record_property: Record,
) -> None:
    wanted, seconds = whole
    kills = runs = lost = inconsistent = 0
    while kills < pytestconfig.getoption("--kills"):
        runs += 1
        path, struck = folder / "models" / f"run{runs}", 0
        while struck < KILLS_OF_A_RUN:
            before = epochs_of(path)
            if kill(
                forks, (*TRAIN, "--name", path.name, *resume(path)), chance.uniform(0, seconds)
            ):
                struck += 1
                lost += epochs_of(path) < before
            else:
                break
        kills += struck
        if not is_finished(path):
            code = forks.run((*TRAIN, "--name", path.name, *resume(path)))
            assert code == [0], forks.log.read_text()[-2000:]
        inconsistent += content_of(path) != wanted
        told = f"{kills} kills of {runs} trainings: {lost} lost, {inconsistent} inconsistent"
        print(told, flush=True)
    record_property("printed", told)
    assert (lost, inconsistent) == (0, 0), told


def test_an_export_that_is_killed_leaves_files_and_proofs_that_fit(
    folder: Path,
    forks: Forks,
    whole: tuple[dict[str, Any], float],
    chance: random.Random,
    pytestconfig: pytest.Config,
    record_property: Record,
) -> None:
    run = Path("models") / "whole"
    export = folder / run / "export"
    known: dict[str, set[str]] = {form.file_name: set() for form in FORMATS.values()}
    started = time.monotonic()
    for options in EXPORTS:
        assert forks.run(("export", str(run), *TO_ALL, *options, "--overwrite")) == [0]
        for name, digests in known.items():
            digests.add(digest(export / name))
    seconds = (time.monotonic() - started) / len(EXPORTS)
    assert len(known["model.tflite"]) == len(EXPORTS)

    kills = tries = unfinished = lost = inconsistent = 0
    while kills < pytestconfig.getoption("--kills"):
        tries += 1
        command = ("export", str(run), *TO_ALL, *EXPORTS[tries % len(EXPORTS)])
        # Half of them strike while files are written, which takes a hundredth of the time.
        delay = chance.uniform(0, seconds)
        struck = kill(forks, command, delay, while_writing=export if tries % 2 else None)
        kills += struck
        unfinished += UNFINISHED in parity_of(export)
        lost += any(not (export / name).is_file() for name in known)
        inconsistent += not fits(export)
        inconsistent += any(digest(export / name) not in known[name] for name in known)
        if struck:  # without --overwrite: it is known that all of it is ours
            assert forks.run(command) == [0], forks.log.read_text()[-2000:]
            assert set(parity_of(export)) == set(FORMATS)
            assert fits(export)
            assert [path for path in export.rglob(".*.tmp-*")] == []
        told = (
            f"{kills} kills of exports, {unfinished} of them between the first and the last "
            f"rename: {lost} lost, {inconsistent} inconsistent"
        )
        print(told, flush=True)
    record_property("printed", told)
    assert (lost, inconsistent) == (0, 0), told


def test_two_commands_at_once_leave_the_files_of_one(
    folder: Path,
    forks: Forks,
    whole: tuple[dict[str, Any], float],
    pytestconfig: pytest.Config,
    record_property: Record,
) -> None:
    """Trainings of two seeds in one folder, with a run in it and without."""
    contents = []
    for seed in ("1", "2"):
        assert forks.run((*TRAIN, "--seed", seed, "--name", f"seed{seed}")) == [0]
        contents.append(content_of(folder / "models" / f"seed{seed}"))
    races = max(1, pytestconfig.getoption("--kills") // 2)
    mixed = second_refused = 0
    for number in range(races):
        name = f"race{number // 2}"
        commands = [(*TRAIN, "--seed", seed, "--name", name) for seed in ("1", "2")]
        if number % 2:
            commands = [(*words, "--overwrite") for words in commands]
        codes = forks.run(*commands)
        assert sorted(codes) in ([0, 1], [0, 0]), forks.log.read_text()[-2000:]
        second_refused += 1 in codes
        mixed += content_of(folder / "models" / name) not in contents
        told = (
            f"{number + 1} races of two trainings, one refused in {second_refused}: {mixed} mixed"
        )
        print(told, flush=True)
    record_property("printed", told)
    assert mixed == 0, told


def kill(
    forks: Forks, words: tuple[str, ...], delay: float, *, while_writing: Path | None = None
) -> bool:
    """Starts a command and kills it after some seconds; whether it had not ended before.

    Args:
        while_writing: a folder: kill it once it writes a file there, after a hundredth of delay.
    """
    (pid,) = forks.start(words)
    if while_writing is None:
        time.sleep(delay)
    else:
        wait_for_writing(pid, while_writing)
        time.sleep(delay / 100)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    (code,) = forks.ended()
    assert code in (0, KILLED), forks.log.read_text()[-2000:]
    return code == KILLED


def wait_for_writing(pid: int, folder: Path) -> None:
    """Waits until a process writes a file, or has ended."""
    while Path(f"/proc/{pid}/stat").exists():
        if any(".tmp-" in entry.name for entry in os.scandir(folder)):
            return
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.0005)


def resume(path: Path) -> tuple[str, ...]:
    """What a user gives for a run that may have been killed before it had a record."""
    return ("--resume",) if (path / "run.json").exists() else ()


def epochs_of(path: Path) -> int:
    """How many epochs of a run are safe; all where it is trained."""
    if (path / "model.keras").exists() and not (path / "checkpoint.npz").exists():
        return 10**6
    try:
        with np.load(path / "checkpoint.npz") as file:
            return len(json.loads(file["history"].tobytes()))
    except FileNotFoundError:
        return 0


def is_finished(path: Path) -> bool:
    record = path / "run.json"
    finished = record.exists() and json.loads(record.read_text())["status"] == "exported"
    return finished and not (path / "checkpoint.npz").exists()


def content_of(run: Path) -> dict[str, Any]:
    """What is in a run, without what is another each time: times, seconds, its name."""
    record = json.loads((run / "run.json").read_text())
    with zipfile.ZipFile(run / "model.keras") as archive:
        weights = digest_of(archive.read("model.weights.h5"))
    return {
        "files": sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()),
        "record": {key: record[key] for key in ("training", "figures", "status", "scheme")},
        "history": [line.split(",")[:6] for line in (run / "history.csv").read_text().splitlines()],
        "weights": weights,
        "tflite": digest(run / "export" / "model.tflite"),
        "graph": digest(run / "export" / "model.kqgraph"),
        "statistics": digest(run / "statistics.npz"),
        "parity": fits(run / "export"),
    }


def parity_of(export: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((export / "parity.json").read_text())
    return content


def fits(export: Path) -> bool:
    """Whether each file that parity.json names is there, and is the one that it names."""
    records = [record for name, record in parity_of(export).items() if name != UNFINISHED]
    return all(
        (export / record["file"]).is_file() and digest(export / record["file"]) == record["sha256"]
        for record in records
    )


def digest(path: Path) -> str:
    return digest_of(path.read_bytes())


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
