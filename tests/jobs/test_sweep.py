"""The sweep's own work: a script stands in for kq, and leaves what kq would leave."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from keras_quant.errors import RunError, SchemeError, UsageError
from keras_quant.jobs import sweep as sweeping
from keras_quant.jobs.sweep import FILE_NAME, LOGS, Status, load, sweep
from keras_quant.jobs.sweep_plan import SweepSettings, points_of
from keras_quant.jobs.sweep_processes import Process, ProcessLostError, ThisMachine
from keras_quant.runs import locked, records

ROOT = Path(__file__).parents[2]
SETTINGS = SweepSettings(bits=("4", "2"), methods=("qkeras", "ptq"))
NAMES = ["float", "qkeras-w4a4", "qkeras-w2a2", "ptq-w4a4", "ptq-w2a2"]

STAND_IN = """
    import dataclasses, json, os, signal, sys, time
    from pathlib import Path
    from tests.fake_runs import RECORD, make_run
    from keras_quant.runs import records

    def option(name):
        return sys.argv[sys.argv.index(name) + 1]

    def ended(*signal):
        (run.parent / ".terminated").touch()
        sys.exit(1)

    signal.signal(signal.SIGTERM, ended)
    run = Path(option("--out"), option("--name"))
    with open(run.parent / ".calls", "a") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\\n")
    if not run.exists():
        make_run(run)
    records.save(dataclasses.replace(RECORD, status="training"), run)
    print("epoch 1/2  loss 0.5", file=sys.stderr, flush=True)
    if (run.parent / f".fail-{run.name}").exists():
        sys.exit("error: the loss is NaN")
    while (run.parent / f".wait-{run.name}").exists():
        time.sleep(0.05)
    records.save(RECORD, run)
