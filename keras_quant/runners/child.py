"""Opens model files in a process of its own, which may crash, hang or take all memory.

Runtimes and NVIDIA's parser are written in C++, and read files of anyone: a fault there ends the
process without a word. In a child process it is an error that names the file. Who wrote a file is
not asked: what it says of itself proves nothing, and whoever replaces it can replace what lies
beside it too; so only what this process wrote itself is opened here without one.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from keras_quant import errors
from keras_quant.errors import KerasQuantError, ModelError, UsageError
from keras_quant.json_codec import from_plain
from keras_quant.runners import Inference, RunnerInfo
from keras_quant.runners.messages import GARBAGE, Arrays, read_into, receive, send

if TYPE_CHECKING:
    import numpy as np
    from _typeshed import DataclassInstance

SECONDS, SECONDS_VARIABLE = 50.0, "KQ_CHILD_SECONDS"
"""How long one request may take: to load a file, or to compute a batch of BATCH_BYTES. Loading a
resnet50 takes 1 s."""

MEMORY_BYTES, MEMORY_TIMES, MEMORY_VARIABLE = 2**30, 20, "KQ_CHILD_MEMORY"
"""The memory that a child may hold, and so many times the file's size on top of it. A runtime holds
a file's weights three or four times while it loads them; the variable gives all of it, in MB."""

BATCH_BYTES = 2**20
"""Of one batch of images that is sent; more are sent one batch after the other."""

_WATCH_SECONDS = 0.02  # a process fills some 50 MB in it
_LAST_WORDS = 500  # characters
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Modules are found where they are here, and not in the folder that happens to be the current one.
_CODE = (
    "import sys; sys.path[:] = sys.argv[1:]; from keras_quant.runners.serve import serve; serve()"
)


