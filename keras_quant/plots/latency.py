"""How long runs' files take, as `kq bench` has measured it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from keras_quant.bench import records
from keras_quant.bench.records import Measurement
from keras_quant.errors import UsageError
from keras_quant.plots.tradeoff import Cost
from keras_quant.runs.index import Run


def measured_latency(runs: Sequence[Run]) -> Cost:
    """The median latency of a run's file, out of the bench.json of the run or of its folder.

    All are of one runtime, with as many threads and images a call; the first that is found.

    Raises:
        UsageError: none of the runs was measured.
        RunError: a record is broken.
    """
    found = measurements_of([run for run in runs if run.score is not None])
    first = next((one for ones in found.values() for one in ones if one.kind == "latency"), None)
    if first is None:
        raise UsageError(
            "no run with a score was measured: kq bench RUN, or kq sweep --latency; runs looked "
            f"at: {len(runs)}"
        )
    values = {
        path: one.summary.p50_ms
        for path, ones in found.items()
        for one in ones
        if _way(one) == _way(first)
    }
    threads = "1 thread" if first.threads == 1 else f"{first.threads} threads"
    batch = "" if first.batch == 1 else f", {first.batch} images"
    return Cost(
        label=f"median latency [ms], {first.runtime}, {threads}{batch}",
        of=lambda run: values.get(run.path),
    )


def measurements_of(runs: Sequence[Run]) -> dict[Path, list[Measurement]]:
    """What is recorded of each run's files: in its bench.json, and in that of the folder around it.

    Raises:
        RunError: a record is broken.
    """
    known = _recorded(runs)
    return {
        run.path: [
            one for place in _places(run) for one in known.get(place, ()) if _is_of(run, one)
        ]
        for run in runs
    }


def _places(run: Run) -> tuple[Path, Path]:
    """Folders whose bench.json may tell of a run."""
    return run.path, run.path.parent


def _recorded(runs: Sequence[Run]) -> dict[Path, tuple[Measurement, ...]]:
    """What is measured in these folders; each record is read once, as it holds all samples."""
    folders = dict.fromkeys(place for run in runs for place in _places(run))
    files = {folder: folder / records.FILE_NAME for folder in folders}
    return {
        folder: _measurements(file, file.stat().st_mtime_ns)
        for folder, file in files.items()
        if file.is_file()
    }


@functools.lru_cache(maxsize=64)
def _measurements(file: Path, written_ns: int) -> tuple[Measurement, ...]:
    """What a record holds, as it was written at that time: several pictures show it."""
    return records.load(file).measurements


def _is_of(run: Run, one: Measurement) -> bool:
    """Whether a file was in a run's folder; paths are as they were typed then, from anywhere."""
    return run.name in Path(one.file).parts[:-1]


def _way(one: Measurement) -> tuple[str, str, int, int]:
    return one.kind, one.runtime, one.threads, one.batch
