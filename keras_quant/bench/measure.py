"""Files measured in turn: A B C A B C, loaded again and again in shuffled order.

A machine's speed drifts by more than the differences that we look for. Taken in turn, neighbouring
rounds meet the same conditions. Each load is a process of its own, so that weights and buffers come
to lie elsewhere in memory, which decides over some percent of a file's time, and so that the memory
of the process is that of the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from keras_quant.bench import worker
from keras_quant.bench.operators import Operator
from keras_quant.bench.records import Load, Measurement, from_text
from keras_quant.bench.runtimes import Description
from keras_quant.bench.statistics import LEAST_LOADS, summarize
from keras_quant.bench.worker import Finished, Loaded, Profile, Round
from keras_quant.errors import ModelError
from keras_quant.runners.child import Child, limits_for

_WORKER = worker.__name__
_MOST_CALLS = 5_000
"""Of a round: a record keeps every sample."""

_AHEAD_NS = 2_000_000
"""Of calls before a round that are not timed, until the caches hold the file's data again."""

PROFILED_RUNS = 30

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One file, and how it is to be run.

    Attributes:
        name: for tables; each has another.
        inputs: by name, the dtype and the shape with the batch.
    """

    name: str
    file: Path
    runtime: str
    threads: int
    batch: int
    description: Description
    inputs: Mapping[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How long to measure.

    Attributes:
        duration_s: of timed calls, of each file.
        loads: how often each file is loaded.
        rounds: of each load.
        seed: of the order of the loads, and of the batch's values.
    """

    duration_s: float = 10.0
    loads: int = LEAST_LOADS
    rounds: int = 10
    seed: int = 0


class Session(Protocol):
    """A file in a process of its own."""

    def load(self, seed: int) -> Loaded:
        """Loads it and gets it warm."""
        ...

    def time_round(self, calls: int, ahead: int) -> Round:
        """Times calls, after some that are not timed."""
        ...

    def finish(self) -> Finished:
        """Says what the process took."""
        ...


class ChildSession:
    """A `Session` in a child process, which ends with the block."""

    def __init__(self, candidate: Candidate) -> None:
        """Starts the process."""
        self._candidate = candidate
        self._limits = limits_for(candidate.file)
        self._child = Child(candidate.file, self._limits)
        self._call_s = 0.0

    def __enter__(self) -> ChildSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._child.close()

    def load(self, seed: int) -> Loaded:
        """See Session. Raises: ModelError: the runtime refuses the file, or died of it."""
        one = self._candidate
        loaded = self._child.call(
            f"{_WORKER}:load",
            Loaded,
            runtime=one.runtime,
            threads=one.threads,
            inputs=one.inputs,
            seed=seed,
        )
        self._call_s = loaded.call_ns / 1e9
        return loaded

    def time_round(self, calls: int, ahead: int) -> Round:
        """See Session. Raises: ModelError: the runtime died."""
        seconds = self._limits.seconds + 10 * (calls + ahead) * self._call_s
        return self._child.call(
            f"{_WORKER}:time_round", Round, seconds=seconds, calls=calls, ahead=ahead
        )

    def finish(self) -> Finished:
        """See Session."""
        return self._child.call(f"{_WORKER}:finish", Finished)


Start = Callable[[Candidate], contextlib.AbstractContextManager[Session]]


def describe(file: Path, runtime: str) -> Description:
    """Says what a runtime makes of a file, in a child process.

    Raises:
        ModelError: it takes no such file, or died of it.
    """
    with Child(file, limits_for(file)) as child:
        return child.call(f"{_WORKER}:describe", Description, runtime=runtime)


def profile(one: Candidate) -> tuple[Operator, ...]:
    """Profiles a file in a child process.

    Raises:
        ModelError: its runtime refuses it, or dies of it.
    """
    with Child(one.file, limits_for(one.file)) as child:
        return child.call(
            f"{_WORKER}:profile",
            Profile,
            runtime=one.runtime,
            threads=one.threads,
            inputs=one.inputs,
            runs=PROFILED_RUNS,
        ).operators


