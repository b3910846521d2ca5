"""Which processes train together, and whether all of them are there before TensorFlow waits.

TensorFlow waits for minutes for a worker that is missing, and does not say which; and workers that
were started with different options train something that none of them was asked for. So each
process listens at its own address, visits all others, and compares what they were asked for. Then
the address is free for TensorFlow. What is exchanged is a line of JSON each.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keras_quant.errors import RunError, UsageError
from keras_quant.version import __version__

CHIEF = 0
_LONGEST = 1 << 16  # bytes of a line
_TRY_SECONDS = 0.2
_ANSWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The processes that train together.

    Attributes:
        workers: HOST:PORT of each; the first is the chief, which writes the run.
        worker: which of them this process is.
    """

    workers: tuple[str, ...]
    worker: int

    @property
    def is_chief(self) -> bool:
        return self.worker == CHIEF

    def named(self, worker: int) -> str:
        """How messages call a worker."""
        return f"worker {worker} ({self.workers[worker]})"


def cluster_of(workers: Sequence[str], worker: int | None, tf_config: str | None) -> Cluster:
    """Reads --workers and --worker, or TensorFlow's environment variable TF_CONFIG.

    Raises:
        UsageError: both are given, or neither; or they cannot be read.
    """
    if workers or worker is not None:
        if tf_config:
            raise UsageError("--workers and TF_CONFIG both name workers: leave one of them out")
        if not workers or worker is None:
            raise UsageError(
                "--workers names all workers and --worker says which this process is, from 0: "
                "give both"
            )
        return _checked(workers, worker, whose="--workers", which="--worker")
    if not tf_config:
        raise UsageError(
            "--strategy multiworker: give each process --workers HOST:PORT,HOST:PORT and its own "
            "--worker K, or set TF_CONFIG"
        )
    return _of_tf_config(tf_config)


