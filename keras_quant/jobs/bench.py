"""How long the files take that a user names, and which of them are faster."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from keras_quant.bench.machine import (
    Machine,
    Ticks,
    describe_machine,
    differing,
    disturbances,
    read_ticks,
)
from keras_quant.bench.measure import (
    Candidate,
    ChildSession,
    Session,
    Settings,
    describe,
    measure,
    profile,
)
from keras_quant.bench.records import BenchRecord, Measurement
from keras_quant.bench.runtimes import RUNTIMES, Description, runtimes_of
from keras_quant.bench.verdict import Verdict, compare
from keras_quant.emit.bundle.make import MANIFEST_NAME, MODEL_NAME
from keras_quant.errors import UsageError, close_names
from keras_quant.jobs.begin import now
from keras_quant.jobs.paths import files_of
from keras_quant.runs.records import versions
from keras_quant.version import __version__

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings:
    """What to measure.

    Attributes:
        runtimes: names of RUNTIMES; () for all that take one of the files.
        threads: how many each runtime may use; each number is measured.
        batches: images a call; () for what a file takes, and 1 where it takes any.
        profile: whether to profile the operators of each file, in a run of its own.
        timing: how long, see `measure.Settings`.
        input_shapes: with the batch, by name, of inputs in which a file leaves sizes open.
    """

    runtimes: tuple[str, ...] = ()
    threads: tuple[int, ...] = (1,)
    batches: tuple[int, ...] = ()
    profile: bool = False
    timing: Settings = Settings()
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


class Place(Protocol):
    """Where files are measured."""

    def machine(self) -> Machine:
        """What it says of itself."""
        ...

    def ticks(self) -> Ticks | None:
        """What its cores did so far; None where it does not tell."""
        ...

    def described(self, one: Candidate) -> Candidate:
        """A file with what its runtime there makes of it."""
        ...

    def start(self, one: Candidate) -> AbstractContextManager[Session]:
        """A process for a file."""
        ...


class Here:
    """This machine, a `Place`."""

    def machine(self) -> Machine:
        """See Place."""
        return describe_machine()

    def ticks(self) -> Ticks | None:
        """See Place."""
        return read_ticks()

    def described(self, one: Candidate) -> Candidate:
        """See Place: it was described when it was found."""
        return one

    def start(self, one: Candidate) -> AbstractContextManager[Session]:
        """See Place."""
        return ChildSession(one)


def bench(
    paths: Sequence[Path],
    settings: BenchSettings,
    *,
    baseline: BenchRecord | None = None,
    place: Place | None = None,
    say: Say = lambda text: None,
) -> BenchRecord:
    """Measures files, those of runs, and those of bundles.

    What has the same threads and batch is measured in turn, and compared pair by pair; the rest
    is not. With a baseline each file is compared with what was measured of it before.

    Args:
        place: where; None for this machine.
        say: is told what is measured, and what is left out.
    Raises:
        UsageError: no such runtime, a file that takes another batch, nothing left to measure; or
            something is not in the baseline.
        ModelError, RunError: a path or file is broken.
    """
    unknown = [name for name in settings.runtimes if name not in RUNTIMES]
    if unknown:
        raise UsageError(
            f"--runtime {unknown[0]!r} is not known{close_names(unknown[0], RUNTIMES)}; runtimes "
            f"are {', '.join(RUNTIMES)}"
        )
    candidates = _candidates(_files(paths, settings.runtimes, say), settings)
    if baseline is not None:
        _check_covered(candidates, baseline)
    place = place or Here()
    candidates = [place.described(one) for one in candidates]
    machine, before, started = place.machine(), place.ticks(), time.process_time()
    measurements: list[Measurement] = []
    processor_s = 0.0
    for group in _groups(candidates):
        found, seconds = measure(group, settings.timing, start=place.start, say=say)
        measurements += found
        processor_s += seconds
    noise = disturbances(
        before,
        place.ticks(),
        own_seconds=processor_s + time.process_time() - started,
        round_spreads={one.name: one.summary.round_spread for one in measurements},
    )
    if settings.profile:
        measurements = _profiled(measurements, candidates, say)
    return BenchRecord(
        command=tuple(sys.argv),
        created=now(),
        kq_version=__version__,
        machine=machine,
        settings={
            "duration_s": settings.timing.duration_s,
            "loads": settings.timing.loads,
            "rounds": settings.timing.rounds,
            "seed": settings.timing.seed,
        },
        measurements=tuple(measurements),
        verdicts=(*_verdicts(measurements), *_against(measurements, baseline)),
        noise=(*noise, *_changes(machine_then=baseline, now=machine)),
        versions=versions(),
    )


def with_baseline(record: BenchRecord, baseline: BenchRecord | None) -> BenchRecord:
    """Compares what was measured elsewhere with what was measured of it before.

    Raises:
        UsageError: something is not in the baseline.
    """
    verdicts = (*record.verdicts, *_against(record.measurements, baseline))
    changes = _changes(machine_then=baseline, now=record.machine)
    return replace(record, verdicts=verdicts, noise=(*record.noise, *changes))


def best_batches(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Of each file that was measured with several batches, the one of most images a second.

    By the median call: the mean is of what else the machine did, too.
    """
    groups: dict[tuple[str, str, int], list[Measurement]] = {}
    for one in measurements:
        groups.setdefault((one.file, one.runtime, one.threads), []).append(one)
    return [
        max(group, key=lambda one: one.batch / one.summary.p50_ms)
        for group in groups.values()
        if len({one.batch for one in group}) > 1
    ]


