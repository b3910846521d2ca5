"""Files in turn: the order of loads and rounds, with processes that only pretend."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keras_quant.bench.measure import Candidate, Settings, measure
from keras_quant.bench.records import to_text
from keras_quant.bench.runtimes import Description
from keras_quant.bench.worker import Finished, Loaded, Round
from keras_quant.errors import ModelError

SETTINGS = Settings(duration_s=0.24, loads=4, rounds=3)
ROUND_CALLS = 2  # of 10 ms: 0.24 s over 4 loads of 3 rounds
CALL_NS = 10_000_000


class Log:
    """What was asked of which file, in order."""

    def __init__(self, *, energy_uj: int | None = None, dies_of: str = "") -> None:
        self.events: list[tuple[str, str]] = []
        self.calls: list[tuple[int, int]] = []
        self._energy, self._dies_of = energy_uj, dies_of

    @contextlib.contextmanager
    def start(self, candidate: Candidate) -> Iterator[Pretended]:
        self.events.append(("start", candidate.name))
        try:
            yield Pretended(self, candidate.name)
        finally:
            self.events.append(("end", candidate.name))

    def of(self, event: str) -> list[str]:
        return [name for what, name in self.events if what == event]


class Pretended:
    def __init__(self, log: Log, name: str) -> None:
        self._log, self._name = log, name

    def load(self, seed: int) -> Loaded:
        self._log.events.append(("load", self._name))
        return Loaded(
            load_ms=seed + 1.0,
            memory_before_bytes=1000,
            warm_up_calls=3,
            warm_up_s=0.03,
            warm=seed > 0,
            call_ns=CALL_NS,
        )

    def time_round(self, calls: int, ahead: int) -> Round:
        if self._name == self._log._dies_of:
            raise ModelError("died")
        self._log.events.append(("round", self._name))
        self._log.calls.append((calls, ahead))
        factor = 2 if self._name == "b" else 1
        return Round(samples=to_text([CALL_NS * factor] * calls), energy_uj=self._log._energy)

    def finish(self) -> Finished:
        return Finished(memory_peak_bytes=5000, processor_s=0.5)


@pytest.fixture
def candidates(tmp_path: Path) -> list[Candidate]:
    (tmp_path / "file").write_bytes(b"12345")
    one = Candidate(
        name="a",
        file=tmp_path / "file",
        runtime="litert",
        threads=1,
        batch=4,
        description=Description(kernels=("XNNPACK",), versions={}, inputs=()),
        inputs={"x": ("float32", (4, 2))},
    )
    return [replace(one, name=name) for name in "abc"]


def test_each_load_is_shuffled_and_its_rounds_are_in_turn(candidates: list[Candidate]) -> None:
    log = Log()
    measure(candidates, SETTINGS, start=log.start)
    loads = np.array(log.of("load")).reshape(SETTINGS.loads, 3)
    assert all(sorted(load) == ["a", "b", "c"] for load in loads)
    assert len({tuple(load) for load in loads}) > 1
    rounds = np.array(log.of("round")).reshape(SETTINGS.loads, SETTINGS.rounds, 3)
    assert (rounds == loads[:, np.newaxis]).all()
    assert set(log.calls) == {(ROUND_CALLS, 1)}


def test_each_load_is_a_process_of_its_own(candidates: list[Candidate]) -> None:
    log = Log()
    measure(candidates, SETTINGS, start=log.start)
    for load in range(SETTINGS.loads):
        assert len(log.of("start")[load * 3 : load * 3 + 3]) == 3
    assert sorted(log.of("end")) == sorted(log.of("start"))


def test_what_was_measured_is_summed_up(candidates: list[Candidate]) -> None:
    (a, b, _), processor_s = measure(candidates, SETTINGS, start=Log(energy_uj=8000).start)
    assert (a.summary.p50_ms, b.summary.p50_ms) == (10, 20)
    assert (a.images_per_s, b.images_per_s) == (400, 200)
    assert (a.load_ms, a.memory_peak_bytes, a.size_bytes) == (2.5, 5000, 5)
    assert a.energy_mj == 8 / (ROUND_CALLS * 4)
    assert a.notes == ("times were not stable after the warm-up of 1 of 4 loads",)
    assert processor_s == 0.5 * 3 * SETTINGS.loads


def test_a_folder_is_hashed_as_one(candidates: list[Candidate], tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"12")
    (folder / "variables" / "data").write_bytes(b"345")
    given = [candidates[0], replace(candidates[1], file=folder)]
    whole, parts = measure(given, SETTINGS, start=Log().start)[0]
    assert (parts.size_bytes, parts.sha256) == (5, whole.sha256)


def test_energy_that_cannot_be_read_is_absent(candidates: list[Candidate]) -> None:
    (a, _, _), _ = measure(candidates, SETTINGS, start=Log().start)
    assert a.energy_mj is None
    assert a.loads[0].energy_uj == ()


def test_all_processes_end_where_one_dies(candidates: list[Candidate]) -> None:
    log = Log(dies_of="b")
    with pytest.raises(ModelError, match="died"):
        measure(candidates, SETTINGS, start=log.start)
    assert sorted(log.of("end")) == ["a", "b", "c"]
