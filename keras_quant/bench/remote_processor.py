"""Files on a board's own processor over SSH: copied, and timed in turn as on this machine.

Each load of a file is a process of its own there, which answers requests: so `bench.measure` does
with it as with a child process here. Session options that files of ours name are for x86 alone, and
are not set there.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import tempfile
import threading
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, TypeVar

from keras_quant.bench import on_board, timer
from keras_quant.bench.board import parse_power_mode, parse_release
from keras_quant.bench.machine import Machine, Ticks, describe_machine, read_ticks
from keras_quant.bench.measure import Candidate
from keras_quant.bench.ssh import FOLDER, Host, connect, failures_told, write
from keras_quant.bench.worker import Finished, Loaded, Round
from keras_quant.errors import ModelError, ResultsError, UsageError
from keras_quant.runners.child import limits_for
from keras_quant.runs.records import processor

RUNTIMES = ("onnxruntime", "litert")
"""That can be measured there."""

START_SECONDS = 60.0
"""How long Python and a runtime may take to start: 8 s on the eMMC of a Nano would be much."""

_END_SECONDS = 10.0
_NOT_FOUND = 127  # POSIX, 2.8.2: exit status of a shell that finds no command

Result = TypeVar("Result")


class BoardProcessor:
    """A connection to a board for as long as its block lasts; see `jobs.places.Place`."""

    def __init__(self, host: Host) -> None:
        """Args: host: where it is."""
        self._host = host
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._stack = contextlib.AsyncExitStack()
        self._connection: Any = None
        self._sftp: Any = None
        self._copied: dict[Path, str] = {}

    def __enter__(self) -> BoardProcessor:
        """Connects, and copies the script. Raises: ResultsError: the board cannot be reached."""
        self._thread.start()
        try:
            self.do(self._connect())
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def machine(self) -> Machine:
        """What the board says of itself."""
        told = self._told()
        with tempfile.TemporaryDirectory() as folder:
            _lay_out(told["texts"], Path(folder))
            here = describe_machine(Path(folder))
        texts = told["texts"]
        board = {
            "host": self._host.name,
            "model": texts.get("/proc/device-tree/model", "").strip(),
            "power_mode": parse_power_mode(told["power_mode"]),
            **parse_release(texts.get("/etc/nv_tegra_release", "")),
        }
        environment = {
            **{name: told[name] for name in ("python", "platform", "cores")},
            **processor(texts.get("/proc/cpuinfo", ""), otherwise=told["machine"]),
        }
        board = {name: text for name, text in board.items() if text}
        return replace(here, environment=environment, board=board)

    def ticks(self) -> Ticks | None:
        """What its cores did since it was started."""
        with tempfile.TemporaryDirectory() as folder:
            _lay_out(self._told()["texts"], Path(folder))
            return read_ticks(Path(folder))

    def described(self, one: Candidate) -> Candidate:
        """Copies a file, and says what the board's runtime makes of it."""
        file = self.do(self._copy(one.file))
        with Process(self, one.file) as process:
            told = process.ask(
                "describe",
                START_SECONDS + limits_for(one.file).seconds,
                **{"runtime": one.runtime, "file": file, "inputs": one.inputs},
            )
        description = replace(
            one.description, kernels=tuple(told["kernels"]), versions=dict(told["versions"])
        )
        return replace(one, description=description)

    def start(self, one: Candidate) -> BoardSession:
        """A process for a file that `described` has copied."""
        return BoardSession(self, one, self._copied[one.file])

    def do(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Waits for work on the connection. Raises: ResultsError: it was lost."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            with failures_told(self._host):
                return future.result()
        finally:
            future.cancel()

    async def process(self) -> Any:
        """Starts the script, which ends when its standard input is closed."""
        return await self._connection.create_process(
            f"cd {_code_folder()} && exec python3 -u -m {on_board.MODULE}",
            errors="replace",
        )

    def _told(self) -> dict[str, Any]:
        with Process(self) as process:
            return process.ask("machine", START_SECONDS)

    async def _connect(self) -> None:
        self._connection = await self._stack.enter_async_context(connect(self._host))
        self._sftp = await self._stack.enter_async_context(self._connection.start_sftp_client())
        await self._sftp.makedirs(str(_code_folder() / "keras_quant/bench"), exist_ok=True)
        for path, content in _code().items():
            await write(self._sftp, str(_code_folder() / path), content)

    async def _copy(self, file: Path) -> str:
        if file in self._copied:
            return self._copied[file]
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ModelError(f"{file}: cannot be read: {error.strerror}") from error
        _check_whole(file, content)
        folder = PurePosixPath(FOLDER) / hashlib.sha256(content).hexdigest()[:32]
        path = folder / f"model{file.suffix.lower()}"
        await self._sftp.makedirs(str(folder), exist_ok=True)
        there = await self._sftp.exists(str(path))
        if not there or await self._sftp.getsize(str(path)) != len(content):
            await write(self._sftp, f"{path}.partial", content)
            await self._sftp.posix_rename(f"{path}.partial", str(path))
        # Relative to the folder in which the script is started.
        self._copied[file] = str(PurePosixPath("..") / folder.name / path.name)
        return self._copied[file]

    def _close(self) -> None:
        with contextlib.suppress(Exception):  # the first error is the one to report
            asyncio.run_coroutine_threadsafe(self._stack.aclose(), self._loop).result(_END_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_END_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()


class Process:
    """The script, running on the board for as long as its block lasts."""

    def __init__(self, board: BoardProcessor, file: Path | None = None) -> None:
        """Args: file: that errors are about."""
        self._board = board
        self._about = f"{file}: " if file else ""
        self._process: Any = None

    def __enter__(self) -> Process:
        """Starts it. Raises: ResultsError: it does not start, or the board was lost."""
        self._process = self._board.do(self._board.process())
        try:
            self._board.do(self._answer("the start", START_SECONDS))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(Exception):  # the first error is the one to report
            self._board.do(self._end())

    def ask(self, what: str, seconds: float, **arguments: Any) -> dict[str, Any]:
        """Sends a request and waits for the answer.

        Raises:
            ModelError: the runtime refuses the file, or died of it.
            ResultsError: a package or Python is missing, it took too long, or the board was lost.
        """
        answer = self._board.do(self._ask({"do": what, **arguments}, seconds))
        if "died" in answer:
            said = " | ".join(answer["said"]) or "it said nothing"
            raise ModelError(
                f"{self._about}the process that opened it on the board died, exit code "
                f"{answer['died']}: {said}"
            )
        if "error" in answer and answer["kind"] == "missing":
            raise ResultsError(f"on the board, {answer['error']}")
        if "error" in answer:
            raise ModelError(
                f"{self._about}the board's runtime refuses it: {answer['error'].strip()}. Where it "
                "is older than the file needs, install a newer one there"
            )
        found: dict[str, Any] = answer["ok"]
        return found

    async def _ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        with contextlib.suppress(BrokenPipeError, ConnectionError):  # the answer says why
            self._process.stdin.write(f"{json.dumps(request)}\n")
        return await self._answer(request["do"], seconds)

    async def _answer(self, what: str, seconds: float) -> dict[str, Any]:
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), seconds)
        except asyncio.TimeoutError:
            raise ResultsError(
                f"{self._about}{what} took longer than {seconds:,.0f} s on the board, and "
                "was stopped"
            ) from None
        if not line:
            ended = await self._process.wait()
            raise ResultsError(_why_it_ended(ended))
        try:
            answer = json.loads(line)
            assert {"ok", "error", "died"} & answer.keys()
        except (ValueError, AssertionError, AttributeError) as error:
            raise ResultsError(
                f"the board answered {line[:200]!r}, which is not from the script that was sent; "
                "a login script there must print nothing"
            ) from error
        found: dict[str, Any] = answer
        return found

    async def _end(self) -> None:
        self._process.stdin.write_eof()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._process.wait(), _END_SECONDS)
        self._process.close()


