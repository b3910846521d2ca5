"""Errors that a user can cause and mend. Everything else is a bug of ours."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable

QUOTED = 200
"""Characters of a value that a message quotes."""


class KerasQuantError(Exception):
    """Base of all errors raised for a user's mistake or a missing means.

    Attributes:
        exit_code: the process exit code of a command that ends with this error.
    """

    exit_code = 1


class KerasQuantWarning(UserWarning):
    """Something that a user should know of what was made of his input; commands print it."""


def warn(text: str) -> None:
    """Reports to the caller of the library, or a command's user, what is not an error."""
    warnings.warn(text, KerasQuantWarning, stacklevel=3)


class UsageError(KerasQuantError):
    """An option or argument is wrong: the command was not understood."""

    exit_code = 2


class SchemeError(UsageError):
    """A scheme file, a preset name or a rule is wrong."""


class DataError(KerasQuantError):
    """A dataset is missing, broken or does not fit the model."""


class ModelError(KerasQuantError):
    """A model cannot be built, loaded or trusted."""


class TrainingError(KerasQuantError):
    """Training cannot go on (a NaN loss, say)."""


class RunError(KerasQuantError):
    """A run folder is missing, exists already, or is of another format."""


class LoweringError(KerasQuantError):
    """A Keras model has layers that cannot be lowered to the integer graph."""


class GraphError(KerasQuantError):
    """A graph breaks a rule of its own: shapes, quantization parameters, order."""


class EmitError(KerasQuantError):
    """A graph cannot be written for a target."""


class MissingDependencyError(KerasQuantError):
    """An optional package is not installed."""


class ParityError(KerasQuantError):
    """An exported file does not answer as the reference does."""

    exit_code = 3


class AccuracyError(KerasQuantError):
    """A model loses more accuracy than it may."""

    exit_code = 3


class ResultsError(KerasQuantError):
    """What another machine measured is missing, broken, or of a run that failed."""


class BudgetError(KerasQuantError):
    """Nothing that may be chosen is within what it may cost, or as good as it must be."""

    exit_code = 3


class PeerError(KerasQuantError):
    """Stages on another machine cannot be reached, do not answer, or are of another net.

    Attributes:
        timed_out: whether the time was over; it may be there still.
        sent_bytes: that went to it before.
    """

    def __init__(self, text: str, *, timed_out: bool = False, sent_bytes: int = 0) -> None:
        super().__init__(text)
        self.timed_out, self.sent_bytes = timed_out, sent_bytes


class SpeedError(KerasQuantError):
    """A file is slower than it may be."""

    exit_code = 3


def close_names(name: str, known: Iterable[str], most: int = 3) -> str:
    """Says which known names are close to one that is not known.

    Returns: "; close names: a, b", or "" where nothing is close.
    """
    matches = difflib.get_close_matches(name, list(known), n=most, cutoff=0.5)
    return f"; close names: {', '.join(matches)}" if matches else ""


def shown(value: object) -> str:
    """A value of a file as a message quotes it: whole, or its first characters where it is long."""
    text = repr(value)
    return text if len(text) <= QUOTED else f"{text[:QUOTED]}... ({len(text):,} characters)"
