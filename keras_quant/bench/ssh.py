"""SSH connections to boards, and what goes wrong with them.

By asyncssh: it checks host keys against ~/.ssh/known_hosts unless told otherwise, reads OpenSSH's
own configuration and keys, copies files by SFTP, and brings the server that the tests run against;
paramiko has no such server for SFTP and processes together. No name of the user's or of a file's
comes into a command: commands are constants and hexadecimal digits.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from keras_quant.errors import MissingDependencyError, ResultsError, UsageError

EXTRA = "jetson"
FOLDER = ".cache/keras_quant"
"""On the board, in the user's home; what is copied lies in folders in it, called by its hash."""

_CONNECT_SECONDS, _ALIVE_SECONDS = 15.0, 10.0

Files = Mapping[PurePosixPath, bytes]
"""By their path in the folder that they are copied to."""


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
    is_port = port.isdecimal() and 0 < int(port) < 65536
    if not name or (at and not user) or (colon and not is_port):
        raise UsageError(f"--host {text!r} is no host; write user@board, or user@board:2222")
    return Host(name=name, user=user or None, port=int(port) if port else None)


@contextlib.contextmanager
def failures_told(host: Host) -> Iterator[None]:
    """Turns what asyncssh raises into errors that say what to do. Raises: ResultsError."""
    ssh = asyncssh()
    try:
        yield
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


def connect(host: Host) -> Any:
    """A connection, to be used in `async with`."""
    options = {
        name: value for name, value in (("username", host.user), ("port", host.port)) if value
    }
    return asyncssh().connect(
        host.name,
        connect_timeout=_CONNECT_SECONDS,
        login_timeout=_CONNECT_SECONDS,
        keepalive_interval=_ALIVE_SECONDS,
        **options,
    )


async def write(sftp: Any, path: str, content: bytes) -> None:
    """Writes a file on the board."""
    async with sftp.open(path, "wb") as stream:
        await stream.write(content)


def asyncssh() -> Any:
    """The module. Raises: MissingDependencyError."""
    try:
        return importlib.import_module("asyncssh")
    except ImportError as error:
        raise MissingDependencyError(
            f"asyncssh is not installed, which reaches boards: pip install 'keras_quant[{EXTRA}]'. "
            "Without it: copy the bundle, run build.sh and bench.sh there, copy it back, and call "
            "kq import-results"
        ) from error
