"""Training by several replicas, each mode in processes of its own: beside the training of one."""

from __future__ import annotations

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from keras_quant.errors import UsageError
from keras_quant.jobs.train_settings import TrainSettings
from keras_quant.runs import records
from keras_quant.schemes.bits import scheme_from_bits

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("replicas_script.py")
PARENT = "float"  # of lsq
CASES = ("lsq", "clusters", "tfmot")
UNLIKE = ("bf16", "dropout")  # sums of few bits, and other draws: that it goes, not to which bits
# Of a variable's largest value, after 16 steps: sums of halves of a batch round otherwise.
SUM_ORDER = 1e-4
LIMIT_SECONDS = 240
CLUSTERS = 7  # multiples of 1/8 among what Glorot draws for the head: up to sqrt(6 / 64)


def start(*words: str | Path, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def addresses(count: int = 2) -> str:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    found = ",".join(f"127.0.0.1:{each.getsockname()[1]}" for each in sockets)
    for each in sockets:
        each.close()
    return found


def weights(file: Path) -> list[np.ndarray]:
    with np.load(file, allow_pickle=False) as found:
        return [found[name] for name in found.files]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which one process, a mirrored one and two workers have trained all cases."""
    folder = tmp_path_factory.mktemp("replicas")
    one = start(SCRIPT, folder, ",".join((PARENT, *CASES)), "one", cwd=folder)
    _, errors = one.communicate(timeout=LIMIT_SECONDS)
    assert one.returncode == 0, errors
    workers, all_cases = addresses(), (*CASES, *UNLIKE)
    hows = [(CASES, "mirrored"), (all_cases, "0", workers), (all_cases, "1", workers)]
    processes = [start(SCRIPT, folder, ",".join(cases), *how, cwd=folder) for cases, *how in hows]
    for process in processes:
        said, errors = process.communicate(timeout=LIMIT_SECONDS)
        assert process.returncode == 0, errors
        assert "replicas: 2" in said
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("how", ["mirrored", "0"])
def test_replicas_train_what_one_trains_up_to_the_order_of_sums(
    trained: Path, how: str, case: str
) -> None:
    for one, other in zip(
        weights(trained / "one" / f"{case}.npz"),
        weights(trained / how / f"{case}.npz"),
        strict=True,
    ):
        assert np.abs(one - other).max() <= SUM_ORDER * max(np.abs(one).max(), 1e-3)
    rows, others = (
        list(csv.DictReader((trained / which / f"{case}.csv").read_text().splitlines()))
        for which in ("one", how)
    )
    assert [float(row["loss"]) for row in others] == pytest.approx(
        [float(row["loss"]) for row in rows], rel=SUM_ORDER
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", [*CASES, *UNLIKE])
def test_all_workers_end_with_the_same_weights(trained: Path, case: str) -> None:
    pairs = zip(*(weights(trained / how / f"{case}.npz") for how in "01"), strict=True)
    assert all(np.array_equal(first, second) for first, second in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["one", "mirrored", "0"])
def test_replicas_keep_clusters_and_zeros(trained: Path, how: str) -> None:
    kernels = [
        w for w in weights(trained / how / "clusters.npz") if w.ndim > 1 and 1 not in w.shape
    ]
    (dense,) = kernels
    values = np.unique(dense)
    assert len(values) <= CLUSTERS < dense.size / 4
    assert 0 in values and not np.isin(values[values != 0] * 8, range(-9, 10)).any()


@pytest.mark.slow
def test_only_the_chief_writes_a_run(trained: Path) -> None:
    assert {path.parent.name for path in (trained / "0").rglob(records.FILE_NAME)} == {
        *CASES,
        *UNLIKE,
    }
    assert list((trained / "1").rglob(records.FILE_NAME)) == []
    training = records.load(trained / "0" / "lsq").training
    assert training is not None and (training.strategy, training.replicas) == ("multiworker", 2)


@pytest.mark.slow
def test_a_lost_worker_is_told_and_the_run_goes_on_from_its_last_epoch(tmp_path: Path) -> None:
    def train(*options: str) -> list[subprocess.Popen[str]]:
        workers = addresses()
        asked = (
            *("-m", "keras_quant", "train", "--model", "mlp", "--option", "units=8"),
            *("--method", "lsq", "--epochs", "60", "--batch-size", "1200", "--name", "r"),
            *("--strategy", "multiworker", "--workers", workers, *options, "--worker"),
        )
        return [start(*asked, k, cwd=tmp_path) for k in "01"]

    run = tmp_path / "models" / "r"
    chief, other = train()
    end = time.monotonic() + LIMIT_SECONDS
    while not (run / "checkpoint.npz").exists() and time.monotonic() < end:
        time.sleep(0.1)
    other.send_signal(signal.SIGKILL)
    _, errors = chief.communicate(timeout=LIMIT_SECONDS)
    other.communicate()
    assert chief.returncode == 1, errors
    told = next(line for line in errors.splitlines() if line.startswith("error: "))
    assert "worker 1 (127.0.0.1:" in told and "start all workers again with --resume" in told
    assert "Traceback" not in errors
    done = (run / "history.csv").read_text().splitlines()
    assert 2 <= len(done) <= 60
    for process in train("--resume"):
        _, errors = process.communicate(timeout=LIMIT_SECONDS)
        assert process.returncode == 0, errors
    rows = (run / "history.csv").read_text().splitlines()
    assert rows[: len(done)] == done and len(rows) == 61
    assert records.load(run).status == "exported"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"strategy": "mirror"}, "--strategy is 'mirror'; allowed: mirrored, multiworker"),
        ({"workers": ("a:1",)}, "--workers and --worker are for --strategy multiworker"),
        ({"strategy": "mirrored", "worker": 1}, "are for --strategy multiworker"),
        ({"strategy": "mirrored", "accumulate": 2}, "--accumulate: not with --strategy"),
        ({"strategy": "mirrored", "orthogonal": True}, "--orthogonal: not with --strategy"),
        ({"strategy": "mirrored", "self_distill": 0.5}, "--self-distill: not with --strategy"),
        (
            {"strategy": "mirrored", "nested": ("w4a4",), "method": "lsq"},
            "--nested and --slim: not",
        ),
        ({"strategy": "mirrored", "worker_timeout_seconds": 0}, "--worker-timeout is 0"),
    ],
)
def test_what_replicas_cannot_is_refused(given: dict[str, object], says: str) -> None:
    settings = TrainSettings(scheme=scheme_from_bits("4"), **given)  # type: ignore[arg-type]
    (problem,) = settings.problems()
    assert says in problem


def test_one_device_is_not_mirrored_and_a_batch_has_to_be_divisible() -> None:
    from keras_quant.training.replicas import Replicas, check_divides, mirrored

    with pytest.raises(UsageError, match="needs two GPUs or more, and TensorFlow finds"):
        mirrored()

    class Strategy:
        num_replicas_in_sync = 3

    with pytest.raises(UsageError, match="128 images are not divisible among 3 replicas; give 126"):
        check_divides(128, Replicas(strategy=Strategy()))
