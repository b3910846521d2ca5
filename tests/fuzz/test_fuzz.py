"""Damaged files of every kind, given to every command that reads them: an error, and no more.

    pytest -m slow tests/fuzz                               # 55 inputs
    pytest -m slow tests/fuzz --fuzz-inputs 2002            # as many as were asked for
    pytest -m slow tests/fuzz --fuzz-only tflite/check/17   # one of them, as failures name it

What is damaged how is drawn from seeds (`kinds.Input`), so that an input is the same each time,
and none is stored.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz.counts import counts, faults, usual_growth
from tests.fuzz.kinds import Input, damaged, named, undamaged
from tests.fuzz.watch import ROOT, Outcome, run_all

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.slow,
    # Without importing it: the commands run in other processes.
    pytest.mark.skipif(find_spec("tensorflow") is None, reason="needs TensorFlow"),
]

MOST_WORKERS = 2  # each comes to hold 2 GB


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    words = [sys.executable, "-m", "tests.fuzz.originals", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_damaged_file_is_an_error_with_a_word(
    originals: Path, pytestconfig: pytest.Config, record_property: Callable[[str, object], None]
) -> None:
    only = pytestconfig.getoption("--fuzz-only")
    inputs = [named(only)] if only else damaged(pytestconfig.getoption("--fuzz-inputs"))
    commands = {(one.kind, one.command) for one in inputs}
    whole = [one for one in undamaged() if (one.kind, one.command) in commands]
    workers = min(MOST_WORKERS, os.cpu_count() or 1)
    started = time.monotonic()

    usual = run_all(whole, originals, workers=workers)
    assert [str(one.input) for one in usual if not succeeds_as_expected(one)] == []
    growth = usual_growth(usual)
    outcomes = run_all(inputs, originals, workers=workers, say=partial(tell_fault, growth))

    found = faults(outcomes, growth)
    minutes = (time.monotonic() - started) / 60
    record_property("printed", f"{counts(outcomes, growth)}\nin {minutes:.1f} minutes")
    assert sorted(one.input for one in outcomes) == sorted(inputs)
    assert found == {}, "\n\n".join(told(one) for one in outcomes if str(one.input) in found)


def tell_fault(growth: Mapping[tuple[str, str], int], outcome: Outcome) -> None:
    """Prints a fault as soon as it is found, for `pytest -s`."""
    if outcome.faults(growth[outcome.input.kind, outcome.input.command]):
        print(told(outcome), file=sys.stderr, flush=True)


def succeeds_as_expected(outcome: Outcome) -> bool:
    code = outcome.answer.exit_code if outcome.answer else None
    return code == 0 if outcome.input.succeeds else code in (1, 2)


def told(outcome: Outcome) -> str:
    """An input's seed, and what was said of it."""
    said = outcome.answer.output if outcome.answer else outcome.died
    one: Input = outcome.input
    return f"{one} (kq {' '.join(one.words)}): {said}"
