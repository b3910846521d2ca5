"""Recipes: files that say which commands make a table, and what others published beside it.

format: 1
name: resnet34-ptq                      # of the folder in reports/
title: What post-training quantization buys
scales:                                 # values of {words} below, a set for each scale
  small: {model: resnet20, epochs: 2}
steps:                                  # commands of kq, each with --json; {runs}: their folder
  float: [train, --method, float, --model, "{model}", --epochs, "{epochs}", --name, float]
table:
  columns: {size: kB, top-1 error: error %}
  rows:
    float: {size: "float: record.figures[name=size].value", top-1 error: "float: ..."}
published:
  source: where they were published
  columns: {size: MB}
  rows: {float: {size: 85.5}}
differs: [what is not as published, or notes where nothing is, a sentence each]

A cell is STEP, a colon and a path into what the step printed: names and places with dots between,
and [key=value,...] for the first entry of a list that has these. Nothing is computed but a column's
unit.
"""

from __future__ import annotations

import re
import string
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from keras_quant.errors import UsageError, close_names, shown
from keras_quant.files import check_is_file
from keras_quant.strict_yaml import read_yaml

FORMAT = 1
COMMANDS = (
    *("train", "quantize", "export", "evaluate", "bench", "compare", "inspect", "diagnose"),
    "anytime",
)
"""What a step may call: commands that print one JSON document."""

UNITS: dict[str, Callable[[float], float]] = {
    "kB": lambda x: x / 1e3,
    "MB": lambda x: x / 1e6,
    "%": lambda x: 100 * x,
    "error %": lambda x: 100 * (1 - x),
    "ms": lambda x: x,
    "us": lambda x: 1e3 * x,
    "s": lambda x: x,
    "dB": lambda x: x,
    "nats": lambda x: x,
    "of 1": lambda x: x,
    "uJ": lambda x: x / 1e3,
    "M": lambda x: x / 1e6,
    "G": lambda x: x / 1e9,
    "number": lambda x: x,
}
"""What becomes of a value: bytes to kB and MB, shares to %, ms to us, nJ to uJ, counts to M, G."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_PART = re.compile(r"([^.\[\]]+)|\[([^\[\]]+)\]")
_NAMED, _CHOSEN = r"[^.\[\]]+", r"\[\w+=[^\[\]]*\]"
_PATH = re.compile(rf"(?:{_NAMED}|{_CHOSEN})(?:\.{_NAMED}|{_CHOSEN})*")
_BETWEEN = re.compile(r",(?=\w+=)")  # values may have commas: "Keras model, output mean"
_OWN_WORDS = ("runs",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Where a figure stands: in what a step printed, along a path."""

    step: str
    path: str

    def value(self, printed: Mapping[str, Any]) -> float | None:
        """The figure; None where there is none, or none that is finite.

        Args:
            printed: what the steps printed, by name.
        """
        found: Any = printed.get(self.step)
        for name, conditions in _PART.findall(self.path):
            if conditions:
                wanted = [pair.partition("=")[::2] for pair in _BETWEEN.split(conditions)]
                entries = found if isinstance(found, list) else []
                found = next((x for x in entries if _has(x, wanted)), None)
            elif isinstance(found, dict):
                found = found.get(name)
            elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            else:
                return None
        if not isinstance(found, int | float) or isinstance(found, bool):
            return None
        # JSON as Python reads it has NaN, Infinity and whole numbers of any size: no figures.
        return float(found) if abs(found) <= sys.float_info.max else None


