"""Runs inputs in workers, and sees what becomes of these: ended, crashed, hung, or grown."""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from child_process import family

from keras_quant.json_codec import from_plain
from tests.fuzz.kinds import Input
from tests.fuzz.worker import READY, Answer

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 60.0
MOST_BYTES = 10**9  # above what the undamaged file takes
EXIT_CODES = (0, 1, 2, 3)

_WORDS = (sys.executable, "-m", "tests.fuzz.worker")
_STOPPED_BYTES = 4 * 10**9  # at which a worker is stopped, before the machine is out of memory
_INPUTS_OF_A_WORKER = 300  # then another one takes over, as TensorFlow keeps some of each
_WATCH_SECONDS = 0.1
_START_SECONDS = 300.0
_LAST_WORDS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an input.

    Attributes:
        answer: None where the worker died, or was stopped.
        died: how it did; "" where it did not.
        seconds: from the question to the answer, or the end.
        grown_bytes: what the worker and all processes that it started held at their peak, above
            what it held before.
    """

    input: Input
    answer: Answer | None
    died: str
    seconds: float
    grown_bytes: int

    def faults(self, usual_bytes: int) -> list[str]:
        """What must not be.

        Args:
            usual_bytes: by how much a worker grows where the file is undamaged.
        """
        found = [f"crash: {self.died}"] if self.died else []
        if self.seconds > MOST_SECONDS:
            found.append(f"slow: {self.seconds:.0f} s")
        if self.grown_bytes > usual_bytes + MOST_BYTES:
            found.append(f"memory: {self.grown_bytes / 1e6:,.0f} MB")
        return found + (faults_of(self.answer) if self.answer else [])


def faults_of(answer: Answer) -> list[str]:
    """What must not be of an answer."""
    found = []
    if answer.exit_code is None or "Traceback (most recent call last)" in answer.output:
        found.append("traceback")
    elif answer.exit_code not in EXIT_CODES:
        found.append(f"exit code {answer.exit_code}")
    elif answer.exit_code and "rror: " not in answer.output:
        found.append("an error without a word")
    if "This is a bug of kq" in answer.output:
        found.append("bug message")
    if answer.leftovers:
        found.append(f"half-written files: {', '.join(answer.leftovers)}")
    return found


class Worker:
    """A process that runs inputs; it is started anew where it died."""

    def __init__(self, originals: Path, scratch: Path, words: Sequence[str] = _WORDS) -> None:
        self._words = (*words, str(originals), str(scratch))
        self._log = scratch / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._left = 0

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop()

    def run(self, one: Input, *, seconds: float = MOST_SECONDS + 30) -> Outcome:
        """Runs an input; stops the worker where it takes longer, or too much memory."""
        process = self._started()
        before = _peak_bytes(process.pid, "VmRSS")
        assert process.stdin is not None
        started = time.monotonic()
        process.stdin.write(f"{one}\n".encode())
        process.stdin.flush()
        line, died, watched = self._wait(process, before, started + seconds)
        spent = time.monotonic() - started
        answer = from_plain(json.loads(line), Answer, []) if not died else None
        own = answer.grown_bytes if answer else 0  # to the peak, which no look may have met
        if died:
            self._stop()
        return Outcome(
            input=one,
            answer=answer,
            died=died,
            seconds=spent,
            grown_bytes=max(own, watched),
        )

    def _wait(
        self, process: subprocess.Popen[bytes], before: int, until: float
    ) -> tuple[bytes, str, int]:
        """Waits for a line. Returns: it, how the worker died, and by how much it grew."""
        assert process.stdout is not None
        grown, children, line = 0, 0, b""
        while not line.endswith(b"\n"):
            if select.select([process.stdout], [], [], _WATCH_SECONDS)[0]:
                part = os.read(process.stdout.fileno(), 2**16)
                if not part:
                    return b"", self._death(process), grown
                line += part
            children = max(children, _children_bytes(process.pid))
            own = max(0, _peak_bytes(process.pid, "VmRSS") - before)
            grown = max(grown, own + children)
            if grown > _STOPPED_BYTES:
                return b"", f"stopped at {grown / 1e6:,.0f} MB", grown
            if time.monotonic() > until:
                return b"", "stopped, as it hung", grown
        return line, "", grown

    def _death(self, process: subprocess.Popen[bytes]) -> str:
        code = process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"{how}: {self._log.read_text(errors='replace')[-_LAST_WORDS:]}"

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._left:
            self._left -= 1
            return self._process
        self._stop()
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                self._words,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        self._left = _INPUTS_OF_A_WORKER - 1
        line, died, _ = self._wait(self._process, 0, time.monotonic() + _START_SECONDS)
        assert not died, died
        assert line.decode().strip() == READY, line
        return self._process

    def _stop(self) -> None:
        """Ends the process, and all that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        for pid in family(process.pid):
            _kill(pid)
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()


def run_all(
    inputs: Iterable[Input],
    originals: Path,
    *,
    workers: int,
    say: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Runs inputs in so many workers; gives their outcomes in any order.

    Args:
        say: is told each outcome as it comes.
    """
    waiting: queue.SimpleQueue[Input] = queue.SimpleQueue()
    for one in inputs:
        waiting.put(one)
    outcomes: list[Outcome] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            with (
                tempfile.TemporaryDirectory(prefix="kq-fuzz-") as scratch,
                Worker(originals, Path(scratch)) as worker,
            ):
                while not raised:
                    outcome = worker.run(waiting.get_nowait())
                    outcomes.append(outcome)
                    say(outcome)
        except queue.Empty:
            return
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]
    return outcomes


def _children_bytes(pid: int) -> int:
    """What all processes below one held at their peaks, as far as they have not ended.

    One that was forked off has its parent's memory until it runs another program.
    """
    own = _command(pid)
    return sum(_peak_bytes(child) for child in family(pid)[1:] if _command(child) != own)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _peak_bytes(pid: int, field: str = "VmHWM") -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(ln.split()[1]) * 1024 for ln in lines if ln.startswith(f"{field}:")), 0)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
