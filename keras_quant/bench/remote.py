"""A bundle on a board over SSH: copied, built, measured, fetched."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import signal
import stat
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path, PurePosixPath
from typing import Any

from keras_quant.bench.results import RESULTS
from keras_quant.bench.ssh import FOLDER, Files, Host, connect, failures_told, write
from keras_quant.errors import ResultsError

BUILD_SECONDS, BENCH_SECONDS = 3600.0, 900.0
"""How long the scripts may take: an engine of a large net takes half an hour on a Nano."""

_END_SECONDS = 10.0
_RUNNER_NAME, _DONE_NAME = "run.sh", "engine.done"
_PROVE = "prove.sh"
_MOST_FETCHED = 2**28  # bytes

_MANIFEST = PurePosixPath("manifest.json")

Say = Callable[[str], None]

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


def measure_on_board(bundle: Path, host: Host, into: Path, *, rebuild: bool, say: Say) -> None:
    """Lets a board build and measure a bundle, and fetches its answers and results.

    What was built of the same bundle is used again. Whatever happens, nothing is left running.

    Args:
        bundle: with manifest.json.
        into: an empty folder here, which gets `outputs`, `proof` and `results`.
        rebuild: build the engine again, as after another JetPack was installed.
        say: is told what is done, and what the scripts print.
    Raises:
        MissingDependencyError: asyncssh is not installed.
        ResultsError: the board cannot be reached or is not the known one, or a script failed.
    """
    files = _files_of(bundle)
    with failures_told(host):
        _run_to_its_end(_measure(files, host, into, rebuild=rebuild, say=say))


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


async def _measure(files: Files, host: Host, into: Path, *, rebuild: bool, say: Say) -> None:
    folder = f"{FOLDER}/{hashlib.sha256(files[_MANIFEST]).hexdigest()[:32]}"
    say(f"connecting to {host.name}")
    async with connect(host) as connection, connection.start_sftp_client() as sftp:
        await _copy(sftp, files, folder, say)
        built = await sftp.exists(f"{folder}/{_DONE_NAME}")
        if rebuild or not built:
            if built:
                await sftp.remove(f"{folder}/{_DONE_NAME}")
            say("building the engine; this takes minutes")
            await _run(connection, folder, "build.sh", BUILD_SECONDS, say)
            if PurePosixPath(_PROVE) in files:
                say("building a second engine, which gives the codes of every layer")
                await _run(connection, folder, _PROVE, BUILD_SECONDS, say)
            await write(sftp, f"{folder}/{_DONE_NAME}", b"")
        else:
            say("the engine that was built of this bundle before is used again")
        await _run(connection, folder, "bench.sh", BENCH_SECONDS, say)
        for name in ("outputs", RESULTS, *(("proof",) if PurePosixPath(_PROVE) in files else ())):
            await _fetch(sftp, f"{folder}/{name}", into / name)


async def _copy(sftp: Any, files: Files, folder: str, say: Say) -> None:
    """Copies a bundle; its manifest comes last, so that it says that all is there."""
    await sftp.makedirs(folder, exist_ok=True)
    await write(sftp, f"{folder}/{_RUNNER_NAME}", _RUNNER.encode())
    manifest = f"{folder}/{_MANIFEST}"
    if await sftp.exists(manifest):
        async with sftp.open(manifest, "rb") as stream:
            if await stream.read() == files[_MANIFEST]:
                return
    say(f"copying {len(files)} files")
    for path in sorted(files, key=lambda path: path == _MANIFEST):
        await sftp.makedirs(str((folder / path).parent), exist_ok=True)
        await write(sftp, str(folder / path), files[path])


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
    made = ("outputs", "proof", "proof.partial", RESULTS, f"{RESULTS}.partial", "bench.json")
    return file.parts[0] not in (*made, "model.engine", "probe.engine", _DONE_NAME)


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
        if stat.S_ISDIR(entry.attrs.permissions or 0):
            continue
        left -= entry.attrs.size or 0
        if left < 0:
            raise ResultsError(f"{folder}: holds more than {_MOST_FETCHED / 1e6:,.0f} MB")
        async with sftp.open(f"{folder}/{name}", "rb") as stream:
            (into / name).write_bytes(await stream.read())
