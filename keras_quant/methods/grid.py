"""Plain values that methods take and give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_quant.qparams import QParams, signed, unsigned


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationGrid:
    """The values that one activation tensor may hold.

    Attributes:
        bits: 1 to 8.
        signed: codes reach below zero; else 0 .. 2**bits - 1.
        narrow_range: signed codes leave out the lowest one.
        step: real distance of two codes: a power of two, or that which gives the bound the highest
            code.
        bound: the largest value there is, behind a ReLU6; None where there is none, or where
            only powers of two will do for the step.
    """

    bits: int
    signed: bool
    narrow_range: bool = False
    step: float = 1.0
    bound: float | None = None

    @property
    def qparams(self) -> QParams:
        if self.signed:
            return signed(self.bits, self.step, narrow_range=self.narrow_range)
        return unsigned(self.bits, self.step)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrozenKernel:
    """A kernel as integers: kernel = codes * scale, channel by channel.

    Attributes:
        codes: int16 in the Keras layout of the kernel.
        scale: float64, broadcastable to codes.
        bits: logical width.
    """

    codes: np.ndarray
    scale: np.ndarray
    bits: int
