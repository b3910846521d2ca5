"""Where files are measured."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from keras_quant.bench.machine import Machine, Ticks, describe_machine, read_ticks
from keras_quant.bench.measure import Candidate, ChildSession, Session


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
