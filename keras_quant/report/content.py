"""What a report says, gathered from the records of runs; pages only lay it out."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_quant.errors import UsageError
from keras_quant.plots.draw import KINDS, check_alike
from keras_quant.plots.tradeoff import pareto
from keras_quant.proof.record import is_recorded, read_records
from keras_quant.report.looks import looks_of
from keras_quant.report.picture import Picture
from keras_quant.report.speeds import estimates_table, speeds_table
from keras_quant.report.table import Table, number, text
from keras_quant.runs import RunFolder
from keras_quant.runs.index import UNITS, Run

NEAR_FLOAT = 0.5  # points of accuracy, or dB: what the summary calls as good as float

_PICTURES = {
    "accuracy-bits": "Quality by bit width",
    "accuracy-size": "Quality by file size",
    "accuracy-latency": "Quality by measured latency",
    "accuracy-estimate": "Quality by estimated latency on a Jetson (estimate, nothing was run)",
    "latency-bars": "Latency, measured (filled) and estimated (hatched)",
    "accuracy-bitops": "Quality by bit operations",
    "accuracy-energy": "Quality by modelled energy",
    "training": "Training",
}
_MOST_CURVES = 6  # runs that one picture of training tells apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that a report says.

    Attributes:
        summary: sentences that a person can quote.
        runs, proofs, machines: tables.
        speeds: measured latencies, with the speed-up over the float run.
        estimates: estimated ones, apart from what was measured.
        commands: by the name of each run what was typed to make it.
        problems: records that could not be read.
    """

    title: str
    summary: tuple[str, ...]
    pictures: tuple[Picture, ...]
    runs: Table
    proofs: Table
    machines: Table
    speeds: Table
    estimates: Table
    commands: tuple[tuple[str, str], ...]
    problems: tuple[str, ...] = ()

    @property
    def tables(self) -> tuple[Table, ...]:
        """In the order of the page; latencies only where there are some."""
        latencies = (table for table in (self.speeds, self.estimates) if table.rows)
        return (self.runs, *latencies, self.proofs, self.machines)


def gather(runs: Sequence[Run], *, title: str, problems: Sequence[str] = ()) -> Report:
    """Gathers a report.

    Args:
        runs: at least one; their scores are to be of one dataset and metric.
    Raises:
        UsageError: they are of several.
    """
    check_alike(runs)
    looks, damaged = looks_of(runs)
    return Report(
        title=title,
        summary=tuple(_summary(runs)),
        pictures=(*_pictures(runs), *looks),
        runs=_runs_table(runs),
        proofs=_proofs_table(runs),
        machines=_machines_table(runs),
        speeds=speeds_table(runs),
        estimates=estimates_table(runs),
        commands=tuple((run.name, _typed(run.record.command)) for run in runs),
        problems=(*problems, *damaged),
    )


def _typed(command: Sequence[str]) -> str:
    """A command as it can be typed elsewhere: the program without the folder that it lay in."""
    name = Path(command[0]).name if command else ""
    program = ["kq"] if name == "__main__.py" else [name] if name else []
    return shlex.join([*program, *command[1:]])


def _summary(runs: Sequence[Run]) -> Iterable[str]:
    """What the smallest run comes to that is as good as float, and what is proven of them all."""
    judged = [run for run in runs if run.score is not None and run.size_bytes is not None]
    floats = [run for run in judged if run.is_float]
    others = [run for run in judged if not run.is_float]
    if floats and others:
        best = max(floats, key=_score)
        near = [run for run in others if _score(run) >= _score(best) - NEAR_FLOAT]
        chosen = min(near, key=_size) if near else max(others, key=_score)
        yield (
            f"{chosen.name} ({chosen.method}, {chosen.scheme}) reaches {_scored(chosen)} on the "
            f"test images of {chosen.record.dataset.name} in {_size(chosen) / 1e3:,.1f} kB; float "
            f"reaches {_scored(best)} in {_size(best) / 1e3:,.1f} kB."
        )
    elif judged:
        best = max(judged, key=_score)
        yield f"{best.name} ({best.method}, {best.scheme}) is the best, with {_scored(best)}."
    files = [proof for run in runs for proof in _proofs(run)]
    passed = sum(proof.passed for proof in files)
    if files:
        yield (
            f"{passed} of {len(files)} exported files are proven: they answer as the trained model "
            "does, code by code."
        )