Record = TypeVar("Record", bound="DataclassInstance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a child may take.

    Attributes:
        seconds: for one request.
        memory_bytes: resident, at any time.
    """

    seconds: float
    memory_bytes: int


def limits_for(file: Path) -> Limits:
    """The limits for a file: those of the environment, or else by its size.

    Raises:
        UsageError: the environment holds something else than positive numbers.
    """
    size = file.stat().st_size if file.is_file() else 0
    megabytes = _from_environment(MEMORY_VARIABLE)
    return Limits(
        seconds=_from_environment(SECONDS_VARIABLE) or SECONDS,
        memory_bytes=int(megabytes * 1e6) if megabytes else MEMORY_BYTES + MEMORY_TIMES * size,
    )


class ChildRunner:
    """A `runners.Runner` that loads and runs a file in a child process.

    Batches are sent in pieces of BATCH_BYTES, so that neither process holds much: in floats, the
    last bits of an answer may depend on that, as they do on any batch.
    """

    def __init__(self, runner: str, file: Path, *, limits: Limits | None = None) -> None:
        """Loads a file.

        Args:
            runner: "MODULE:CLASS" of the runner.
            limits: None for `limits_for` the file.
        Raises:
            ModelError: the runner refuses the file, or the child died or was stopped.
        """
        self._file = file
        self._child = Child(file, limits or limits_for(file))
        self.info, self.inputs, self.batch = self._child.load(runner)

    def prepare(self, inputs: Mapping[str, np.ndarray]) -> Inference:
        """Takes a batch, see Runner; there is nothing to do ahead."""
        return partial(self.run, inputs)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Computes a batch, see Runner.

        Raises:
            DataError, ModelError: as the runner, or the child died or was stopped.
        """
        images = max((len(array) for array in inputs.values()), default=0)
        bytes_an_image = sum(array.nbytes for array in inputs.values()) // max(1, images)
        rows = max(1, BATCH_BYTES // max(1, bytes_an_image))
        if self.batch is not None:  # a call takes so many, however many are given
            rows = -(-rows // self.batch) * self.batch
        parts = []
        for start in range(0, max(1, images), rows):
            piece = {name: array[start : start + rows] for name, array in inputs.items()}
            _, answers = self._child.ask({}, piece)
            self._check_rows(answers, min(rows, images - start))
            parts.append(answers)
        if len(parts) == 1:
            return parts[0]
        import numpy as np

        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _check_rows(self, answers: Arrays, images: int) -> None:
        for name, array in answers.items():
            if array.shape[:1] != (images,):
                raise ModelError(
                    f"{self._file}: its output {name!r} has shape {array.shape} for {images} "
                    "images; one row an image is needed. Export it again"
                )


class Child:
    """A process that answers requests about one file, see `runners.serve`."""

    def __init__(self, file: Path, limits: Limits) -> None:
        """Starts the process."""
        self._file, self._limits = file, limits
        # What a runtime was writing when it died goes with the folder.
        folder = tempfile.TemporaryDirectory(prefix="kq-child-")
        self._log = Path(folder.name) / "stderr"
        with open(self._log, "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _CODE, *sys.path],
                env={**os.environ, "TMPDIR": folder.name},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if os.environ.get("KQ_DEBUG") else log,
                bufsize=0,
            )
        self._process = process
        self.close = weakref.finalize(self, _end, process, folder)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def call(
        self, function: str, kind: type[Record], *, seconds: float | None = None, **arguments: Any
    ) -> Record:
        """Calls FUNCTION(file, **arguments).

        Args:
            function: "MODULE:NAME".
            kind: the dataclass that it returns.
            seconds: how long it may take; None for the limits'.
            arguments: JSON.
        Raises:
            KerasQuantError, ModelError: see `ask`.
        """
        request = {"call": function, "arguments": arguments}
        reply, _ = self.ask(request, seconds=seconds)
        return self._record(reply["returned"], kind)

    def load(self, runner: str) -> tuple[RunnerInfo, tuple[str, ...], int | None]:
        """Loads the file by a runner, "MODULE:CLASS".

        Returns: what computes it, the names of its inputs, and how many images a call takes.
        """
        reply, _ = self.ask({"load": runner})
        return self._record(reply["info"], RunnerInfo), tuple(reply["inputs"]), reply["batch"]

    def ask(
        self,
        request: Mapping[str, Any],
        arrays: Arrays | None = None,
        *,
        seconds: float | None = None,
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Sends a request, and waits for the reply.

        Raises:
            KerasQuantError: of the class that the child raised.
            ModelError: the child raised something else, died, or took more than it may.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        seconds = max(self._limits.seconds, seconds or 0)
        try:
            requests, answers = self._process.stdin.fileno(), self._process.stdout.fileno()
            send(requests, {**request, "file": str(self._file), "seconds": seconds}, arrays)
            fill = partial(read_into, answers, wait=partial(self._wait, answers))
            reply, found = receive(fill, largest=self._limits.memory_bytes)
        except (EOFError, BrokenPipeError):
            raise ModelError(f"{self._file}: {self._death(seconds)}") from None
        except GARBAGE as error:
            self.close()
            raise ModelError(
                f"{self._file}: the process that opened it answers garbage ({error}). The file "
                "may be damaged: export it again"
            ) from error
        if "error" in reply:
            raise self._told(reply)
        return reply, found

    def _wait(self, answers: int) -> None:
        """Waits for an answer, and watches the child's memory."""
        while not select.select([answers], [], [], _WATCH_SECONDS)[0]:
            if _resident_bytes(self._process.pid) > self._limits.memory_bytes:
                self._process.kill()
                raise ModelError(
                    f"{self._file}: opening it took more than "
                    f"{self._limits.memory_bytes / 1e6:,.0f} MB of memory, and was stopped. If the "
                    f"model needs that, set {MEMORY_VARIABLE} to more, in MB"
                )

    def _death(self, seconds: float) -> str:
        """How the child came to its end, and what to do."""
        code = self._process.wait()
        if code == -signal.SIGALRM:
            return (
                f"opening it took longer than {seconds:g} s, and was stopped. If the "
                f"model needs that, set {SECONDS_VARIABLE} to more"
            )
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        words = _last_words(self._log)
        return (
            f"the process that opened it died {how}{f' ({words})' if words else ''}. The file is "
            "damaged, or its runtime cannot take it: export it again, or try another version of "
            "the runtime"
        )

    def _record(self, content: Any, kind: type[Record]) -> Record:
        problems: list[str] = []
        record = from_plain(content, kind, problems)
        if record is None:
            raise ModelError(f"{self._file}: the process that opened it answers garbage")
        return record

    def _told(self, reply: Mapping[str, Any]) -> KerasQuantError:
        kind = getattr(errors, str(reply["error"]), None)
        if isinstance(kind, type) and issubclass(kind, KerasQuantError):
            return kind(str(reply["text"]))
        return ModelError(
            f"{self._file}: cannot be read or run ({reply['text']}). The file is damaged, or of a "
            "kind that its runtime does not take: export it again"
        )


def _end(process: subprocess.Popen[bytes], folder: tempfile.TemporaryDirectory[str]) -> None:
    process.kill()  # it has nothing to finish
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    folder.cleanup()


def _resident_bytes(pid: int) -> int:
    """The memory that a process holds; 0 where the system does not tell, or it has ended."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * _PAGE_BYTES


def _last_words(log: Path) -> str:
    return " ".join(log.read_text(errors="replace").split())[-_LAST_WORDS:]


def _from_environment(name: str) -> float | None:
    text = os.environ.get(name, "")
    try:
        number = float(text) if text else None
    except ValueError:
        number = -1
    if number is not None and not 0 < number < float("inf"):
        raise UsageError(f"{name} is {text!r}; a positive number is needed")
    return number