"""


@pytest.fixture(autouse=True)
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "kq.py"
    script.write_text(textwrap.dedent(STAND_IN))
    monkeypatch.setattr(sweeping, "KQ", (sys.executable, str(script)))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sweep").mkdir()
    return tmp_path / "sweep"


def calls(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / ".calls").read_text().splitlines()]


def names(folder: Path) -> list[str]:
    return [call[call.index("--name") + 1] for call in calls(folder)]


def test_narrow_widths_start_from_the_next_wider_one_of_their_method(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, bits=("2", "w4a8", "w8a4", "8"))
    parents = {point.name: point.parent for point in points_of(settings, tmp_path)}
    assert parents == {
        "float": None,
        "qkeras-w8a8": "float",
        "qkeras-w8a4": "qkeras-w8a8",
        "qkeras-w4a8": "qkeras-w8a8",  # w8a4 is narrower in its activations
        "qkeras-w2a2": "qkeras-w4a8",
        **dict.fromkeys(("ptq-w8a8", "ptq-w8a4", "ptq-w4a8", "ptq-w2a2"), "float"),
    }
    flat = points_of(dataclasses.replace(settings, progressive=False), tmp_path)
    assert {point.parent for point in flat} == {None, "float"}


def test_each_seed_has_a_float_run_of_its_own(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, bits=("4",), methods=("qkeras",), seeds=(0, 7))
    found = points_of(settings, tmp_path)
    assert [point.name for point in found] == [
        *("float-seed0", "qkeras-w4a4-seed0", "float-seed7", "qkeras-w4a4-seed7")
    ]
    assert found[3].parent == "float-seed7"
    assert found[3].arguments[found[3].arguments.index("--seed") + 1] == "7"


def test_arguments_are_those_that_a_user_would_type(tmp_path: Path) -> None:
    settings = SweepSettings(
        model="resnet20",
        model_options=("width=8",),
        dataset="cifar10",
        preprocess="raw",
        bits=("w2a4",),
        methods=("qkeras", "ptq"),
        float_epochs=30,
        epochs=12,
        float_options=("--batch-size", "64"),
        train_options=("--distill", "0.5"),
    )
    base = "train --model resnet20 --option width=8 --dataset cifar10 --preprocess raw --seed 0"
    typed = [" ".join(point.arguments) for point in points_of(settings, tmp_path)]
    assert typed == [
        f"{base} --method float --epochs 30 --batch-size 64",
        f"{base} --method qkeras --bits w2a4 --epochs 12 --from {tmp_path}/float --distill 0.5",
        f"quantize {tmp_path}/float --bits w2a4",
    ]


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"epochs": 0}, UsageError, "--epochs is 0; 1 or more"),
        ({"jobs": 0}, UsageError, "--jobs is 0; 1 or more"),
        ({"bits": ("4", "4")}, UsageError, "--bits is '4,4'; each once"),
        ({"seeds": ()}, UsageError, "--seeds is ''; each once"),
        ({"bits": ("9",)}, SchemeError, "bits are 1 to 8"),
        ({"bits": ("float",)}, UsageError, "the float run is made anyway"),
        ({"methods": ("lsqq",)}, UsageError, "--methods lsqq: methods are .*ptq"),
        (
            {"train_options": ("--strategy", "multiworker")},
            UsageError,
            "--train: a sweep starts one process a point, so that --strategy multiworker would",
        ),
        ({"float_options": ("--strategy=multiworker",)}, UsageError, "--float: a sweep starts one"),
    ],
)
def test_settings_that_do_not_go_are_explained_before_anything_is_made(
    changes: dict[str, object], error: type[Exception], told: str, folder: Path
) -> None:
    with pytest.raises(error, match=told):
        sweep(dataclasses.replace(SETTINGS, **changes), folder)
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_all_points_are_made_in_order_and_each_is_told(folder: Path) -> None:
    states: list[Status] = []
    record = sweep(SETTINGS, folder, show=states.append)
    assert names(folder) == NAMES
    assert set(states[0].state.values()) == {"waiting"}
    assert set(states[-1].state.values()) == {"done"}
    assert states[-1].seconds_left == 0
    assert load(folder) == record
    assert list(record.results) == NAMES
    assert not any(result.error for result in record.results.values())


@pytest.mark.slow
def test_a_point_that_fails_is_recorded_what_starts_from_it_is_left_out(folder: Path) -> None:
    (folder / ".fail-qkeras-w4a4").touch()
    record = sweep(SETTINGS, folder)
    assert names(folder) == ["float", "qkeras-w4a4", "ptq-w4a4", "ptq-w2a2"]
    log = folder / LOGS / "qkeras-w4a4.log"
    assert record.results["qkeras-w4a4"].error == f"the loss is NaN (see {log})"
    assert record.results["qkeras-w2a2"].error == "qkeras-w4a4 failed, which it starts from"
    (folder / ".fail-qkeras-w4a4").unlink()
    with pytest.raises(RunError, match="holds a sweep; give --resume"):
        sweep(SETTINGS, folder)
    record = sweep(SETTINGS, folder, resume=True)
    assert names(folder)[4:] == ["qkeras-w4a4", "qkeras-w2a2"]
    assert "--resume" in calls(folder)[4] and "--resume" not in calls(folder)[5]
    assert not any(result.error for result in record.results.values())


@pytest.mark.slow
def test_a_finished_sweep_is_not_made_again(folder: Path) -> None:
    sweep(SETTINGS, folder)
    sweep(SETTINGS, folder, resume=True)
    assert names(folder) == NAMES


@pytest.mark.slow
def test_another_sweep_and_other_things_are_left_alone(folder: Path, tmp_path: Path) -> None:
    sweep(SETTINGS, folder)
    with pytest.raises(RunError, match="these differ: bits, epochs"):
        sweep(dataclasses.replace(SETTINGS, bits=("8",), epochs=3), folder, resume=True)
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.png").touch()
    with pytest.raises(RunError, match=r"holds cat\.png, and no sweep"):
        sweep(SETTINGS, other)


@pytest.mark.parametrize("text", ["{", "[]", '{"settings": 3}', '{"format_version": 2}'])
def test_a_damaged_record_is_named(text: str, folder: Path) -> None:
    (folder / FILE_NAME).write_text(text)
    with pytest.raises(RunError, match=FILE_NAME):
        sweep(SETTINGS, folder, resume=True)


@pytest.mark.slow
def test_several_points_are_made_at_a_time_each_with_its_share_of_threads(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    (folder / ".wait-qkeras-w4a4").touch()
    seen: list[set[str]] = []
    lines: list[str] = []

    def show(status: Status) -> None:
        lines.extend(status.last_line.values())
        running = {name for name, state in status.state.items() if state == "running"}
        seen.append(running)
        if status.state["ptq-w2a2"] == "done":  # while the other still waits
            (folder / ".wait-qkeras-w4a4").unlink(missing_ok=True)

    sweep(dataclasses.replace(SETTINGS, jobs=2), folder, show=show)
    assert "epoch 1/2  loss 0.5" in lines
    assert {"qkeras-w4a4", "ptq-w4a4"} in seen and max(map(len, seen)) == 2
    trained = [call for call in calls(folder) if call[0] == "train"]
    assert all(call[call.index("--threads") + 1] == "4" for call in trained)


@pytest.mark.slow
def test_a_stopped_sweep_stops_its_points_and_goes_on(folder: Path, tmp_path: Path) -> None:
    (folder / ".wait-qkeras-w4a4").touch()
    code = (
        "import sys; from pathlib import Path; from tests.jobs.test_sweep import *\n"
        "from keras_quant.cli.main import termination_raised\n"
        f"sweeping.KQ = (sys.executable, {str(tmp_path / 'kq.py')!r})\n"
        "show = lambda s: print(s.state['qkeras-w4a4'], flush=True)\n"
        "with termination_raised():\n"
        f"    sweep(SETTINGS, Path({str(folder)!r}), show=show)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "running":
            break
    record = folder / "qkeras-w4a4" / records.FILE_NAME
    while not (record.exists() and records.load(record.parent).status == "training"):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) != 0
    assert (folder / ".terminated").exists()  # and not killed: it saves what it has
    (folder / ".wait-qkeras-w4a4").unlink()
    time.sleep(0.2)  # a point that was left running would be exported then
    assert records.load(record.parent).status == "training"
    sweep(SETTINGS, folder, resume=True)
    assert names(folder) == ["float", "qkeras-w4a4", *NAMES[1:]]
    assert "--resume" in calls(folder)[2]


class Wide(ThisMachine):
    """Gives each point three threads."""

    def threads(self, jobs: int) -> int:
        return 3


def test_points_get_the_threads_that_the_engine_says(folder: Path) -> None:
    settings = SweepSettings(
        bits=("4",), methods=("qkeras",), train_options=("--threads", "7"), jobs=2
    )
    sweep(settings, folder, engine=Wide())
    float_run, trained = (
        [word for option, word in zip(call, call[1:], strict=False) if option == "--threads"]
        for call in calls(folder)
    )
    assert (float_run, trained) == (["3"], ["7"])  # what the user says holds


class Losing(ThisMachine):
    """Loses the machines of the first processes that it starts, which end a moment later."""

    def __init__(self, folder: Path, times: int) -> None:
        self.run, self.left, self.held = folder / "float", times, False
        self.starts: list[bool] = []

    def start(self, command: Sequence[str], log: Path) -> Process:
        self.starts.append(self.held)
        self.left -= 1
        return super().start(command, log) if self.left < 0 else Lost(self)

    def end_soon(self) -> None:
        lock = contextlib.ExitStack()
        lock.enter_context(locked(self.run))
        self.held = True

        def end() -> None:
            self.held = False
            lock.close()

        threading.Timer(0.5, end).start()


class Lost:
    """A process on a machine that is lost."""

    returncode = None

    def __init__(self, engine: Losing) -> None:
        self.engine = engine

    def poll(self) -> int | None:
        self.engine.end_soon()
        raise ProcessLostError("node 2 is dead")

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    def wait(self, timeout: float) -> int:
        return 1


def test_a_point_that_is_lost_is_started_again_when_it_has_ended(folder: Path) -> None:
    engine = Losing(folder, times=2)
    record = sweep(SweepSettings(bits=("4",), methods=("ptq",)), folder, engine=engine)
    assert engine.starts == [False] * 4
    assert [result.error for result in record.results.values()] == ["", ""]


def test_a_point_that_is_lost_again_and_again_fails(folder: Path) -> None:
    engine = Losing(folder, times=3)
    record = sweep(SweepSettings(bits=("4",), methods=("ptq",)), folder, engine=engine)
    assert record.results["float"].error == "lost 3 times: node 2 is dead"
    assert record.results["ptq-w4a4"].error == "float failed, which it starts from"
