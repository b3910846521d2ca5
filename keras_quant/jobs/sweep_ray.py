"""Points of a sweep on the nodes of a Ray cluster (Moritz et al., OSDI 2018).

Each point is an actor that starts the process on its node, and is asked for its exit code: an actor
can be told to end what it started, which a task of Ray cannot while it waits. All nodes need this
package, and the sweep's folder under the same path (a network file system): files are the result,
as they are without Ray.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_quant.errors import MissingDependencyError, RunError, UsageError
from keras_quant.jobs.sweep_processes import Process, ProcessLostError, start_here
from keras_quant.version import __version__

_CONNECT_SECONDS = 5
_ANSWER_SECONDS = 60  # of a cluster that is asked whether it is well
_LEAST = 1e-4  # Ray counts resources in steps of so much
_WAIT_SECONDS = 0.5  # of an actor for its process, before it answers that this runs
_PROCESSORS = ("cpu", "gpu")
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux' prctl


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What of a node each point holds while it runs.

    Attributes:
        cpu: processors.
        gpu: GPUs, or a share of one.
        others: of a node's own resources, by name, as `ray start --resources` gave them.
    """

    cpu: float = 1.0
    gpu: float = 0.0
    others: Mapping[str, float] = field(default_factory=dict)


def parse_resources(text: str, *, cpu: float) -> Resources:
    """Reads "cpu=2,gpu=0.5,NAME=1".

    Args:
        cpu: what a point holds where the text does not say.
    Raises:
        UsageError: it is written otherwise, a number is not above 0 or finer than Ray counts, or
            GPUs above 1 are not whole.
    """
    found: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, number = part.strip().partition("=")
        name = name.lower() if name.lower() in _PROCESSORS else name
        try:
            value = float(number)
        except ValueError:
            value = 0.0
        if not name or name in found or not _LEAST <= value < float("inf"):
            raise UsageError(
                f"--resources {text!r}: {part!r} is no NAME=NUMBER of {_LEAST:.4f} or more, each "
                "name once; write cpu=2,gpu=0.5"
            )
        found[name] = value
    if (gpu := found.get("gpu", 0.0)) > 1 and not gpu.is_integer():
        raise UsageError(
            f"--resources {text!r}: of GPUs, a share of one or a whole number is allowed"
        )
    return Resources(cpu=found.pop("cpu", cpu), gpu=found.pop("gpu", 0.0), others=found)