def _profiled(
    measurements: Sequence[Measurement], candidates: Sequence[Candidate], say: Say
) -> list[Measurement]:
    """Adds the operators of each file; measurements may come in another order."""
    found = {}
    for one in candidates:
        if RUNTIMES[one.runtime].profiles:
            found[one.name] = profile(one)
        else:
            say(f"{one.name}: not profiled, as {one.runtime} does not tell its operators apart")
    return [replace(one, operators=found.get(one.name, ())) for one in measurements]


def _files(paths: Sequence[Path], runtimes: Sequence[str], say: Say) -> list[tuple[Path, str]]:
    """The files that paths stand for, each with its runtime."""
    found = []
    for path in paths:
        files = [path / MODEL_NAME] if (path / MANIFEST_NAME).is_file() else files_of(path)
        for file in files:
            able = runtimes_of(file)
            assert able
            chosen = [name for name in able if name in runtimes] if runtimes else [able[0]]
            if not chosen:
                say(f"{file}: left out, {able[0]} runs it")
            elif len(files) > 1 and (file.parent / MANIFEST_NAME).is_file():
                say(f"{file}: left out, it is for TensorRT; give it by itself to run it here")
            else:
                found += [(file, runtime) for runtime in chosen]
    if not found:
        raise UsageError(f"nothing is left to measure with --runtime {','.join(runtimes)}")
    return found


def _candidates(files: Sequence[tuple[Path, str]], settings: BenchSettings) -> list[Candidate]:
    described = {(file, runtime): describe(file, runtime) for file, runtime in dict.fromkeys(files)}
    problems = list(_unknown_inputs(settings.input_shapes, list(described.values())))
    several = len(settings.threads) > 1, len(settings.batches) > 1
    runs_of = Counter(file for file, _ in dict.fromkeys(files))
    folder = Path(os.path.commonpath([file.parent for file, _ in files]))
    candidates: list[Candidate] = []
    names = Counter[str]()
    for file, runtime in files:
        description = described[file, runtime]
        problems += _shape_problems(file, description, settings)
        description = _shaped(description, settings.input_shapes)
        problems += _problems(file, description, settings.batches)
        for threads, batch in itertools.product(settings.threads, _batches(description, settings)):
            name = str(file.relative_to(folder)) + f", {runtime}" * (runs_of[file] > 1)
            name += f", {threads} threads" * several[0] + f", batch {batch}" * several[1]
            names[name] += 1
            name = name if names[name] == 1 else f"{name} ({names[name]})"
            candidates.append(_candidate(file, runtime, name, description, threads, batch))
    if problems:
        raise UsageError("\n".join(dict.fromkeys(problems)))
    return candidates


