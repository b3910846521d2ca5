"""A bundle on a board over SSH: copied, built, measured, fetched.

By asyncssh: it checks host keys against ~/.ssh/known_hosts unless told otherwise, reads OpenSSH's
own configuration and keys, copies files by SFTP, and brings the server that the tests run against;
paramiko has no such server for SFTP and processes together. No name of the user's or of a file's
comes into a command: commands are constants and hexadecimal digits.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import signal
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from keras_quant.bench.results import RESULTS
from keras_quant.errors import MissingDependencyError, ResultsError, UsageError

EXTRA = "jetson"
FOLDER = ".cache/keras_quant"
"""On the board, in the user's home; a bundle's folder in it is called by its hash."""

BUILD_SECONDS, BENCH_SECONDS = 3600.0, 900.0
"""How long the scripts may take: an engine of a large net takes half an hour on a Nano."""

_CONNECT_SECONDS, _ALIVE_SECONDS = 15.0, 10.0
_END_SECONDS = 10.0
_RUNNER_NAME, _DONE_NAME = "run.sh", "engine.done"
_MOST_FETCHED = 2**28  # bytes

_MANIFEST = PurePosixPath("manifest.json")

Say = Callable[[str], None]
Files = Mapping[PurePosixPath, bytes]
"""Of a bundle, by their path in it."""

# A connection that is lost, or closed, closes stdin; then nothing is left running on the board.
# dash takes no -- between the signal and the group.
_RUNNER = """#!/bin/sh
# Runs a script of this folder, and ends it with all that it started when stdin is closed.
cd "$(dirname "$0")" || exit 1
exec 3<&0
setsid sh "$1" < /dev/null &
job=$!
(
    cat <&3
    kill -TERM "-$job"
    sleep 2
    kill -KILL "-$job"
) > /dev/null 2>&1 &
watcher=$!
wait "$job"
code=$?
kill "$watcher" 2> /dev/null
exit "$code"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Where a board is. Attributes: user, port: None for what OpenSSH's configuration says."""

    name: str
    user: str | None = None
    port: int | None = None


def parse_host(text: str) -> Host:
    """Reads "user@board", "board" or "user@board:2222".

    Raises:
        UsageError: it is something else.
    """
    user, at, rest = text.rpartition("@")
    name, colon, port = rest.partition(":")
    if not name or (at and not user) or (colon and not (port.isdecimal() and int(port) < 65536)):
        raise UsageError(f"--host {text!r} is no host; write user@board, or user@board:2222")
    return Host(name=name, user=user or None, port=int(port) if port else None)


def measure_on_board(bundle: Path, host: Host, into: Path, *, rebuild: bool, say: Say) -> None:
    """Lets a board build and measure a bundle, and fetches its answers and results.

    What was built of the same bundle is used again. Whatever happens, nothing is left running.

    Args:
        bundle: with manifest.json.
        into: an empty folder here, which gets `outputs` and `results`.
        rebuild: build the engine again, as after another JetPack was installed.
        say: is told what is done, and what the scripts print.
    Raises:
        MissingDependencyError: asyncssh is not installed.
        ResultsError: the board cannot be reached or is not the known one, or a script failed.
    """
    ssh, files = _asyncssh(), _files_of(bundle)
    try:
        _run_to_its_end(_measure(ssh, files, host, into, rebuild=rebuild, say=say))
    except ssh.HostKeyNotVerifiable as error:
        raise ResultsError(
            f"{host.name}: its host key is not in ~/.ssh/known_hosts, or is another one ({error}). "
            "Connect once with ssh, compare the fingerprint with the board's, and accept it there"
        ) from error
    except ssh.PermissionDenied as error:
        raise ResultsError(
            f"{host.name}: refuses to log in ({error}). Nothing is asked for here: set up a key, "
            "as with ssh-copy-id"
        ) from error
    except (ssh.Error, OSError, asyncio.TimeoutError) as error:
        raise ResultsError(
            f"{host.name}: cannot be reached, or was lost ({error or type(error).__name__}). "
            "Nothing was recorded, and what ran there ends by itself. Check that ssh reaches it"
        ) from error


