"""Messages between two processes that trust each other with nothing but numbers and text.

A message is the length of its header (8 bytes, big-endian), the header, which is a JSON object, and
the bytes of the arrays that the header tells of. Nothing is pickled: who reads a damaged file may
have been made to say anything. Without arrays numpy is not needed, which takes a process 20 MB.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

Arrays: TypeAlias = "Mapping[str, np.ndarray]"
Fill = Callable[[memoryview], None]
"""Fills a buffer, or raises EOFError."""

HEADER_BYTES = 2**26
_ARRAYS = "arrays"

GARBAGE = (ValueError, TypeError, KeyError, OverflowError, RecursionError)
"""What `receive` raises where bytes are no message."""


def encoded(header: Mapping[str, Any], arrays: Arrays | None = None) -> Iterator[memoryview]:
    """The bytes of a message, in parts.

    Args:
        header: JSON.
        arrays: of numbers, by name.
    """
    given = {name: _contiguous(array) for name, array in (arrays or {}).items()}
    kinds = [(name, array.dtype.str, array.shape) for name, array in given.items()]
    content = json.dumps({**header, _ARRAYS: kinds}).encode()
    yield memoryview(len(content).to_bytes(8, "big"))
    yield memoryview(content)
    yield from map(_bytes_of, given.values())


def send(descriptor: int, header: Mapping[str, Any], arrays: Arrays | None = None) -> None:
    """Writes a message, see `encoded`.

    Raises:
        BrokenPipeError: nobody reads.
    """
    for rest in encoded(header, arrays):
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def receive(
    fill: Fill,
    *,
    largest: int,
    largest_header: int = HEADER_BYTES,
    types: Collection[str] | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Reads a message.

    Args:
        largest: bytes that its arrays may have, together.
        largest_header: bytes that its header may have.
        types: that its arrays may be of, as numpy's `dtype.str`; None for any of numbers.
    Returns: the header, and arrays by name.
    Raises:
        EOFError: the other process has ended.
        GARBAGE: it is no message.
    """
    length = int.from_bytes(_read(fill, 8), "big")
    if length > largest_header:
        raise ValueError(f"a header of {length:,} bytes")
    header = json.loads(_read(fill, length))
    if not isinstance(header, dict):
        raise ValueError(f"a header that is a {type(header).__name__}")
    arrays: dict[str, np.ndarray] = {}
    for name, kind, shape in header.pop(_ARRAYS):
        import numpy as np

        if types is not None and kind not in types:
            raise ValueError(f"array {name!r} of {kind}")
        dtype = np.dtype(kind)
        largest -= dtype.itemsize * math.prod(shape)
        if dtype.hasobject or min(shape, default=0) < 0 or largest < 0:
            raise ValueError(f"array {name!r} of {kind} {shape}")
        arrays[name] = np.empty(shape, dtype)
        fill(_bytes_of(arrays[name]))
    return header, arrays


def read_into(
    descriptor: int, view: memoryview, *, wait: Callable[[], None] = lambda: None
) -> None:
    """Fills a buffer from a pipe.

    Args:
        wait: is called before each read, and returns when there is something to read.
    Raises:
        EOFError: nobody writes to the pipe any more.
    """
    while view:
        wait()
        length = os.readv(descriptor, [view])
        if not length:
            raise EOFError
        view = view[length:]


def _read(fill: Fill, length: int) -> bytes:
    content = bytearray(length)
    fill(memoryview(content))
    return bytes(content)


def _contiguous(array: np.ndarray) -> np.ndarray:
    return array if array.flags.c_contiguous else array.copy(order="C")


def _bytes_of(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view("u1").data
