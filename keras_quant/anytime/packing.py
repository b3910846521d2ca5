"""Codes that go from one machine to the next, packed at their bits.

A code is stored in a byte, but one of 4 bits needs half of that: what is sent is the code less the
lowest one there is, in as many bits as their range needs, the highest bit first, without gaps
within a tensor; two codes of 4 bits a byte. Nothing is rounded, so what is unpacked is what was
packed. Floats go as they are, little-endian.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

import numpy as np

from keras_quant.errors import DataError
from keras_quant.runs.stages import Port, StageFile

BYTE = 8
_CODES = ("int8", "uint8")


def handed_on(files: Sequence[StageFile], first: int) -> tuple[Port, ...]:
    """What stages from one on need that earlier ones give, or the image.

    Args:
        files: all stages of a net, in order.
        first: the place of that stage, from 0 on.
    Returns: each once, in the order in which they are needed.
    """
    later = files[first:]
    made = {port.name for file in later for port in file.outputs}
    needed = (port for file in later for port in file.inputs)
    return tuple({port.name: port for port in needed if port.name not in made}.values())


def code_range(port: Port) -> tuple[int, int]:
    """The lowest and the highest stored code: all of the dtype where the record says nothing."""
    info = np.iinfo(port.dtype)
    lowest = int(info.min) if port.lowest is None else port.lowest
    highest = int(info.max) if port.highest is None else port.highest
    return lowest, highest


def bits_of(port: Port) -> int:
    """How many a value is sent in."""
    if port.dtype not in _CODES:
        return BYTE * np.dtype(port.dtype).itemsize
    lowest, highest = code_range(port)
    return (highest - lowest).bit_length()


def packed_bytes(ports: Iterable[Port]) -> int:
    """Of one image."""
    return sum(_bytes_of(port) for port in ports)


def pack(values: Mapping[str, np.ndarray], ports: Sequence[Port]) -> np.ndarray:
    """Packs what is handed on.

    Args:
        values: by the names of ports, (images, *shape), as stored.
    Returns: uint8 (images, packed_bytes).
    Raises:
        DataError: a value is no code of its port: the stage is another than its record says.
    """
    return np.concatenate([_packed(values[port.name], port) for port in ports], axis=1)


def unpack(packed: np.ndarray, ports: Sequence[Port]) -> dict[str, np.ndarray]:
    """What `pack` was given.

    Args:
        packed: uint8 (images, packed_bytes).
    Returns: by the names of ports, (images, *shape), as stored.
    Raises:
        DataError: a value is no code of its port.
    """
    parts = np.split(packed, list(accumulate(map(_bytes_of, ports)))[:-1], axis=1)
    return {port.name: _unpacked(part, port) for part, port in zip(parts, ports, strict=True)}


def blank(ports: Sequence[Port]) -> dict[str, np.ndarray]:
    """One image of the lowest codes, and of zeros, by the names of ports."""
    return unpack(np.zeros((1, packed_bytes(ports)), np.uint8), ports)


def _bytes_of(port: Port) -> int:
    return -(-math.prod(port.shape) * bits_of(port) // BYTE)


def _packed(values: np.ndarray, port: Port) -> np.ndarray:
    flat = values.reshape(len(values), -1)
    if port.dtype not in _CODES:
        return np.ascontiguousarray(flat, np.dtype(port.dtype).newbyteorder("<")).view(np.uint8)
    lowest, highest = code_range(port)
    if flat.min(initial=highest) < lowest or flat.max(initial=lowest) > highest:
        raise DataError(_not_a_code(port))
    shifted = (flat.astype(np.int16) - lowest).astype(np.uint8)
    bits = np.unpackbits(shifted[..., None], axis=-1)[..., BYTE - bits_of(port) :]
    return np.packbits(bits.reshape(len(values), -1), axis=1)


def _unpacked(packed: np.ndarray, port: Port) -> np.ndarray:
    shape = (len(packed), *port.shape)
    if port.dtype not in _CODES:
        stored = np.ascontiguousarray(packed).view(np.dtype(port.dtype).newbyteorder("<"))
        return np.asarray(stored.reshape(shape), port.dtype)
    lowest, highest = code_range(port)
    count, width = math.prod(port.shape), bits_of(port)
    bits = np.unpackbits(packed, axis=1, count=count * width).reshape(len(packed), count, width)
    # packbits fills up behind the last bit, and the bits that are missing are the highest.
    codes = (np.packbits(bits, axis=-1)[..., 0] >> (BYTE - width)).astype(np.int16) + lowest
    if codes.max(initial=lowest) > highest:
        raise DataError(_not_a_code(port))
    return codes.astype(port.dtype).reshape(shape)


def _not_a_code(port: Port) -> str:
    lowest, highest = code_range(port)
    return (
        f"{port.name!r} holds a value that is none of its codes, {lowest} to {highest}. Export the "
        "run again: kq export RUN --stages"
    )
