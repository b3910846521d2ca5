"""What every benchmark prints: a figure, its goal, and the peer that was measured beside it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_quant.cli.output import print_table
from keras_quant.files import write_json
from keras_quant.runs.records import environment, versions

# By unit; "" is a ratio.
DECIMALS = {
    "us": 2,
    "ms": 3,
    "s": 2,
    "GB": 2,
    "MB": 0,
    "kB": 1,
    "%": 2,
    "points": 2,
    "channels": 0,
    "codes": 0,
    "": 3,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One line of a benchmark's table.

    Attributes:
        value: a time's is the median of its samples.
        unit: a key of DECIMALS.
        best: a time's smallest sample; a ratio's is that of the two smallest samples.
        spread: distance of the quartiles of the samples, as a share of value.
        at_most: the goal, where less is better.
        at_least: the goal, where more is better.
        peer: what the value is measured against, or what it was measured on.
    """

    figure: str
    value: float
    unit: str
    best: float | None = None
    spread: float | None = None
    at_most: float | None = None
    at_least: float | None = None
    peer: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached by the value as it is printed; None without a goal."""
        value = round(self.value, DECIMALS[self.unit])
        if self.at_most is not None:
            return value <= self.at_most
        return None if self.at_least is None else value >= self.at_least


def argument_parser(description: str) -> argparse.ArgumentParser:
    """Makes a parser with the option that all benchmarks share.

    Args:
        description: the script's docstring; its first line is shown by --help.
    """
    parser = argparse.ArgumentParser(
        description=description.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    return parser


def publish(title: str, results: Sequence[Result], json_file: Path | None) -> None:
    """Prints the table, and writes it with the versions and the machine it was measured on.

    Raises:
        FileError: json_file cannot be written.
    """
    columns: dict[str, list[str | None]] = {
        "figure": [result.figure for result in results],
        "value": [_quantity(result.value, result.unit) for result in results],
        "best": [_quantity(result.best, result.unit) for result in results],
        "spread": [None if r.spread is None else f"{r.spread:.1%}" for r in results],
        "goal": [_goal(result) for result in results],
        "met": [{True: "yes", False: "NO", None: None}[result.met] for result in results],
        "peer": [result.peer or None for result in results],
    }
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    print_table(tuple(shown), list(zip(*shown.values(), strict=True)), title=title)
    if json_file is not None:
        record = {"title": title, "results": results}
        write_json(json_file, record | {"versions": versions(), "environment": environment()})


def _quantity(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:,.{DECIMALS[unit]}f} {unit}".rstrip()


def _goal(result: Result) -> str | None:
    if result.at_most is not None:
        return f"at most {_quantity(result.at_most, result.unit)}"
    least = _quantity(result.at_least, result.unit)
    return None if least is None else f"at least {least}"