class BoardSession:
    """A `measure.Session` on a board."""

    def __init__(self, board: BoardProcessor, one: Candidate, file: str) -> None:
        """Args: file: its path on the board."""
        self._candidate, self._file = one, file
        self._seconds = START_SECONDS + limits_for(one.file).seconds
        self._process = Process(board, one.file)
        self._call_s = 0.0

    def __enter__(self) -> BoardSession:
        self._process.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.__exit__(kind, error, trace)

    def load(self, seed: int) -> Loaded:
        """See Session."""
        one = self._candidate
        told = self._process.ask(
            "load",
            self._seconds,
            **{"runtime": one.runtime, "file": self._file, "threads": one.threads},
            **{"inputs": one.inputs, "seed": seed},
        )
        loaded = Loaded(**told)
        self._call_s = loaded.call_ns / 1e9
        return loaded

    def time_round(self, calls: int, ahead: int) -> Round:
        """See Session."""
        seconds = self._seconds + 10 * (calls + ahead) * self._call_s
        return Round(**self._process.ask("round", seconds, calls=calls, ahead=ahead))

    def finish(self) -> Finished:
        """See Session."""
        return Finished(**self._process.ask("finish", self._seconds))


def check_runtimes(runtimes: Sequence[str]) -> None:
    """Checks that runtimes can be measured on a board. Raises: UsageError."""
    wrong = [name for name in runtimes if name not in RUNTIMES]
    if wrong:
        raise UsageError(
            f"--runtime {wrong[0]!r} is not measured on a board; {' and '.join(RUNTIMES)} are. "
            "Without --runtime, trtexec measures a bundle on its GPU"
        )


