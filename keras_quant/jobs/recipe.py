"""Runs recipes: commands one after the other, whose figures become one table."""

from __future__ import annotations

import csv
import io
import json
import math
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_quant.errors import RunError, UsageError
from keras_quant.files import make_folder, read_record, remove, write_json, write_together
from keras_quant.jobs.recipe_file import UNITS, Recipe, load_recipe
from keras_quant.json_codec import to_json
from keras_quant.runs import records
from keras_quant.runs.lock import locked
from keras_quant.runs.progress import Progress
from keras_quant.version import __version__

Call = Callable[[Sequence[str]], Any]
"""Runs a kq command, and gives the JSON document that it prints."""

Check = Callable[[Mapping[str, Sequence[str]], Path], Sequence[tuple[str, str]]]
"""Looks at the words of steps and the folder of their runs: names of steps, and what is wrong."""

_LAST_LINES = 5
_STEP_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """What FOLDER/steps/STEP.json holds.

    Attributes:
        words: of the command, without --json.
        printed: the JSON document that it printed.
        seconds: that it took.
    """

    words: tuple[str, ...]
    printed: Any
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a recipe came to.

    Attributes:
        recipe, title: as its file says.
        scale: that it ran at.
        columns: heading to unit.
        rows: by name, figures in these units; None where a step did not tell one.
        source, published_columns, published, differs: see Recipe.
        commands: the words of each step, by its name.
        seconds: that each took.
        versions: package name to version.
        environment: of the machine.
        kq_version: of keras_quant.
    """

    recipe: str
    title: str
    scale: str
    columns: Mapping[str, str]
    rows: Mapping[str, Mapping[str, float | None]]
    source: str
    published_columns: Mapping[str, str]
    published: Mapping[str, Mapping[str, float | str]]
    differs: tuple[str, ...]
    commands: Mapping[str, tuple[str, ...]]
    seconds: Mapping[str, float]
    versions: Mapping[str, str]
    environment: Mapping[str, str]
    kq_version: str


def run_recipe(
    path: Path,
    *,
    scale: str,
    out: Path | None = None,
    overwrite: bool = False,
    call: Call | None = None,
    check: Check = lambda steps, runs: (),
    progress: Progress,
) -> tuple[Results, Path]:
    """Runs the steps of a recipe, each a process of its own, and writes its table.

    What a step printed is kept in FOLDER/steps/STEP.json, with its words; a recipe that was stopped
    goes on behind the steps that are there with the same words. What stands behind a step that is
    done again is done again too: it may read what that step makes.

    Args:
        scale: one of the recipe's.
        out: the folder; None means reports/NAME.
        overwrite: run all steps again.
        call: None means `call_kq`.
        check: says what is wrong with the steps that are to be run, before the first one is.
    Returns: the results, and the folder with results.md, results.csv and results.json.
    Raises:
        UsageError: the recipe is none, has no such scale, or steps that check finds wrong.
        RunError: a step failed, or another process runs a recipe into the folder.
        FileError: the system refuses.
    """
    recipe = load_recipe(path)
    if scale not in recipe.scales:
        raise UsageError(
            f"--scale {scale!r} is not one of {path}'s; scales are {', '.join(recipe.scales)}"
        )
    folder = make_folder(out or Path("reports", recipe.name))
    commands = {name: tuple(recipe.words(name, scale, folder / "runs")) for name in recipe.steps}
    with locked(folder):
        files = {name: folder / "steps" / f"{name}.json" for name in commands}
        done = {} if overwrite else _done_before(commands, files, progress)
        left = {name: words for name, words in commands.items() if name not in done}
        numbers = {name: number for number, name in enumerate(commands, start=1)}
        if wrong := check(left, folder / "runs"):
            raise UsageError(
                "\n".join(
                    f"{path}: step {numbers[name]}, {name}: {problem}" for name, problem in wrong
                )
            )
        make_folder(folder / "steps")
        for name in left:
            remove(files[name])
        with progress.bar("steps", len(commands)) as show:
            for name, words in left.items():
                show(numbers[name] - 1, name)
                done[name] = _do(words, files[name], call or call_kq, progress)
            show(len(commands), "")
        results = _results(recipe, scale, done)
        for row, cells in recipe.rows.items():
            for column, cell in cells.items():
                if results.rows[row][column] is None:
                    progress.say(f"{row}, {column}: {cell.step} printed no number at {cell.path}")
        _write(results, folder)
    return results, folder


def call_kq(words: Sequence[str]) -> Any:
    """Runs a kq command with --json in a process of its own; what it says is kept for errors.

    Raises:
        RunError: it failed, or printed no JSON document.
    """
    done = subprocess.run(
        [sys.executable, "-m", "keras_quant", *words, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-_LAST_LINES:])
        raise RunError(f"kq {shlex.join(words)}: ended with {done.returncode}:\n{last}")
    try:
        return json.loads(done.stdout)
    except ValueError as error:
        raise RunError(f"kq {shlex.join(words)}: printed no JSON document ({error})") from error


def _done_before(
    commands: Mapping[str, tuple[str, ...]], files: Mapping[str, Path], progress: Progress
) -> dict[str, StepRecord]:
    """The records of the first steps, up to one that was not done with the same words."""
    done: dict[str, StepRecord] = {}
    for name, words in commands.items():
        known = _known(files[name], words, progress)
        if known is None:
            break
        done[name] = known
    return done


def _known(file: Path, words: tuple[str, ...], progress: Progress) -> StepRecord | None:
    """The record of a step that was done before, with the same words; of a damaged one says so."""
    if not file.exists():
        return None
    try:
        record = read_record(
            file,
            StepRecord,
            remedy="The step is done again",
            format_version=_STEP_FORMAT,
            problems_of=_step_problems,
        )
    except RunError as error:
        progress.say(str(error))
        return None
    if record.words != words:
        return None
    progress.say(f"{file.stem}: was done; --overwrite does it again")
    return record


def _step_problems(record: StepRecord) -> list[str]:
    if math.isfinite(record.seconds) and record.seconds >= 0:
        return []
    return [f"seconds: is {record.seconds}; a time is needed"]


def _do(words: tuple[str, ...], file: Path, call: Call, progress: Progress) -> StepRecord:
    """Calls a command, and keeps what it printed."""
    progress.say(f"{file.stem}: kq {shlex.join(words)}")
    started = time.perf_counter()
    printed = call(words)
    record = StepRecord(words=words, printed=printed, seconds=time.perf_counter() - started)
    write_json(file, record)
    return record


def _results(
    recipe: Recipe,
    scale: str,
    done: Mapping[str, StepRecord],
) -> Results:
    printed = {name: record.printed for name, record in done.items()}
    rows: dict[str, dict[str, float | None]] = {}
    for row, cells in recipe.rows.items():
        rows[row] = {}
        for column, unit in recipe.columns.items():
            value = cells[column].value(printed) if column in cells else None
            rows[row][column] = None if value is None else UNITS[unit](value)
    return Results(
        recipe=recipe.name,
        title=recipe.title,
        scale=scale,
        columns=recipe.columns,
        rows=rows,
        source=recipe.source,
        published_columns=recipe.published_columns,
        published=recipe.published,
        differs=recipe.differs,
        commands={name: record.words for name, record in done.items()},
        seconds={name: record.seconds for name, record in done.items()},
        versions=records.versions(),
        environment=records.environment(),
        kq_version=__version__,
    )


def _write(results: Results, folder: Path) -> None:
    write_together(
        {
            folder / "results.csv": _csv(results).encode(),
            folder / "results.json": f"{to_json(results)}\n".encode(),
            folder / "results.md": as_markdown(results).encode(),
        }
    )


def figure(value: float | None, unit: str) -> str:
    """A figure of the table as text; a dash for none."""
    if value is None:
        return "-"
    digits = {"%": 2, "error %": 2, "number": 0}.get(unit)
    return f"{value:,.{digits}f}" if digits is not None else f"{value:,.4g}"


def headings(columns: Mapping[str, str]) -> list[str]:
    """Names of columns with what their figures are in; once computed, an error % is a %."""
    return [f"{name} ({'%' if unit == 'error %' else unit})" for name, unit in columns.items()]


def _csv(results: Results) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["", *headings(results.columns)])
    for row, cells in results.rows.items():
        writer.writerow([row, *("" if cells[name] is None else cells[name] for name in cells)])
    return stream.getvalue()


def as_markdown(results: Results) -> str:
    """The results as a page: our table, the published one, what differs, and the commands."""
    parts = [
        f"# {results.title}",
        f"Recipe {results.recipe}, scale {results.scale}, keras_quant {results.kq_version}.",
        _table(
            headings(results.columns),
            {
                row: [figure(cells[name], unit) for name, unit in results.columns.items()]
                for row, cells in results.rows.items()
            },
        ),
    ]
    if results.published:
        parts += [
            f"Published ({results.source}):",
            _table(
                headings(results.published_columns),
                {
                    row: [str(cells.get(name, "-")) for name in results.published_columns]
                    for row, cells in results.published.items()
                },
            ),
        ]
    if results.differs:
        parts += [
            "What differs:" if results.published else "Notes:",
            "\n".join(f"- {text}" for text in results.differs),
        ]
    commands = [
        f"kq {shlex.join(words)}    # {results.seconds[name]:.0f} s"
        for name, words in results.commands.items()
    ]
    parts += ["Made with:", "\n".join(f"    {command}" for command in commands)]
    return "\n\n".join(parts) + "\n"


def _table(columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *cells] for name, cells in rows.items()]
    return "\n".join(f"| {' | '.join(map(_cell, cells))} |" for cells in lines)


def _cell(text: str) -> str:
    """What a cell of a Markdown table may hold: one line, and no bar that would end it."""
    return " ".join(text.split()).replace("|", r"\|")
