"""Runs a sweep: each point a process of `kq`, so that one that fails or dies ends alone.

The runs in the sweep's folder are what there is to know: a point is done when its run is exported.
So a sweep that was killed goes on with what is left, and the point that was being trained with its
next epoch.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keras_quant.errors import RunError
from keras_quant.files import make_folder, read_record, write_json
from keras_quant.jobs.sweep_plan import Point, SweepSettings, points_of
from keras_quant.jobs.sweep_processes import Engine, ProcessLostError, ThisMachine
from keras_quant.runs import locked, records

FILE_NAME = "sweep.json"
FORMAT_VERSION = 1
LOGS = "logs"
KQ = (sys.executable, "-m", "keras_quant")
"""What a point's process is started with."""

_MOST_LOSSES = 3  # of the machines a point runs on
_POLL_SECONDS = 0.2
_TERM_SECONDS = 30  # to save what a killed training needs


@dataclass(frozen=True, slots=True, kw_only=True)
class PointResult:
    """What became of a point.

    Attributes:
        seconds: that it took, all its starts together.
        error: why it failed; "" where it did not.
    """

    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRecord:
    """What a sweep was asked for, and what became of its points so far, by name."""

    settings: SweepSettings
    results: Mapping[str, PointResult] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Where a sweep stands.

    Attributes:
        state: by the name of each point "waiting", "running", "done", "failed", or "left out",
            as what it was to start from failed.
        last_line: by name, what a running point said last.
        seconds_left: expected; None before a point of the kind is done.
    """

    state: Mapping[str, str]
    last_line: Mapping[str, str]
    seconds_left: float | None


def sweep(
    settings: SweepSettings,
    folder: Path,
    *,
    resume: bool = False,
    engine: Engine | None = None,
    show: Callable[[Status], None] = lambda status: None,
) -> SweepRecord:
    """Makes all points of a sweep that are not there yet.

    Args:
        folder: of the sweep; one folder a run is made in it, sweep.json, and logs/.
        resume: go on with a sweep that was stopped; points that failed are tried again.
        engine: what starts the points' processes; None means this machine.
        show: is told when something changes.
    Returns: the record, in which failed points have an error.
    Raises:
        UsageError: settings that are out of range.
        MissingDependencyError: the package of a method is not installed.
        RunError: the folder holds a sweep and resume is off, or another sweep, or another process
            works on it.
        FileError: the system refuses.
    """
    check(settings, folder, resume=resume)
    settings.load_methods()
    with locked(make_folder(folder)):
        record = _begin(settings, folder, resume=resume)
        write_json(folder / FILE_NAME, record)
        make_folder(folder / LOGS)
        return _Sweep(record, folder, engine or ThisMachine(), show).run()


def check(settings: SweepSettings, folder: Path, *, resume: bool = False) -> None:
    """Checks what can be checked at once: loads no TensorFlow, and writes nothing.

    Raises: as `sweep`.
    """
    settings.check()
    if folder.is_dir():
        _begin(settings, folder, resume=resume)


def load(folder: Path) -> SweepRecord:
    """Reads the record of a sweep.

    Raises:
        RunError: it is missing, or broken.
    """
    path = folder / FILE_NAME
    return read_record(
        path, SweepRecord, remedy="Give a folder of kq sweep", format_version=FORMAT_VERSION
    )


def _begin(settings: SweepSettings, folder: Path, *, resume: bool) -> SweepRecord:
    if not (folder / FILE_NAME).exists():
        others = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
        if others:
            raise RunError(f"{folder}: holds {others[0]}, and no sweep; give --name NAME")
        return SweepRecord(settings=settings)
    if not resume:
        raise RunError(f"{folder}: holds a sweep; give --resume to go on with it, or --name NAME")
    begun = load(folder)
    if differing := _differing(begun.settings, settings):
        raise RunError(
            f"{folder}: --resume needs the settings that the sweep was begun with; these differ: "
            f"{', '.join(differing)} (see {folder / FILE_NAME})"
        )
    return begun


def _differing(a: SweepSettings, b: SweepSettings) -> list[str]:
    """Settings that are not the same; how many points are made at a time decides over threads."""
    return [name for name in SweepSettings.__slots__ if getattr(a, name) != getattr(b, name)]


class _Sweep:
    """A sweep that goes on."""

    def __init__(
        self, record: SweepRecord, folder: Path, engine: Engine, show: Callable[[Status], None]
    ) -> None:
        self._settings, self._folder, self._show = record.settings, folder, show
        self._engine = engine
        self._points = points_of(record.settings, folder)
        self._results = {
            name: PointResult(seconds=result.seconds) for name, result in record.results.items()
        }
        done = [point.name for point in self._points if _status(folder / point.name) == "exported"]
        self._state = {p.name: "done" if p.name in done else "waiting" for p in self._points}
        self._jobs: dict[str, _Job] = {}
        self._losses: Counter[str] = Counter()

    def run(self) -> SweepRecord:
        """Makes what is waiting."""
        with self._ended():
            self._tell()
            while "waiting" in self._state.values() or self._jobs:
                self._start_ready()
                if not self._jobs and not self._losses:
                    break
                time.sleep(_POLL_SECONDS)
                self._collect()
        return self._record()

    def _start_ready(self) -> None:
        """Starts points whose parents are done, as many as there may be."""
        for point in self._points:
            if self._state[point.name] != "waiting" or self._still_held(point.name):
                continue
            parent = "done" if point.parent is None else self._state[point.parent]
            if parent in ("failed", "left out"):
                self._state[point.name] = "left out"
                self._finish(point.name, 0.0, f"{point.parent} failed, which it starts from")
            elif parent == "done" and len(self._jobs) < self._settings.jobs:
                self._jobs[point.name] = _Job(
                    point, self._folder, self._engine, jobs=self._settings.jobs
                )
                self._state[point.name] = "running"
                self._tell()

    def _still_held(self, name: str) -> bool:
        """Whether a point that was lost has not ended yet, as its machine is there after all."""
        run = self._folder / name
        if not self._losses[name] or not run.is_dir():
            return False
        try:
            with locked(run):
                return False
        except RunError:
            return True

    def _collect(self) -> None:
        """Looks which points have ended."""
        changed = False
        for name, job in list(self._jobs.items()):
            changed |= job.read()
            try:
                code = job.process.poll()
            except ProcessLostError as error:
                self._lose(name, str(error))
                changed = True
                continue
            if code is None:
                continue
            job.read()
            del self._jobs[name]
            changed = True
            done = code == 0 and _status(self._folder / name) == "exported"
            self._state[name] = "done" if done else "failed"
            self._finish(name, job.seconds, "" if done else job.why(code))
            job.log.close()
        if changed:
            self._tell()

    def _lose(self, name: str, why: str) -> None:
        """Lets a point whose machine is gone go on elsewhere."""
        job = self._jobs.pop(name)
        job.log.close()
        self._losses[name] += 1
        again = self._losses[name] < _MOST_LOSSES
        self._state[name] = "waiting" if again else "failed"
        self._finish(name, job.seconds, "" if again else f"lost {_MOST_LOSSES} times: {why}")

    def _finish(self, name: str, seconds: float, error: str) -> None:
        before = self._results.get(name, PointResult()).seconds
        self._results[name] = PointResult(seconds=before + seconds, error=error)
        write_json(self._folder / FILE_NAME, self._record())
        self._tell()

    def _record(self) -> SweepRecord:
        return SweepRecord(settings=self._settings, results=self._results)

    def _tell(self) -> None:
        lines = {name: job.last_line for name, job in self._jobs.items()}
        left = self._seconds_left()
        self._show(Status(state=dict(self._state), last_line=lines, seconds_left=left))

    def _seconds_left(self) -> float | None:
        """Of what is not done, each takes as long as those of its kind did."""
        total = 0.0
        for point in self._points:
            if self._state[point.name] in ("waiting", "running"):
                alike = [
                    self._results[other.name].seconds
                    for other in self._points
                    if self._state[other.name] == "done"
                    and _kind(other) == _kind(point)
                    and other.name in self._results
                ]
                if not alike:
                    return None
                ran = self._jobs[point.name].seconds if point.name in self._jobs else 0.0
                total += max(0.0, sum(alike) / len(alike) - ran)
        return total / self._settings.jobs

    @contextlib.contextmanager
    def _ended(self) -> Iterator[None]:
        """Ends what still runs where the sweep is stopped; it can be resumed."""
        try:
            yield
        finally:
            for job in self._jobs.values():
                job.process.terminate()
            for job in self._jobs.values():
                try:
                    job.process.wait(_TERM_SECONDS)
                except subprocess.TimeoutExpired:
                    job.process.kill()
                job.log.close()


class _Job:
    """A point that is being made."""

    def __init__(self, point: Point, folder: Path, engine: Engine, *, jobs: int) -> None:
        self._path = folder / LOGS / f"{point.name}.log"
        self._started = time.monotonic()
        self.log = self._path.open("a+", encoding="utf-8", errors="replace")
        self.log.seek(0, os.SEEK_END)
        self.last_line = ""
        self.process = engine.start(
            [*KQ, *_arguments(point, folder, threads=engine.threads(jobs))], self._path
        )

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._started

    def read(self) -> bool:
        """Reads what it wrote since. Returns: whether that was anything."""
        lines = [line.strip() for line in self.log if line.strip()]
        if lines:
            self.last_line = lines[-1]
        return bool(lines)

    def why(self, code: int) -> str:
        """Why it failed, as it said it; else what its exit code tells."""
        self.log.seek(0)
        said = [line.strip() for line in self.log if line.startswith("error: ")]
        reason = said[-1].removeprefix("error: ") if said else _ending(code)
        return f"{reason} (see {self._path})"


def _ending(code: int) -> str:
    if code >= 0:
        return f"kq ended with exit code {code}, without a word"
    return f"its process was ended by signal {-code}"


def _arguments(point: Point, folder: Path, *, threads: int) -> Sequence[str]:
    """What kq is called with, for a point that is begun or gone on with."""
    status = _status(folder / point.name)
    where = ["--out", str(folder), "--name", point.name]
    if point.trains:
        again = ["--resume"] if status is not None else []
        said = any(word.partition("=")[0] == "--threads" for word in point.arguments)
        share = ["--threads", str(threads)] if threads and not said else []
        return [*point.arguments, *where, *again, *share]
    return [*point.arguments, *where, *(["--overwrite"] if status is not None else [])]


def _status(run: Path) -> str | None:
    """How far a run is; None where there is none."""
    return records.load(run).status if (run / records.FILE_NAME).exists() else None


def _kind(point: Point) -> tuple[str, ...]:
    """Points of one kind take about as long."""
    if point.parent is None:
        return ("float",)
    return ("trained",) if point.trains else ("quantized",)