def _batches(description: Description, settings: BenchSettings) -> tuple[int, ...]:
    """The batches to measure a file with: those asked for, else its own or that of its shape."""
    named = [settings.input_shapes.get(one.name) for one in description.inputs]
    given = next((shape[0] for shape in named if shape), None)
    return settings.batches or (description.batch or given or 1,)


def _shaped(description: Description, shapes: Mapping[str, tuple[int, ...]]) -> Description:
    """Fills in the sizes that a file leaves open."""
    inputs = tuple(
        replace(one, shape=shapes[one.name][1:]) if one.name in shapes else one
        for one in description.inputs
    )
    return replace(description, inputs=inputs)


def _unknown_inputs(
    shapes: Mapping[str, tuple[int, ...]], descriptions: Sequence[Description]
) -> Iterator[str]:
    known = dict.fromkeys(one.name for description in descriptions for one in description.inputs)
    for name in shapes:
        if name not in known:
            yield (
                f"--input-shape {name}: no file has such an input{close_names(name, known)}; "
                f"inputs are {', '.join(known)}"
            )


def _shape_problems(file: Path, description: Description, settings: BenchSettings) -> Iterator[str]:
    for one in description.inputs:
        given = settings.input_shapes.get(one.name)
        if given is None:
            continue
        own = (description.batch, *one.shape)
        text = "x".join(map(str, given))
        if len(given) != len(own) or any(
            size not in (None, asked) for size, asked in zip(own, given, strict=True)
        ):
            yield (
                f"{file}: --input-shape {one.name}={text} does not fit its shape "
                f"({', '.join('any' if size is None else str(size) for size in own)})"
            )
        if settings.batches not in ((), (given[0],)):
            yield f"--input-shape {one.name}={text} names a batch, and so does --batch; give one"


def candidate(file: Path, runtime: str, *, name: str) -> Candidate:
    """A file as it is to be measured, with one thread and one image a call.

    Raises:
        ModelError: the runtime refuses it.
        UsageError: it takes another batch, or leaves a size open.
    """
    description = describe(file, runtime)
    if problems := list(_problems(file, description, (1,))):
        raise UsageError("\n".join(problems))
    return _candidate(file, runtime, name, description, 1, 1)


def _candidate(
    file: Path, runtime: str, name: str, description: Description, threads: int, batch: int
) -> Candidate:
    sizes = {
        one.name: (one.dtype, (batch, *(n or 1 for n in one.shape))) for one in description.inputs
    }
    return Candidate(
        name=name,
        file=file,
        runtime=runtime,
        threads=threads,
        batch=batch,
        description=description,
        inputs=sizes,
    )


def _problems(file: Path, description: Description, batches: Sequence[int]) -> Iterator[str]:
    for one in description.inputs:
        if None in one.shape:
            sizes = ", ".join("any" if n is None else str(n) for n in one.shape)
            yield (
                f"{file}: its input {one.name!r} has the shape ({sizes}); times depend on what is "
                f"left open. Say it with --input-shape {one.name}={_filled(one.shape)}, say"
            )
    for batch in batches:
        if description.batch not in (None, batch):
            yield (
                f"{file}: takes {description.batch} images a call, and not {batch}. Leave out "
                "--batch, or write the file for any batch (kq export --batch dynamic)"
            )


def _filled(shape: Sequence[int | None]) -> str:
    """A shape to type, with a batch of 1 and a likely size where one is open."""
    return "x".join(map(str, (1, *(size or 224 for size in shape))))


