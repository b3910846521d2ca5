"""Where the processes of a sweep's points run: here, or wherever an engine starts them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol


class ProcessLostError(Exception):
    """A process ended with the machine that it ran on; its message says which."""


class Process(Protocol):
    """A process that was started; as `subprocess.Popen`, which is one."""

    def poll(self) -> int | None:
        """Gives the exit code, below 0 that of a signal; None while it runs.

        Raises:
            ProcessLostError: the machine it ran on is gone.
        """

    def terminate(self) -> None:
        """Asks it to end, with what it has saved."""

    def wait(self, timeout: float) -> int:
        """Waits so many seconds for its end. Raises: subprocess.TimeoutExpired."""

    def kill(self) -> None:
        """Ends it."""


class Engine(Protocol):
    """What starts processes."""

    def start(self, command: Sequence[str], log: Path) -> Process:
        """Starts a command.

        Args:
            command: a Python interpreter, and its arguments.
            log: what it writes is added to this file.
        """

    def threads(self, jobs: int) -> int:
        """Says how many threads each of so many points at a time gets; 0 for one a core."""

    def close(self) -> None:
        """Lets go of what was held to start processes; they have ended."""


class ThisMachine:
    """Starts processes here."""

    def start(self, command: Sequence[str], log: Path) -> Process:
        """Starts a command, see Engine."""
        return start_here(command, log)

    def threads(self, jobs: int) -> int:
        """Shares the cores, see Engine."""
        return threads_of(jobs) if jobs > 1 else 0

    def close(self) -> None:
        """Has nothing to let go of."""


def threads_of(jobs: int) -> int:
    """The cores of this machine that each of so many points at a time gets."""
    return max(1, (os.cpu_count() or 1) // jobs)


def start_here(
    command: Sequence[str],
    log: Path,
    *,
    cwd: Path | None = None,
    first: Callable[[], None] | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a command on this machine; it reads nothing, and adds what it writes to a file.

    Args:
        cwd: its folder; None means this one.
        first: is called in the new process, before the command.
    """
    with log.open("ab") as stream:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            cwd=cwd,
            preexec_fn=first,
        )
