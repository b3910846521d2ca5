"""What a worker comes to is seen, told of the right input, and does not end the others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fuzz import stand_in, watch
from tests.fuzz.counts import counts, faults
from tests.fuzz.kinds import Input
from tests.fuzz.watch import MOST_BYTES, Outcome, Worker, faults_of
from tests.fuzz.worker import Answer

WHOLE = Answer(exit_code=1, output="error: damaged", seconds=0.1)
INPUT = Input("npz", "train", 3)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    with Worker(tmp_path, tmp_path, (sys.executable, "-m", stand_in.__name__)) as worker:
        yield worker


def ask(worker: Worker, command: str, seconds: float = 30) -> Outcome:
    return worker.run(Input("npz", command, 0), seconds=seconds)


def test_a_crash_is_seen_and_another_worker_takes_over(worker: Worker) -> None:
    assert ask(worker, "crash").faults(0) == ["crash: SIGSEGV: its last words\n"]
    after = ask(worker, "answer")
    assert after.answer == Answer(exit_code=0, output="said", seconds=0.0)
    assert after.faults(0) == []


def test_what_hangs_is_stopped(worker: Worker) -> None:
    assert ask(worker, "hang", seconds=0.5).faults(0) == ["crash: stopped, as it hung"]


def test_what_takes_the_machines_memory_is_stopped(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_STOPPED_BYTES", stand_in.HELD_BYTES // 2)
    (fault,) = ask(worker, "hold").faults(0)
    assert fault.startswith("crash: stopped at ")


def test_memory_of_a_child_counts(worker: Worker) -> None:
    assert ask(worker, "hold_in_child").grown_bytes >= stand_in.HELD_BYTES


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (WHOLE, []),
        (replace(WHOLE, exit_code=0, output=""), []),
        (replace(WHOLE, exit_code=None), ["traceback"]),
        (replace(WHOLE, output="Traceback (most recent call last):\nerror: "), ["traceback"]),
        (replace(WHOLE, output="error: KeyError\nThis is a bug of kq or"), ["bug message"]),
        (replace(WHOLE, output=""), ["an error without a word"]),
        (replace(WHOLE, exit_code=139), ["exit code 139"]),
        (replace(WHOLE, leftovers=(".a.tmp-1",)), ["half-written files: .a.tmp-1"]),
    ],
)
def test_what_must_not_be_of_an_answer(answer: Answer, expected: list[str]) -> None:
    assert faults_of(answer) == expected


def outcome(*, seconds: float = 1.0, grown_bytes: int = 0) -> Outcome:
    return Outcome(input=INPUT, answer=WHOLE, died="", seconds=seconds, grown_bytes=grown_bytes)


def test_memory_counts_from_the_undamaged_files() -> None:
    usual = 10**8
    assert outcome(grown_bytes=usual + MOST_BYTES).faults(usual) == []
    assert outcome(grown_bytes=usual + MOST_BYTES + 1).faults(usual) == ["memory: 1,100 MB"]


def test_time_over_a_minute_is_a_fault() -> None:
    assert outcome(seconds=60.0).faults(0) == []
    assert outcome(seconds=61.0).faults(0) == ["slow: 61 s"]


def test_counts_name_faults_seeds_and_the_worst() -> None:
    usual = {(INPUT.kind, INPUT.command): 10**8}
    found = [outcome(), replace(outcome(seconds=61.0, grown_bytes=3 * 10**8), input=INPUT)]
    assert faults(found, usual) == {"npz/train/3": ["slow: 61 s"]}
    lines = counts(found, usual).splitlines()
    assert lines[0].startswith("2 damaged inputs of 1 kinds of files and 1 commands, seeds 3 to 3")
    assert lines[1] == "exit codes: 2 with 1"
    assert "0 traceback, 0 crash, 0 bug message, 1 slow, 0 memory" in lines[2]
    assert lines[3].startswith("slowest: 61.0 s (npz/train/3)")
    assert "200 MB (npz/train/3)" in lines[4]