def _of_tf_config(text: str) -> Cluster:
    example = (
        '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    try:
        config = json.loads(text)
        roles = dict(config["cluster"])
        kind, index = config["task"]["type"], config["task"]["index"]
        chiefs, others = list(roles.pop("chief", [])), list(roles.pop("worker", []))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError(f"TF_CONFIG cannot be read; write it as {example}") from error
    if roles or kind not in ("chief", "worker") or len(chiefs) > 1:
        found = ", ".join(sorted(map(str, roles))) or f"{len(chiefs)} chiefs, task {kind!r}"
        raise UsageError(
            f"TF_CONFIG names {found}; tasks here are of type worker, and one may be the chief"
        )
    if isinstance(index, bool) or not isinstance(index, int):
        raise UsageError(f"TF_CONFIG: task.index is {index!r}; write a whole number from 0")
    here = index + (len(chiefs) if kind == "worker" else 0)
    count = len(others) if kind == "worker" else len(chiefs)
    if not 0 <= index < count:
        raise UsageError(
            f"TF_CONFIG: task.index is {index}; of type {kind} there are {count}, counted from 0"
        )
    return _checked((*chiefs, *others), here, whose="TF_CONFIG", which="task.index")


def _checked(workers: Sequence[Any], worker: int, *, whose: str, which: str) -> Cluster:
    for address in workers:
        if not isinstance(address, str) or not _is_address(address):
            raise UsageError(f"{whose}: {address!r} is no HOST:PORT")
    if len(workers) < 2 or len(set(workers)) < len(workers):
        raise UsageError(
            f"{whose} names {', '.join(workers)}; two or more different addresses are needed"
        )
    if not 0 <= worker < len(workers):
        raise UsageError(f"{which} is {worker}; 0 to {len(workers) - 1} is allowed")
    return Cluster(workers=tuple(workers), worker=worker)


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    digits = port.isascii() and port.isdigit() and len(port) <= 5
    return bool(host) and digits and 0 < int(port) < 1 << 16


def meet(cluster: Cluster, asked: Mapping[str, str], *, timeout_seconds: float) -> None:
    """Waits until all workers are there and were asked for the same.

    Args:
        asked: options and their values, the same for all workers.
    Raises:
        RunError: this process cannot listen at its address, or workers do not answer in time, or
            were started with other options; names them.
    """
    meeting = _Meeting(cluster, asked)
    with _listening(cluster) as listener:
        listener.settimeout(_TRY_SECONDS)
        host = threading.Thread(target=meeting.receive, args=(listener,), daemon=True)
        host.start()
        try:
            meeting.visit_all(time.monotonic() + timeout_seconds)
        finally:
            meeting.over.set()
            host.join()
    if meeting.problems:
        raise RunError("; ".join(meeting.problems))
    if missing := meeting.missing():
        names = ", ".join(cluster.named(worker) for worker in missing)
        raise RunError(
            f"{names}: no answer within {timeout_seconds:g} s. Start all workers with the same "
            "command, each with its own --worker (or TF_CONFIG), and let them reach each other"
        )


@contextlib.contextmanager
def _listening(cluster: Cluster) -> Iterator[socket.socket]:
    port = int(cluster.workers[cluster.worker].rpartition(":")[2])
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
            listener.listen()
        except OSError as error:
            raise RunError(
                f"{cluster.named(cluster.worker)}: this process cannot listen there: "
                f"{error.strerror}. Is another worker of this number running?"
            ) from error
        yield listener


@dataclass(slots=True)
class _Meeting:
    """Who has visited, and who was visited; filled by two threads, each its own set."""

    cluster: Cluster
    asked: Mapping[str, str]
    over: threading.Event = field(default_factory=threading.Event)
    visitors: set[int] = field(default_factory=set)
    visited: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    @property
    def _others(self) -> set[int]:
        return set(range(len(self.cluster.workers))) - {self.cluster.worker}

    def missing(self) -> list[int]:
        return sorted(self._others - (self.visitors & self.visited))

    def receive(self, listener: socket.socket) -> None:
        """Answers visitors until it is over."""
        while not self.over.is_set():
            try:
                visitor, _ = listener.accept()
            except OSError:
                continue  # nobody came within a moment
            with visitor, contextlib.suppress(OSError, ValueError):
                visitor.settimeout(_ANSWER_SECONDS)
                visitor.sendall(self._hello())  # first: what does not fit, both are to see
                self.visitors.add(self._read(visitor))

    def visit_all(self, end: float) -> None:
        """Visits the others, again and again, until all have met, or it is too late."""
        while self.missing() and not self.problems and time.monotonic() < end:
            for worker in sorted(self._others - self.visited):
                host, _, port = self.cluster.workers[worker].rpartition(":")
                with contextlib.suppress(OSError, ValueError):
                    address = (host.strip("[]"), int(port))
                    with socket.create_connection(address, _ANSWER_SECONDS) as other:
                        other.sendall(self._hello())
                        self._read(other)
                        self.visited.add(worker)
            time.sleep(_TRY_SECONDS if self.missing() else 0)

    def _hello(self) -> bytes:
        said = {
            "keras_quant": __version__,
            "workers": list(self.cluster.workers),
            "worker": self.cluster.worker,
            "asked": dict(self.asked),
        }
        return json.dumps(said).encode() + b"\n"

    def _read(self, other: socket.socket) -> int:
        """Reads what another process is. Returns: its number.

        Raises:
            ValueError: it is none of ours.
        """
        with other.makefile("rb") as stream:
            line = stream.readline(_LONGEST)
        said = json.loads(line)
        if not isinstance(said, dict) or not isinstance(said.get("asked"), dict):
            raise ValueError("something else")
        if problem := self._differing(said):
            if problem not in self.problems:
                self.problems.append(problem)
            raise ValueError(problem)
        return int(said["worker"])

    def _differing(self, said: Mapping[str, Any]) -> str:
        """What another process was started with that does not fit; "" where all does."""
        worker, mine = said.get("worker"), self.cluster
        if said.get("workers") != list(mine.workers):
            there = said.get("workers")
            return f"another process names workers {there}, this one {list(mine.workers)}"
        if worker == mine.worker:
            return f"two processes were started as {mine.named(mine.worker)}"
        if worker not in self._others:
            return f"another process says that it is worker {worker}"
        name, version = mine.named(worker), said.get("keras_quant")
        if version != __version__:
            return f"{name} has keras_quant {version}, this process {__version__}"
        asked = said["asked"]
        parts = [
            f"{option} {asked.get(option)} there, {self.asked.get(option)} here"
            for option in sorted({*asked, *self.asked})
            if asked.get(option) != self.asked.get(option)
        ]
        return f"{name} was started with other options: {', '.join(parts)}" if parts else ""
