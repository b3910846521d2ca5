"""The plain kinds, and what each is for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FP16, DYNAMIC, W8A16 = "fp16", "dynamic", "w8a16"
KINDS = {
    FP16: "weights of float16, computed in float32",
    DYNAMIC: "weights of int8, activations quantized to 8 bits at run time",
    W8A16: "weights of int8, activations of int16 on scales from calibration",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainFile:
    """A file of a plain kind.

    Attributes:
        content: its bytes.
        changed: names of the layers whose weights are of the kind.
        kept: why others stay in float, by name.
    """

    content: bytes
    changed: tuple[str, ...]
    kept: dict[str, str]


def fits_half(values: np.ndarray) -> bool:
    """Whether float16 holds values: 65504 is its largest."""
    return bool(np.abs(values).max(initial=0) <= np.finfo(np.float16).max)


def int8_channels(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Rounds weights to int8 codes of -127 to 127 with a scale a channel.

    Args:
        values: float32 of any shape.
        axis: of the channels.
    Returns: int8 codes of its shape; float32 scales (channels,), each greater than 0.
    """
    others = tuple(place for place in range(values.ndim) if place != axis)
    largest = np.abs(values).max(axis=others).astype(np.float32)
    steps = largest / np.float32(127)  # 0 also of the smallest numbers that float32 holds
    scales = np.where(steps > 0, steps, np.float32(1)).astype(np.float32)
    shape = [-1 if place == axis else 1 for place in range(values.ndim)]
    codes = np.rint(values / scales.reshape(shape)).clip(-127, 127).astype(np.int8)
    return codes, scales