def _score(run: Run) -> float:
    assert run.score is not None
    return run.score


def _size(run: Run) -> int:
    assert run.size_bytes is not None
    return run.size_bytes


def _scored(run: Run) -> str:
    return f"{_score(run):.2f} {UNITS[run.metric]}"


def _pictures(runs: Sequence[Run]) -> Iterable[Picture]:
    """Those that can be drawn of these runs."""
    for name, title in _PICTURES.items():
        if name == "training" and len(runs) > _MOST_CURVES:
            continue
        try:
            figure = KINDS[name](runs, title="")
        except UsageError:  # none of the runs has what it shows
            continue
        yield Picture(name=name, title=title, figure=figure)


def _runs_table(runs: Sequence[Run]) -> Table:
    metric = next((run.metric for run in runs if run.metric), "")
    columns = (
        *("run", "method", "bits", f"{metric} [{UNITS[metric]}]" if metric else "score"),
        *("agreement [%]", "file [kB]", "kernels [kB]"),
        *("bit operations [M]", "energy, modelled [µJ]", "seed", "status", "Pareto"),
    )
    placed = [run for run in runs if run.score is not None and run.size_bytes is not None]
    front = {placed[i].path for i in pareto([(_size(run), _score(run)) for run in placed])}
    rows = [
        (
            *(text(run.name), text(run.method), text(run.scheme)),
            number(run.score, ".2f"),
            number(run.agreement, ".2f"),
            number(run.size_bytes, ",.1f", 1e-3),
            number(run.logical_bytes, ",.1f", 1e-3),
            number(run.bit_operations, ",.1f", 1e-6),
            number(run.energy_nj, ",.2f", 1e-3),
            *(text(str(run.record.seed)), text(run.record.status)),
            text("front" if run.path in front else ""),
        )
        for run in runs
    ]
    return Table(
        title="Runs", columns=columns, rows=tuple(rows), numeric=frozenset((3, 4, 5, 6, 7, 8, 9))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proof:
    """What is recorded of one exported file."""

    format: str
    file: str
    passed: bool
    different: int
    compared: int
    images: int
    kernels: str
    sha256: str
    verdict: str


def _proofs(run: Run) -> list[_Proof]:
    folder = RunFolder(run.path).export
    found = []
    for name, record in read_records(folder).items():
        whole, passed = is_recorded(folder, record), record.get("passed") is True
        verdict = "proven" if passed and whole else "failed" if not passed else "another file"
        kernels = record.get("kernels")
        found.append(
            _Proof(
                format=name,
                file=str(record["file"]),
                passed=passed and whole,
                different=_count(record.get("codes_different")),
                compared=_count(record.get("codes_compared")),
                images=_count(record.get("images")),
                kernels=", ".join(map(str, kernels)) if isinstance(kernels, list) else "",
                sha256=str(record["sha256"]),
                verdict=verdict,
            )
        )
    return found


def _proofs_table(runs: Sequence[Run]) -> Table:
    columns = (
        "run",
        "format",
        "verdict",
        "codes that differ",
        "of",
        "images",
        "kernels",
        "SHA-256",
    )
    rows = [
        (
            *(text(run.name), text(proof.format), text(proof.verdict)),
            *(number(n, ",d") for n in (proof.different, proof.compared, proof.images)),
            *(text(proof.kernels), text(proof.sha256[:16])),
        )
        for run in runs
        for proof in _proofs(run)
    ]
    return Table(title="Proofs", columns=columns, rows=tuple(rows), numeric=frozenset((3, 4, 5)))


def _machines_table(runs: Sequence[Run]) -> Table:
    """Each version and fact of a machine, and the runs that it is of."""
    facts: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        record = run.record
        for name, value in {
            "keras_quant": record.kq_version,
            **record.versions,
            **record.environment,
        }.items():
            facts.setdefault((name, value), []).append(run.name)
    rows = [
        (
            text(name),
            text(value),
            text("all" if len(names) == len(runs) else ", ".join(names)),
        )
        for (name, value), names in facts.items()
    ]
    return Table(title="Versions and machines", columns=("what", "value", "runs"), rows=tuple(rows))


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
