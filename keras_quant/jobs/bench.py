"""How long the files take that a user names, and which of them are faster."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from keras_quant.bench.machine import Machine, differing, disturbances
from keras_quant.bench.measure import Candidate, measure, profile
from keras_quant.bench.records import BenchRecord, Measurement
from keras_quant.bench.runtimes import RUNTIMES
from keras_quant.bench.verdict import Verdict, compare
from keras_quant.errors import UsageError, close_names
from keras_quant.jobs.begin import now
from keras_quant.jobs.candidates import BenchSettings, find_files, make_candidates
from keras_quant.jobs.places import Here, Place
from keras_quant.runs.records import versions
from keras_quant.version import __version__

Say = Callable[[str], None]


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
    check_runtimes(settings.runtimes)
    candidates = make_candidates(find_files(paths, settings.runtimes, say), settings)
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


def check_runtimes(names: Sequence[str]) -> None:
    """Raises: UsageError: a runtime is not known."""
    unknown = [name for name in names if name not in RUNTIMES]
    if unknown:
        raise UsageError(
            f"--runtime {unknown[0]!r} is not known{close_names(unknown[0], RUNTIMES)}; runtimes "
            f"are {', '.join(RUNTIMES)}"
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