class RayEngine:
    """Starts processes on the nodes of a cluster."""

    def __init__(self, address: str | None, resources: Resources) -> None:
        """Connects to a cluster, or starts one of this machine alone.

        Args:
            address: HOST:PORT of the cluster's head, or "auto" on one of its nodes.
        Raises:
            MissingDependencyError: Ray is not installed.
            UsageError: Ray takes no such resources, or it is no address.
            RunError: no cluster answers there, or none of its nodes has such resources.
        """
        self._cpu = resources.cpu
        try:
            self._ray: Any = importlib.import_module("ray")
        except ImportError as error:
            raise MissingDependencyError(
                "--engine ray needs Ray: pip install 'keras_quant[ray]'"
            ) from error
        try:
            self._actor = self._ray.remote(
                num_cpus=resources.cpu,
                num_gpus=resources.gpu,
                resources=dict(resources.others),
                max_restarts=0,
            )(_Starter)
        except ValueError as error:  # some accelerators come in some numbers alone
            raise UsageError(f"--resources: Ray refuses them: {error}") from error
        if address is not None:
            _check_answers(address)
        try:
            self._ray.init(
                address=address or "local",  # None would join a cluster that runs here
                log_to_driver=False,
                logging_level="ERROR",
                **({} if address else {"include_dashboard": False}),
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = f"--address {address}: " if address else ""
            raise RunError(f"{where}Ray cannot be used: {error}") from error
        self._check_fits(resources)

    def _check_fits(self, resources: Resources) -> None:
        asked = {"CPU": resources.cpu, "GPU": resources.gpu, **resources.others}
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(all(node.get(n, 0) >= x for n, x in asked.items()) for node in nodes):
            has = "; ".join(
                ", ".join(f"{name} {node[name]:g}" for name in sorted(node) if name in asked)
                for node in nodes
            )
            self.close()
            raise RunError(
                f"--resources: no node has what a point asks for "
                f"({', '.join(f'{n} {x:g}' for n, x in asked.items() if x)}); nodes have: {has}"
            )

    def start(self, command: Sequence[str], log: Path) -> Process:
        """Starts a command on a node that is free for it, see Engine."""
        return _OnNode(self._ray, self._actor, command, log.resolve())

    def threads(self, jobs: int) -> int:
        """As many as the processors that a point holds, see Engine."""
        return max(1, int(self._cpu))

    def close(self) -> None:
        """Leaves the cluster, or ends that of this machine."""
        self._ray.shutdown()


class _OnNode:
    """A process on some node, or one that waits for a free one."""

    def __init__(self, ray: Any, actor: Any, command: Sequence[str], log: Path) -> None:
        self._ray, self._actor = ray, actor.remote()
        arguments = list(command[1:])  # the interpreter is the node's
        self._asked = self._actor.start.remote(arguments, str(log), os.getcwd(), __version__)
        self._started = False
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is not None:
            return self._code
        ready, _ = self._ray.wait([self._asked], timeout=0)
        if not ready:
            return None
        try:
            answer = self._ray.get(self._asked)
        except self._ray.exceptions.RayTaskError as error:  # of the starter itself
            raise RunError(f"a node of Ray cannot start it: {error.cause}") from error
        except self._ray.exceptions.RayError as error:
            raise ProcessLostError(str(error).splitlines()[0]) from error
        self._started = True
        if answer is None:
            self._asked = self._actor.poll.remote()
            return None
        self._code = int(answer)
        self._ray.kill(self._actor)  # frees the resources
        return self._code

    def terminate(self) -> None:
        if self._code is None:
            self._actor.end.remote(signal.SIGTERM)

    def wait(self, timeout: float) -> int:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                code = self.poll()
            except (ProcessLostError, RunError):
                return -signal.SIGKILL
            if code is not None:
                return code
            if not self._started:
                self.kill()
                return -signal.SIGTERM  # it was waiting for a node
            time.sleep(0.1)
        raise subprocess.TimeoutExpired("kq", timeout)

    def kill(self) -> None:
        self._ray.kill(self._actor)


class _Starter:
    """What runs on a node: starts one process, which ends with it."""

    def start(self, arguments: Sequence[str], log: str, cwd: str, version: str) -> None:
        """Starts it.

        Raises:
            RuntimeError: the folder is not there, or another version of this package is.
        """
        node = socket.gethostname()
        if version != __version__:
            raise RuntimeError(f"{node} has keras_quant {__version__}, and the sweep {version}")
        for folder in (cwd, os.path.dirname(log)):
            if not os.path.isdir(folder):
                raise RuntimeError(
                    f"{node} has no {folder}: all nodes need the sweep's folder and the one that "
                    "it was started in, under the same paths"
                )
        self._process = start_here(
            [sys.executable, *arguments], Path(log), cwd=Path(cwd), first=_end_with_parent
        )

    def poll(self) -> int | None:
        """Waits a moment for the exit code."""
        try:
            return self._process.wait(_WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            return None

    def end(self, number: int) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)


def _end_with_parent() -> None:
    """Lets the process that calls it get SIGTERM when its parent ends, on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGTERM)


def _check_answers(address: str) -> None:
    """Checks that a cluster is there; `ray.init` waits minutes for one that is not.

    Raises:
        UsageError: it is no address.
        RunError: none answers.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--address {address!r}: write HOST:PORT, or auto on a node of it")
    if not _is_there(host, int(port)) or not _is_well(address):
        raise RunError(
            f"--address {address}: no Ray cluster answers there; `ray start --head` starts one and "
            "prints its address"
        )


def _is_there(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), _CONNECT_SECONDS):
            return True
    except OSError:
        return False


def _is_well(address: str) -> bool:
    asks = "from ray.scripts.scripts import main; main()"
    try:
        done = subprocess.run(
            [sys.executable, "-c", asks, "health-check", "--address", address],
            capture_output=True,
            timeout=_ANSWER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