def measure(
    candidates: Sequence[Candidate],
    settings: Settings,
    *,
    start: Start = ChildSession,
    say: Say = lambda text: None,
) -> tuple[list[Measurement], float]:
    """Measures files in turn.

    Args:
        candidates: of which each pair is to be compared.
        start: makes a process for a file.
        say: is told how far it is.
    Returns: one measurement a file; and the seconds of processor time that their processes took.
    Raises:
        ModelError: a runtime refuses a file, or dies of it.
    """
    random = np.random.default_rng(settings.seed)
    found: dict[str, list[Load]] = {one.name: [] for one in candidates}
    processor_s = 0.0
    for number in range(settings.loads):
        say(f"load {number + 1} of {settings.loads}: {', '.join(found)}")
        order = [candidates[index] for index in random.permutation(len(candidates))]
        for name, load, seconds in _load_once(order, settings, start, seed=number):
            found[name].append(load)
            processor_s += seconds
    return [_measurement(one, found[one.name]) for one in candidates], processor_s


def _load_once(
    order: Sequence[Candidate], settings: Settings, start: Start, *, seed: int
) -> Iterator[tuple[str, Load, float]]:
    """Loads all files in this order, and times their rounds in turn."""
    round_ns = settings.duration_s * 1e9 / (settings.loads * settings.rounds)
    with contextlib.ExitStack() as stack:
        sessions = {one.name: stack.enter_context(start(one)) for one in order}
        loaded = {name: session.load(seed) for name, session in sessions.items()}
        rounds: dict[str, list[Round]] = {name: [] for name in sessions}
        for _ in range(settings.rounds):
            for name, session in sessions.items():
                call_ns = max(1.0, loaded[name].call_ns)
                calls = min(_MOST_CALLS, max(1, round(round_ns / call_ns)))
                ahead = min(_MOST_CALLS, max(1, round(_AHEAD_NS / call_ns)))
                rounds[name].append(session.time_round(calls, ahead))
        for name, session in sessions.items():
            done = session.finish()
            yield name, _load(loaded[name], rounds[name], done), done.processor_s


def _load(loaded: Loaded, rounds: Sequence[Round], done: Finished) -> Load:
    energy = [one.energy_uj for one in rounds if one.energy_uj is not None]
    return Load(
        rounds=tuple(one.samples for one in rounds),
        load_ms=loaded.load_ms,
        warm_up_calls=loaded.warm_up_calls,
        warm_up_s=loaded.warm_up_s,
        warm=loaded.warm,
        energy_uj=tuple(energy) if len(energy) == len(rounds) else (),
        memory_peak_bytes=done.memory_peak_bytes,
        memory_before_bytes=loaded.memory_before_bytes,
    )


def _measurement(one: Candidate, loads: Sequence[Load]) -> Measurement:
    samples = [[from_text(text) for text in load.rounds] for load in loads]
    summary = summarize(samples)
    peaks = [load.memory_peak_bytes for load in loads if load.memory_peak_bytes is not None]
    added = [
        load.memory_peak_bytes - load.memory_before_bytes
        for load in loads
        if load.memory_peak_bytes is not None and load.memory_before_bytes is not None
    ]
    calls = sum(len(rounds) for load in samples for rounds in load)
    has_energy = all(load.energy_uj for load in loads)
    energy_uj = sum(sum(load.energy_uj) for load in loads)
    size, sha256 = _size_and_hash(one.file)
    cold = sum(not load.warm for load in loads)
    notes = (f"times were not stable after the warm-up of {cold} of {len(loads)} loads",)
    return Measurement(
        name=one.name,
        file=str(one.file),
        size_bytes=size,
        sha256=sha256,
        runtime=one.runtime,
        threads=one.threads,
        batch=one.batch,
        kernels=one.description.kernels,
        versions=one.description.versions,
        input_shapes={name: shape for name, (_, shape) in one.inputs.items()},
        summary=summary,
        images_per_s=one.batch * 1e3 / summary.mean_ms.value,
        energy_mj=energy_uj / 1e3 / (calls * one.batch) if has_energy else None,
        memory_peak_bytes=max(peaks, default=None),
        memory_added_bytes=max(added, default=None),
        load_ms=statistics.median(load.load_ms for load in loads if load.load_ms is not None),
        loads=tuple(loads),
        notes=notes if cold else (),
    )


def _size_and_hash(path: Path) -> tuple[int, str]:
    """The bytes of a file, or of all in a folder in the order of their names; and their SHA-256."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    size, digest = 0, hashlib.sha256()
    for file in files:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ModelError(f"{file}: cannot be read: {error.strerror}") from error
        size += len(content)
        digest.update(content)
    return size, digest.hexdigest()