def _check_whole(file: Path, content: bytes) -> None:
    """Checks that a file brings its weights, as it is copied alone. Raises: ModelError."""
    if file.suffix.lower() != ".onnx":
        return
    import onnx

    from keras_quant.runners.onnxruntime import weights_elsewhere

    outside = [name for name, _ in weights_elsewhere(onnx.load_model_from_string(content))]
    if outside:
        raise ModelError(
            f"{file}: the values of {len(outside)} tensors, as {outside[0]!r}, lie in other files, "
            "which are not copied. Save it as one file: onnx.save(onnx.load(FILE), NEW)"
        )


def _why_it_ended(ended: Any) -> str:
    """Says why the script ended; what it said is in what asyncssh collected of it."""
    said = str(ended.stderr or "").strip().splitlines()
    last = " | ".join(said[-3:]) or str(ended.exit_signal or "it said nothing")
    if ended.exit_status == _NOT_FOUND:
        return f"the board has no python3 ({last}). Install it: sudo apt-get install python3"
    if ended.exit_status is None:
        return f"the connection was lost ({last}). Nothing was recorded"
    return f"the script ended on the board with exit code {ended.exit_status}: {last}"


def _code() -> dict[PurePosixPath, bytes]:
    """The script, in a package of its own, so that none that is installed there is found."""
    empty = ("keras_quant/__init__.py", "keras_quant/bench/__init__.py")
    return {
        **{PurePosixPath(name): b"" for name in empty},
        **{
            PurePosixPath("keras_quant/bench", Path(module.__file__ or "").name): Path(
                module.__file__ or ""
            ).read_bytes()
            for module in (on_board, timer)
        },
    }


def _code_folder() -> PurePosixPath:
    digest = hashlib.sha256(b"".join(_code().values())).hexdigest()
    return PurePosixPath(FOLDER) / digest[:32]


def _lay_out(texts: Mapping[str, str], folder: Path) -> None:
    """Writes the board's files below a folder here, as `describe_machine` reads them."""
    for name, text in texts.items():
        path = folder.joinpath(*(part for part in PurePosixPath(name).parts[1:] if part != ".."))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