def _has(entry: Any, wanted: Sequence[Sequence[str]]) -> bool:
    return isinstance(entry, dict) and all(str(entry.get(key)) == value for key, value in wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A recipe as its file says it.

    Attributes:
        name: of the folder that its results go to.
        title: of the table.
        scales: by name, the values of words in steps.
        steps: by name, the words of a kq command.
        columns: by heading, a unit of UNITS.
        rows: by name, a cell for each column that has one.
        source: of what was published; "" for nothing.
        published_columns: by heading, what the figures are in.
        published: by row, figures as published.
        differs: what is not as published; notes where nothing is.
    """

    name: str
    title: str
    scales: Mapping[str, Mapping[str, str]]
    steps: Mapping[str, tuple[str, ...]]
    columns: Mapping[str, str]
    rows: Mapping[str, Mapping[str, Cell]]
    source: str = ""
    published_columns: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[str, Mapping[str, float | str]] = field(default_factory=dict)
    differs: tuple[str, ...] = ()

    def words(self, step: str, scale: str, runs: Path) -> list[str]:
        """A step's command, with a scale's values and the folder of runs in place."""
        values = {**self.scales[scale], "runs": str(runs)}
        return [word.format_map(values) for word in self.steps[step]]


def _said(value: Any) -> str:
    """What stands in a file where something else is needed."""
    return "nothing is there" if value is None else f"it is {shown(value)}"


def load_recipe(path: Path) -> Recipe:
    """Reads a recipe.

    Raises:
        UsageError: there is no such file, or it is no recipe; all problems at once.
    """
    check_is_file(path, UsageError, give="give a recipe, as recipes/plain-kinds.yaml")
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path}: no recipe that can be read ({error})") from error
    problems: list[str] = []
    recipe = _Reader(problems).recipe(content)
    if problems or recipe is None:
        raise UsageError("\n".join(f"{path}: {problem}" for problem in problems))
    return recipe


class _Reader:
    """Turns what YAML gave into a recipe, and notes what is wrong."""

    def __init__(self, problems: list[str]) -> None:
        self._problems = problems

    def recipe(self, content: Any) -> Recipe | None:
        if not isinstance(content, dict):
            self._say(
                f"no recipe: {_said(content)}; docs/recipes.md says how one is written, which "
                "begins with format: 1"
            )
            return None
        known = ("format", "name", "title", "scales", "steps", "table", "published", "differs")
        top = self._mapping(content, "the recipe", known)
        if top.get("format") != FORMAT:
            self._say(f"format: {_said(top.get('format'))}; {FORMAT} is read here")
        table = self._mapping(top.get("table"), "table", ("columns", "rows"))
        published = self._mapping(
            top.get("published", {}), "published", ("source", "columns", "rows")
        )
        name = str(top.get("name"))
        if top.get("name") is None or not _NAME.fullmatch(name):
            self._say(f"name: {_said(top.get('name'))}; small letters, digits, - and _ are allowed")
        scales = {
            str(scale): {
                str(k): self._word(v, f"scales.{scale}.{k}")
                for k, v in self._mapping(one, f"scales.{scale}").items()
            }
            for scale, one in self._mapping(top.get("scales"), "scales").items()
        }
        for scale, values in scales.items():
            for word in sorted(values.keys() & set(_OWN_WORDS)):
                self._say(f"scales.{scale}: {word} is the folder of runs; take another word")
        steps = dict(self._steps(top.get("steps"), scales))
        columns = {
            str(k): str(v) for k, v in self._mapping(table.get("columns"), "table.columns").items()
        }
        for heading, unit in columns.items():
            if unit not in UNITS:
                self._say(
                    f"table.columns.{heading}: unit {unit!r} is not known"
                    f"{close_names(unit, UNITS)}; units are {', '.join(UNITS)}"
                )
        for where, part in (
            ("table.columns", table.get("columns")),
            ("table.rows", table.get("rows")),
            ("scales", top.get("scales")),
        ):
            if part == {}:
                self._say(f"{where}: at least one is needed")
        rows = {
            str(row): dict(self._cells(cells, f"table.rows.{row}", steps, columns))
            for row, cells in self._mapping(table.get("rows"), "table.rows").items()
        }
        published_columns = {
            str(k): str(v)
            for k, v in self._mapping(published.get("columns", {}), "published.columns").items()
        }
        published_rows = {
            str(row): dict(self._published(cells, f"published.rows.{row}", published_columns))
            for row, cells in self._mapping(published.get("rows", {}), "published.rows").items()
        }
        if published_rows and not published.get("source"):
            self._say("published.source: say where they were published")
        differs = top.get("differs", [])
        if not isinstance(differs, list):
            self._say("differs: a list of sentences is needed")
            differs = []
        if self._problems:
            return None
        return Recipe(
            name=name,
            title=str(top.get("title", name)),
            scales=scales,
            steps=steps,
            columns=columns,
            rows=rows,
            source=str(published.get("source", "")),
            published_columns=published_columns,
            published=published_rows,
            differs=tuple(map(str, differs)),
        )

    def _steps(
        self, content: Any, scales: Mapping[str, Mapping[str, str]]
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        for name, words in self._mapping(content, "steps").items():
            where = f"steps.{name}"
            if not _NAME.fullmatch(str(name)):
                self._say(f"{where}: small letters, digits, - and _ are allowed in a name")
            if not isinstance(words, list) or not words:
                self._say(f"{where}: a list of words is needed, as in [evaluate, model.tflite]")
                continue
            texts = tuple(self._word(word, where) for word in words)
            if texts[0] not in COMMANDS:
                self._say(
                    f"{where}: {texts[0]!r} is no command of recipes"
                    f"{close_names(texts[0], COMMANDS)}; commands are {', '.join(COMMANDS)}"
                )
            for scale, values in scales.items():
                self._check_words(where, texts, scale, {*values, *_OWN_WORDS})
            yield str(name), texts

    def _check_words(self, where: str, texts: Sequence[str], scale: str, known: set[str]) -> None:
        for text in texts:
            try:
                parts = [part for part in string.Formatter().parse(text) if part[1] is not None]
            except ValueError as error:
                self._say(f"{where}: {text!r}: {error}")
                continue
            if any(form or conversion for _, _, form, conversion in parts):
                self._say(f"{where}: {text!r}: a name alone is allowed in braces")
                continue
            used = {name for _, name, _, _ in parts if name is not None}
            if "" in used:
                self._say(f"{where}: {text!r}: a name is needed in braces; {{{{ stands for a brace")
            elif used - known:
                self._say(
                    f"{where}: {text!r} asks for {', '.join(sorted(used - known))}; scale {scale} "
                    f"has {', '.join(sorted(known))}"
                )

    def _cells(
        self, content: Any, where: str, steps: Mapping[str, Any], columns: Mapping[str, str]
    ) -> Iterator[tuple[str, Cell]]:
        for column, text in self._mapping(content, where).items():
            step, _, path = str(text).partition(":")
            if column not in columns:
                self._say(f"{where}: no column {column!r}{close_names(str(column), columns)}")
            elif step not in steps:
                self._say(f"{where}.{column}: no step {step!r}{close_names(step, steps)}")
            elif not _PATH.fullmatch(path.strip()):
                self._say(
                    f"{where}.{column}: {text!r}: behind the step, a colon and a path are needed, "
                    f"as in '{step}: record.figures[name=size].value'"
                )
            else:
                yield str(column), Cell(step=step, path=path.strip())

    def _published(
        self, content: Any, where: str, columns: Mapping[str, str]
    ) -> Iterator[tuple[str, float | str]]:
        for column, value in self._mapping(content, where).items():
            if column not in columns:
                self._say(f"{where}: no column {column!r}{close_names(str(column), columns)}")
            elif isinstance(value, bool) or not isinstance(value, int | float | str):
                self._say(f"{where}.{column}: a number or a text is needed; it is {shown(value)}")
            else:
                yield str(column), value

    def _word(self, value: Any, where: str) -> str:
        """A word as it was written: YAML makes truth values of yes, no, on and off."""
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            self._say(
                f"{where}: a word is needed, in quotes where it is yes or no; it is {shown(value)}"
            )
        return str(value)

    def _mapping(
        self, content: Any, where: str, known: Sequence[str] | None = None
    ) -> dict[Any, Any]:
        if not isinstance(content, dict):
            self._say(f"{where}: names with values are needed; {_said(content)}")
            return {}
        for key in content:
            if known is not None and key not in known:
                self._say(f"{where}: {key!r} is not known{close_names(str(key), known)}")
        return content

    def _say(self, text: str) -> None:
        self._problems.append(text)
