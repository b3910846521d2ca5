"""`kq train`, killed at each of its stages: what is there is whole, and --resume ends the same."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The .keras.constraints.serialize"),
]

from keras_quant.calibration.store import load_statistics  # noqa: E402
from keras_quant.graph.store import load_graph  # noqa: E402
from keras_quant.jobs.evaluate import evaluate  # noqa: E402
from keras_quant.model.files import load_model  # noqa: E402
from keras_quant.runners.litert import LiteRTRunner  # noqa: E402
from keras_quant.runs.lock import LOCK_NAME  # noqa: E402
from keras_quant.schemes.file import load_scheme  # noqa: E402
from keras_quant.training import checkpoint  # noqa: E402

ROOT = Path(__file__).parents[1]
RUN_KQ = "from keras_quant.cli.main import main; main(prog_name='kq')"
TRAIN = ("--model", "mlp", "--option", "units=64", "--epochs", "6", "--bits", "4")
SECONDS = 300  # until a process counts as hung


def start(path: Path, *options: str) -> subprocess.Popen[str]:
    arguments = ("train", *TRAIN, "--out", str(path.parent), "--name", path.name, *options)
    return subprocess.Popen(
        [sys.executable, "-u", "-c", RUN_KQ, *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(path: Path, *options: str) -> None:
    process = start(path, *options)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said


def kill_after(process: subprocess.Popen[str], line: str) -> bool:
    """Kills a process when it says a line; False where it ended before that."""
    assert process.stderr
    for said in process.stderr:
        if said.startswith(line):
            break
    process.kill()
    process.stderr.close()
    return process.wait(SECONDS) == -signal.SIGKILL


def assert_whole(path: Path) -> None:
    """Checks that each file under its final name can be read to its end."""
    readers = {
        "run.json": lambda file: json.loads(file.read_text()),
        "statistics.npz": load_statistics,
        "parity.json": lambda file: json.loads(file.read_text()),
        "scheme.yaml": lambda file: load_scheme(str(file)),
        "history.csv": lambda file: [float(cell) for row in rows_of(file) for cell in row],
        "checkpoint.npz": lambda file: checkpoint.load(file.parent),
        "model.keras": load_model,
        "model.tflite": LiteRTRunner,
        "model.kqgraph": load_graph,
        LOCK_NAME: Path.read_text,
    }
    for file in path.rglob("*"):
        if file.is_file() and ".tmp-" not in file.name:
            readers[file.name](file)


def rows_of(file: Path) -> list[list[str]]:
    return list(csv.reader(file.open()))[1:]


def assert_same_run(path: Path, expected: Path) -> None:
    assert sorted(file.name for file in path.rglob("*")) == sorted(
        file.name for file in expected.rglob("*")
    )
    # The last column is the time that the epoch took.
    histories = [[row[:-1] for row in rows_of(run / "history.csv")] for run in (path, expected)]
    assert histories[0] == histories[1]
    assert len(histories[0]) == 6
    weights = [load_model(run / "model.keras").get_weights() for run in (path, expected)]
    assert all(np.array_equal(new, old) for new, old in zip(*weights, strict=True))
    files = [(run / "export" / "model.tflite").read_bytes() for run in (path, expected)]
    assert files[0] == files[1]
    assert evaluate(path)[1].agreement == 1.0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, trained without a kill."""
    path = tmp_path_factory.mktemp("models") / "whole"
    finish(path)
    return path


def kill_and_resume(path: Path, line: str) -> bool:
    """Kills a run when it says a line, and goes on with it; False where it was done before."""
    struck = kill_after(start(path), line)
    assert_whole(path)
    finish(path, *resume(path))
    return struck


def resume(path: Path) -> list[str]:
    """What a user gives for a run that may have been killed before it had a record."""
    return ["--resume"] if (path / "run.json").exists() else []


@pytest.mark.parametrize("line", ["calibrating", "epoch 6/", "lowering", "proving"])
def test_run_killed_at_a_stage_resumes_to_the_same_result(
    tmp_path: Path, whole: Path, line: str
) -> None:
    assert kill_and_resume(tmp_path / "run", line)
    assert_same_run(tmp_path / "run", whole)
