"""What is done in the child process: load a file, and time calls. See `runners.child.Child.call`.

Nothing is sent between the processes while calls are timed: a round is one request.
"""

from __future__ import annotations

import gc
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_quant.bench.energy import find_counters, read_counters, used_uj
from keras_quant.bench.memory import reset_peak, status_bytes
from keras_quant.bench.operators import Operator
from keras_quant.bench.records import to_text
from keras_quant.bench.runtimes import RUNTIMES, Description
from keras_quant.bench.timer import time_calls, warm_up
from keras_quant.errors import ModelError

_ready: list[Callable[[], object]] = []
"""What computes the batch of the file that was loaded last."""

MOST_INPUT_BYTES = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """How loading and getting warm went; see `records.Load`."""

    load_ms: float
    memory_before_bytes: int | None
    warm_up_calls: int
    warm_up_s: float
    warm: bool
    call_ns: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The samples of a round.

    Attributes:
        samples: see `records.Load.rounds`.
        energy_uj: that the processor used in it; None where it cannot be read.
    """

    samples: str
    energy_uj: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What the process took. Attributes: processor_s: processor time of all its threads."""

    memory_peak_bytes: int | None
    processor_s: float


def describe(file: Path, *, runtime: str) -> Description:
    """Says what a runtime makes of a file. Raises: ModelError: it takes no such file."""
    found: Description = _module(runtime).describe(file, **RUNTIMES[runtime].settings)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A file's operators, in the order in which they run."""

    operators: tuple[Operator, ...]


def profile(
    file: Path, *, runtime: str, threads: int, inputs: dict[str, list[Any]], runs: int
) -> Profile:
    """Profiles a file; see `runtimes.Runtime`."""
    arrays = {name: _random(file, *spec, seed=0) for name, spec in inputs.items()}
    found = _module(runtime).profile(file, arrays, threads=threads, runs=runs)
    return Profile(operators=found)


def load(
    file: Path, *, runtime: str, threads: int, inputs: dict[str, list[Any]], seed: int
) -> Loaded:
    """Loads a file, gives it a batch, and calls it until it is warm.

    Args:
        inputs: by name, dtype and shape with the batch.
    """
    arrays = {name: _random(file, *spec, seed=seed) for name, spec in inputs.items()}
    opens = _module(runtime).prepare(file, threads=threads, **RUNTIMES[runtime].settings)
    gc.collect()
    reset_peak()
    before = status_bytes("VmRSS")
    started = time.perf_counter_ns()
    opened = opens()
    load_ns = time.perf_counter_ns() - started
    infer = opened(arrays)
    gc.disable()  # it would fall into some samples and not into others
    warm = warm_up(infer)
    _ready[:] = [infer]
    return Loaded(
        load_ms=load_ns / 1e6,
        memory_before_bytes=before,
        warm_up_calls=warm.calls,
        warm_up_s=warm.seconds,
        warm=warm.stable,
        call_ns=warm.call_ns,
    )


def time_round(file: Path, *, calls: int, ahead: int) -> Round:
    """Times calls of the file that was loaded.

    Args:
        ahead: calls before, which are not timed: other files had the caches meanwhile.
    """
    (infer,) = _ready
    for _ in range(ahead):
        infer()
    counters = find_counters()
    before = read_counters(counters)
    samples = time_calls(infer, calls)
    energy = used_uj(counters, before, read_counters(counters))
    return Round(samples=to_text(samples), energy_uj=energy)


def finish(file: Path) -> Finished:
    """Says what the process took so far."""
    return Finished(memory_peak_bytes=status_bytes("VmHWM"), processor_s=time.process_time())


def _module(runtime: str) -> Any:
    return importlib.import_module(RUNTIMES[runtime].module)


def _random(file: Path, dtype: str, shape: list[int], *, seed: int) -> np.ndarray:
    """A batch of any values: kernels take as long for all, but for denormal ones."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape, dtype=object)) * kind.itemsize
    if size > MOST_INPUT_BYTES:
        raise ModelError(
            f"{file}: an input of shape {tuple(shape)} takes {size / 1e9:,.1f} GB; up to "
            f"{MOST_INPUT_BYTES / 1e9:,.1f} GB are given. Take a smaller --batch"
        )
    random = np.random.default_rng(seed)
    if kind.kind == "f":
        return random.random(shape, np.float32).astype(kind)
    top = 1 if kind.kind == "b" else 127
    return random.integers(0, top, shape, endpoint=True).astype(kind)