def _groups(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """What is measured in turn: files of the same threads and batch."""
    groups: dict[tuple[int, int], list[Candidate]] = {}
    for one in candidates:
        groups.setdefault((one.threads, one.batch), []).append(one)
    return list(groups.values())


def _verdicts(measurements: Sequence[Measurement]) -> Iterator[Verdict]:
    """Each pair that was measured in turn: the later file beside the earlier one."""
    for first, second in itertools.combinations(measurements, 2):
        if (first.threads, first.batch) == (second.threads, second.batch):
            yield compare(
                second.name,
                first.name,
                loads=second.samples(),
                other_loads=first.samples(),
            )


def _against(
    measurements: Sequence[Measurement], baseline: BenchRecord | None
) -> Iterator[Verdict]:
    for one in measurements if baseline else ():
        assert baseline is not None
        then = _counterpart(one.name, Path(one.file), one.runtime, one.threads, one.batch, baseline)
        if then is None:
            raise UsageError(f"--baseline has nothing to compare with {one.name}")
        yield compare(
            one.name,
            f"the baseline's {then.name}",
            loads=one.samples(),
            other_loads=then.samples(),
            paired=False,
        )


def _counterpart(
    name: str, file: Path, runtime: str, threads: int, batch: int, baseline: BenchRecord
) -> Measurement | None:
    """What a baseline has of a file: by its name in the table, or the only one of that kind."""
    same = [
        one
        for one in baseline.measurements
        if (one.runtime, one.threads, one.batch) == (runtime, threads, batch)
    ]
    named = [one for one in same if one.name == name]
    alike = [one for one in same if Path(one.file).name == file.name]
    return next(iter(named), alike[0] if len(alike) == 1 else None)


def _check_covered(candidates: Sequence[Candidate], baseline: BenchRecord) -> None:
    missing = [
        one.name
        for one in candidates
        if _counterpart(one.name, one.file, one.runtime, one.threads, one.batch, baseline) is None
    ]
    if missing:
        known = ", ".join(
            f"{one.name} ({one.runtime}, {one.threads} threads, batch {one.batch})"
            for one in baseline.measurements
        )
        raise UsageError(
            f"--baseline has nothing to compare with {', '.join(missing)}: it has {known}"
        )


def _changes(*, machine_then: BenchRecord | None, now: Machine) -> list[str]:
    if machine_then is None:
        return []
    changed = differing(machine_then.machine, now)
    return [f"the baseline was measured on another machine: {'; '.join(changed)}"] * bool(changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a limit makes of verdicts.

    Attributes:
        slower: those that exceed it.
        undecided: those whose interval holds both no difference and more than the limit.
    """

    slower: tuple[Verdict, ...]
    undecided: tuple[Verdict, ...]


def judge(record: BenchRecord, share: float, *, against_baseline: bool) -> Judged:
    """Finds the files that are slower than they may be.

    Args:
        share: of the time that they may take more.
        against_baseline: than in the baseline; else than the first file of those that were
            measured in turn.
    """
    if against_baseline:
        asked = [verdict for verdict in record.verdicts if not verdict.paired]
    else:
        firsts: dict[tuple[int, int], str] = {}
        for one in record.measurements:
            firsts.setdefault((one.threads, one.batch), one.name)
        asked = [verdict for verdict in record.verdicts if verdict.other in firsts.values()]
    return Judged(
        slower=tuple(verdict for verdict in asked if verdict.exceeds(share)),
        undecided=tuple(
            verdict
            for verdict in asked
            if verdict.ratio.low <= 1 and verdict.ratio.high > 1 + share
        ),
    )


def without_samples(record: BenchRecord) -> BenchRecord:
    """A record as it is printed."""
    return replace(
        record, measurements=tuple(replace(one, loads=()) for one in record.measurements)
    )
