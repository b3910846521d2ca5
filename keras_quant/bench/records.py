"""What was measured, as one JSON file: raw samples, the machine, and what they came to."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keras_quant.bench.machine import Machine
from keras_quant.bench.operators import Operator
from keras_quant.bench.statistics import Summary
from keras_quant.bench.verdict import Verdict
from keras_quant.files import read_record, write_json

FORMAT_VERSION = 1
FILE_NAME = "bench.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The samples of one time that a file was loaded.

    Attributes:
        load_ms: how long loading took.
        warm_up_calls, warm_up_s: how many calls came before the samples, and how long they took.
        warm: whether times were stable then.
        rounds: raw samples, one text a round: whole nanoseconds, a blank between two calls.
        energy_uj: of the processor in each round, in microjoules; () where it cannot be read.
        memory_peak_bytes: the most that the process held; None where the system does not say.
        memory_before_bytes: what it held with the runtime, before the file was loaded.
    """

    rounds: tuple[str, ...]
    load_ms: float | None = None
    warm_up_calls: int = 0
    warm_up_s: float = 0.0
    warm: bool = True
    energy_uj: tuple[int, ...] = ()
    memory_peak_bytes: int | None = None
    memory_before_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One file, run by one runtime in one way.

    Attributes:
        name: as the table calls it, one of its kind in a record.
        file: that was run.
        size_bytes: of it; None where only a result of it is at hand.
        sha256: of its content; "" where that is not known.
        runtime: "litert", "onnxruntime", "keras", "tensorrt".
        threads: that it may use; 0 on a GPU.
        batch: images a call.
        kernels: what computed it.
        versions: of the runtime's packages.
        input_shapes: by input, with the batch.
        kind: what a sample is: "latency", from the call to the answer; or "enqueued", on a GPU
            that is given the next batch before the last one is done.
        summary: of the samples.
        images_per_s: batch over the mean time of a call; where a log says how many calls went
            through in how long, that.
        energy_mj: of the processor for one image, in millijoules; None where it cannot be read.
        memory_peak_bytes: the largest of the loads.
        memory_added_bytes: the most that a load held beyond what its process held before the file
            was loaded; None where the system does not say.
        load_ms: median of the loads.
        loads: the raw samples.
        operators: the profile, where one was asked for.
        notes: what a reader has to know.
    """

    name: str
    file: str
    size_bytes: int | None
    runtime: str
    threads: int
    batch: int
    kernels: tuple[str, ...]
    versions: Mapping[str, str]
    input_shapes: Mapping[str, tuple[int, ...]]
    summary: Summary
    images_per_s: float
    loads: tuple[Load, ...]
    sha256: str = ""
    kind: str = "latency"
    energy_mj: float | None = None
    memory_peak_bytes: int | None = None
    memory_added_bytes: int | None = None
    load_ms: float | None = None
    operators: tuple[Operator, ...] = ()
    notes: tuple[str, ...] = ()

    def samples(self) -> list[list[np.ndarray]]:
        """The raw samples: by load, by round, nanoseconds (calls,)."""
        return [[from_text(text) for text in load.rounds] for load in self.loads]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRecord:
    """Everything that a benchmark found.

    Attributes:
        command: the arguments of the process.
        created: local time with offset, ISO 8601.
        machine: that the files ran on.
        settings: of the timers, by name.
        noise: what made the times uncertain, a sentence each.
    """

    command: tuple[str, ...]
    created: str
    kq_version: str
    machine: Machine
    settings: Mapping[str, float]
    measurements: tuple[Measurement, ...]
    verdicts: tuple[Verdict, ...] = ()
    noise: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


def to_text(samples: Sequence[int]) -> str:
    """A round's samples, as a record has them."""
    return " ".join(map(str, samples))


def from_text(text: str) -> np.ndarray:
    """A round's samples: int64 (calls,)."""
    return np.array(text.split(), np.int64)


def save(record: BenchRecord, path: str | Path) -> None:
    """Writes a record. Raises: FileError: the system refuses."""
    write_json(path, record)


def load(path: Path) -> BenchRecord:
    """Reads a record.

    Raises:
        RunError: the file is missing, broken, of a newer format, or of something else.
    """
    return read_record(
        path,
        BenchRecord,
        remedy="Give a file that kq bench wrote",
        format_version=FORMAT_VERSION,
        problems_of=lambda record: itertools.chain.from_iterable(
            map(_sample_problems, record.measurements)
        ),
    )


def _sample_problems(measurement: Measurement) -> list[str]:
    texts: list[tuple[str, str]] = [
        (f"loads[{i}].rounds[{j}]", text)
        for i, load in enumerate(measurement.loads)
        for j, text in enumerate(load.rounds)
    ]
    problems = [
        f"{measurement.name}: {where} is not a text of whole nanoseconds above 0"
        for where, text in texts
        if not text.split() or not all(map(_is_time, text.split()))
    ]
    return problems or ([] if texts else [f"{measurement.name}: has no samples"])


def _is_time(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) < 19 and int(word) > 0