def _run_to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Runs work; SIGTERM cancels it, as Ctrl-C does, and is handled when it has cleaned up."""
    before = signal.getsignal(signal.SIGTERM)
    stopped: list[bool] = []

    def stop(task: asyncio.Task[Any]) -> None:
        stopped.append(True)
        task.cancel()

    async def guarded() -> None:
        task = asyncio.current_task()
        assert task is not None
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop, task)
        await work

    try:
        asyncio.run(guarded())
    except asyncio.CancelledError:
        if not stopped:
            raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
    if stopped:
        signal.raise_signal(signal.SIGTERM)


async def _measure(
    ssh: Any, files: Files, host: Host, into: Path, *, rebuild: bool, say: Say
) -> None:
    folder = f"{FOLDER}/{hashlib.sha256(files[_MANIFEST]).hexdigest()[:32]}"
    options = {
        name: value for name, value in (("username", host.user), ("port", host.port)) if value
    }
    say(f"connecting to {host.name}")
    async with (
        ssh.connect(
            host.name,
            connect_timeout=_CONNECT_SECONDS,
            login_timeout=_CONNECT_SECONDS,
            keepalive_interval=_ALIVE_SECONDS,
            **options,
        ) as connection,
        connection.start_sftp_client() as sftp,
    ):
        await _copy(sftp, files, folder, say)
        built = await sftp.exists(f"{folder}/{_DONE_NAME}")
        if rebuild or not built:
            if built:
                await sftp.remove(f"{folder}/{_DONE_NAME}")
            say("building the engine; this takes minutes")
            await _run(connection, folder, "build.sh", BUILD_SECONDS, say)
            await _write(sftp, f"{folder}/{_DONE_NAME}", b"")
        else:
            say("the engine that was built of this bundle before is used again")
        await _run(connection, folder, "bench.sh", BENCH_SECONDS, say)
        for name in ("outputs", RESULTS):
            await _fetch(sftp, f"{folder}/{name}", into / name)


async def _copy(sftp: Any, files: Files, folder: str, say: Say) -> None:
    """Copies a bundle; its manifest comes last, so that it says that all is there."""
    await sftp.makedirs(folder, exist_ok=True)
    await _write(sftp, f"{folder}/{_RUNNER_NAME}", _RUNNER.encode())
    manifest = f"{folder}/{_MANIFEST}"
    if await sftp.exists(manifest):
        async with sftp.open(manifest, "rb") as stream:
            if await stream.read() == files[_MANIFEST]:
                return
    say(f"copying {len(files)} files")
    for path in sorted(files, key=lambda path: path == _MANIFEST):
        await sftp.makedirs(str((folder / path).parent), exist_ok=True)
        await _write(sftp, str(folder / path), files[path])


def _files_of(bundle: Path) -> Files:
    """What a bundle consists of, but for what was made of it.

    Raises:
        ResultsError: it cannot be read.
    """
    try:
        return {
            PurePosixPath(*file.relative_to(bundle).parts): file.read_bytes()
            for file in sorted(bundle.rglob("*"))
            if file.is_file() and _belongs(file.relative_to(bundle))
        }
    except OSError as error:
        raise ResultsError(f"{bundle}: cannot be read: {error}") from error


def _belongs(file: Path) -> bool:
    """Whether a file is of the bundle, and not of what was made of it."""
    made = ("outputs", RESULTS, f"{RESULTS}.partial")
    return file.parts[0] not in (*made, "bench.json", "model.engine", _DONE_NAME)


async def _run(connection: Any, folder: str, script: str, seconds: float, say: Say) -> None:
    """Runs a script to its end; it ends with the channel."""
    process = await connection.create_process(
        f"exec sh {folder}/{_RUNNER_NAME} {script}", errors="replace"
    )
    said: list[str] = []

    async def listen() -> None:
        async for line in process.stdout:
            said.append(line.rstrip())
            say(line.rstrip())
        await process.wait()

    try:
        await asyncio.wait_for(listen(), seconds)
    except asyncio.TimeoutError:
        raise ResultsError(f"{script} took longer than {seconds:,.0f} s, and was stopped") from None
    finally:
        if process.exit_status is None:
            with contextlib.suppress(Exception):  # the first error is the one to report
                process.stdin.write_eof()
                await asyncio.wait_for(process.wait(), _END_SECONDS)
            process.close()
    if process.exit_status != 0:
        last = " | ".join(said[-5:]) or str(process.exit_signal or "it said nothing")
        raise ResultsError(
            f"{script} failed on the board with exit code {process.exit_status}: {last}"
        )


async def _fetch(sftp: Any, folder: str, into: Path) -> None:
    """Copies the files of a folder, none of its folders."""
    if not await sftp.isdir(folder):
        raise ResultsError(
            f"the scripts left no folder {PurePosixPath(folder).name} on the board: the bundle was "
            "written by an earlier kq. Export it again"
        )
    into.mkdir()
    left = _MOST_FETCHED
    for entry in await sftp.readdir(folder):
        name = str(entry.filename)
        if name in (".", "..") or PurePosixPath(name).name != name or "\\" in name:
            continue
        left -= entry.attrs.size or 0
        if left < 0:
            raise ResultsError(f"{folder}: holds more than {_MOST_FETCHED / 1e6:,.0f} MB")
        async with sftp.open(f"{folder}/{name}", "rb") as stream:
            (into / name).write_bytes(await stream.read())


async def _write(sftp: Any, path: str, content: bytes) -> None:
    async with sftp.open(path, "wb") as stream:
        await stream.write(content)


def _asyncssh() -> Any:
    try:
        return importlib.import_module("asyncssh")
    except ImportError as error:
        raise MissingDependencyError(
            f"asyncssh is not installed, which reaches boards: pip install 'keras_quant[{EXTRA}]'. "
            "Without it: copy the bundle, run build.sh and bench.sh there, copy it back, and call "
            "kq import-results"
        ) from error
