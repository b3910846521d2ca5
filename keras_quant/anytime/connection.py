"""Messages over a socket between machines that do not trust each other.

They are those of `runners.messages`: JSON and arrays, nothing that could be run, each with its
length in front, and none longer than the receiver allows. A message that is late is not lost: what
came of it is kept, and the next `receive` goes on with it.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_quant.anytime.lookup import Lookup, Place
from keras_quant.errors import PeerError, UsageError
from keras_quant.runners.messages import GARBAGE, Arrays, encoded, receive

HEADER_BYTES = 2**16
"""Of a message: the longest, what both ends say of a net at first, has some 500 bytes a stage."""

TYPES = frozenset({"|u1", "<f4"})
LONGEST_TIMEOUT_MS = 24 * 3600 * 1000
"""A day: what systems take is limited, to 24 of them where it is least."""

_AT_ONCE = 2**16
_LEAST_SECONDS = 1e-3  # to connect in; 0 would not wait at all
_SHOWN = 300  # characters that are shown of what another machine says


class UnreachableError(PeerError):
    """Nobody listens at an address."""


class EndedError(PeerError):
    """The other end closed the connection between two messages, as it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a machine listens.

    Attributes:
        host: a name, or an address of IPv4 or IPv6.
        port: 0 to 65535; to listen, 0 is any that is free.
    """

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: str, option: str) -> Address:
    """Reads HOST:PORT, or [HOST]:PORT.

    Args:
        option: that it is the value of.
    Raises:
        UsageError: it is something else.
    """
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 2**16
    if not (colon and host and is_port and _is_host(host)):
        raise UsageError(
            f"{option} {text!r} is no address; write HOST:PORT, as in 127.0.0.1:9000, with a port "
            "up to 65535"
        )
    return Address(host=host, port=int(port))


def _is_host(host: str) -> bool:
    """Whether there can be such a name: a system is asked for no other."""
    try:
        return bool(host.encode("idna"))
    except UnicodeError:  # a part between dots is empty, or longer than 63 characters
        return False


def wrong_timeout(timeout_ms: float) -> list[str]:
    """What is wrong with `--timeout-ms NUMBER`: nothing where it can be waited for."""
    if 0 < timeout_ms <= LONGEST_TIMEOUT_MS:
        return []
    return [
        f"--timeout-ms is {timeout_ms:g}; a number above 0, up to {LONGEST_TIMEOUT_MS:,} (a day), "
        "is allowed"
    ]


class Connection:
    """One end of a connection.

    Attributes:
        sent_bytes, received_bytes: so far, headers too.
    """

    def __init__(self, connected: socket.socket, *, who: str, largest: int) -> None:
        """Takes a socket that is connected.

        Args:
            who: is at the other end.
            largest: bytes that the arrays of a message may have.
        """
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket, self._who, self.largest = connected, who, largest
        self._held, self._read, self._until = bytearray(), 0, math.inf
        self.sent_bytes = self.received_bytes = 0

    @classmethod
    def to(cls, address: Address, lookup: Lookup, *, seconds: float, largest: int) -> Connection:
        """Connects.

        Args:
            lookup: of the address.
            seconds: for all of it: until the name is looked up, and until somebody answers there.
        Raises:
            UnreachableError: nobody listens there.
        """
        until = time.monotonic() + seconds
        try:
            places = lookup.places(seconds=seconds)
        except TimeoutError:
            raise UnreachableError(
                f"{address}: cannot be reached ({address.host} was not looked up within "
                f"{seconds:.3g} s). Does this machine's name server answer? An IP address needs "
                "none",
                timed_out=True,
            ) from None
        except OSError as error:
            raise _unreachable(address, error) from None
        return cls(_connected(address, places, until), who=str(address), largest=largest)

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()

    def send(
        self, header: Mapping[str, Any], arrays: Arrays | None = None, *, seconds: float
    ) -> int:
        """Sends a message.

        Returns: its bytes.
        Raises:
            PeerError: nobody is there any more, or takes it in that time: then close.
        """
        content = b"".join(encoded(header, arrays))
        try:
            self._socket.settimeout(seconds)
            self._socket.sendall(content)
        except OSError as error:
            raise self._lost(error) from None
        self.sent_bytes += len(content)
        return len(content)

    def receive(
        self, *, seconds: float = math.inf, begin_seconds: float | None = None
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Waits for a message.

        Args:
            seconds: until it is there.
            begin_seconds: until its first byte is there; from then on `seconds` count. None for
                `seconds` in all.
        Raises:
            EndedError: the other end closed the connection.
            PeerError: it is not there in that time; or nobody is there any more, or what comes is
                no message: then close.
        """
        self._read = 0
        self._wait(seconds if begin_seconds is None else begin_seconds)
        try:
            if begin_seconds is not None:
                if not self._held:
                    self._more()
                self._wait(seconds)
            message = receive(
                self._fill, largest=self.largest, largest_header=HEADER_BYTES, types=TYPES
            )
        except TimeoutError:
            raise PeerError(f"{self._who}: did not answer in time", timed_out=True) from None
        except EOFError as error:
            raise self._lost(error) if self._held else EndedError(str(self._lost(error))) from None
        except OSError as error:
            raise self._lost(error) from None
        except GARBAGE as error:
            raise PeerError(
                f"{self._who}: sends what is no message of kq anytime ({printable(str(error))})"
            ) from None
        del self._held[: self._read]
        return message

    def _wait(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def _fill(self, view: memoryview) -> None:
        while view:
            if self._read == len(self._held):
                self._more()
            part = self._held[self._read : self._read + len(view)]
            view[: len(part)] = part
            self._read += len(part)
            view = view[len(part) :]

    def _more(self) -> None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(None if math.isinf(left) else left)
        content = self._socket.recv(_AT_ONCE)
        if not content:
            raise EOFError
        self._held += content
        self.received_bytes += len(content)

    def _lost(self, error: Exception) -> PeerError:
        why = (error.strerror if isinstance(error, OSError) else "") or "it ended the connection"
        return PeerError(f"{self._who}: is lost ({why})", timed_out=isinstance(error, TimeoutError))


def _connected(address: Address, places: Sequence[Place], until: float) -> socket.socket:
    """Connects to the first place where somebody listens; each gets a share of the time left.

    Raises:
        UnreachableError: there is none.
    """
    failed = OSError("nowhere")
    for left, place in zip(range(len(places), 0, -1), places, strict=True):
        share = (until - time.monotonic()) / left
        try:
            return _reached(place, seconds=max(_LEAST_SECONDS, share))
        except OSError as error:
            failed = error
    raise _unreachable(address, failed)


def _reached(place: Place, *, seconds: float) -> socket.socket:
    """Connects to a place. Raises: OSError: nobody listens there, or there are no such places."""
    family, kind, protocol, _, at = place
    made = socket.socket(family, kind, protocol)
    try:
        made.settimeout(seconds)
        made.connect(at)
    except OSError:
        made.close()
        raise
    return made


def _unreachable(address: Address, error: OSError) -> UnreachableError:
    return UnreachableError(
        f"{address}: cannot be reached ({error.strerror or error}). Is it running there? "
        f"kq anytime serve RUN --listen {address}",
        timed_out=isinstance(error, TimeoutError),
    )


def printable(text: str) -> str:
    """What another machine says, without what would move a terminal's cursor, and not too long."""
    clean = "".join(one if one.isprintable() else " " for one in text)
    return clean if len(clean) <= _SHOWN else f"{clean[:_SHOWN]}..."
