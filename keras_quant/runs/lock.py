"""One process at a time changes the files of a run, or of an export."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import portalocker

from keras_quant.errors import RunError, warn
from keras_quant.files import FileError, make_folder

LOCK_NAME = ".kq-lock"
"""The file that a process locks while it changes a folder. It stays, and says who was last."""


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keeps other processes from changing a folder, which is made where it is missing.

    The system lets go of it when the process ends, however it ends.

    Args:
        wait: until another process has finished, for what takes moments.
    Raises:
        RunError: another process changes it.
        FileError: the system refuses to write there.
    """
    path = make_folder(folder) / LOCK_NAME
    try:
        stream = open(path, "a+", encoding="ascii")  # noqa: SIM115 - closed below
    except OSError as error:
        raise FileError(f"{path}: not written: {error.strerror}. Choose another folder.") from error
    with stream:
        _lock(stream, folder, wait=wait)
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield


def _lock(stream: IO[str], folder: Path, *, wait: bool) -> None:
    flags = portalocker.LockFlags.EXCLUSIVE
    if not wait:
        flags |= portalocker.LockFlags.NON_BLOCKING
    try:
        portalocker.lock(stream, flags)
    except portalocker.AlreadyLocked as error:
        raise RunError(
            f"{folder}: {_holder(stream)} works on it. Wait until it has finished, or stop it, or "
            "choose another folder"
        ) from error
    except portalocker.LockException as error:
        # Some network file systems have no locks.
        warn(f"{folder}: cannot be locked ({error}); let no other kq work on it")


def _holder(stream: IO[str]) -> str:
    """Who holds a lock, as far as its file can be read: on Windows it cannot."""
    try:
        stream.seek(0)
        process = stream.read(20).strip()
    except OSError:
        process = ""
    return f"process {process}" if process.isdigit() else "another process"
