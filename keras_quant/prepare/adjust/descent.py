"""Rounding of a kernel that minds what the layer answers, by coordinate descent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_quant.prepare.adjust.patches import Moments

Array = NDArray[np.float64]

# Passes over the weights: seen to change less than a hundredth of the error after the third.
SWEEPS = 4
# Scales that are tried, in those that the method fitted to the weights.
RATIOS = (0.8, 0.9, 1.0)
# Of the mean variance of what is read, added to each of it: holds weights that nothing reads.
DAMPING = 0.01


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rounded:
    """Codes of a kernel, with a scale an output.

    Attributes:
        codes: float64 integers (groups, outputs, taps).
        scale: float64 (groups, outputs, 1), > 0.
    """

    codes: Array
    scale: Array


def descend(
    rows: Array, scale: Array, moments: Moments, *, qmax: int, is_scale_free: bool = True
) -> Rounded:
    """Rounds so that the layer's answers differ least, in the mean square, from what is wanted.

    Of an output of weights w = scale * codes, which reads x where the float layer puts out y, the
    error but for its mean is w A w - 2 w c + Var(y), with A = Cov(x, x) and c = Cov(x, y). All
    codes but one held fast, the best one is the nearest to where its derivative is 0; so each
    is set in turn, several times over: as in Behdin et al., "QuantEase" (2023), algorithm 1. x is
    what the rounded layers before give, as in Wei et al., "QDrop" (2022), and Nagel et al., "Up or
    Down?" (2020), eq. 25, which learn whether to round up or down; here a code may move further. In
    between, the scale is that of least error for its codes, w c / w A w times itself.

    Args:
        rows: the float kernel's, (groups, outputs, taps).
        scale: to begin with, (groups, outputs, 1).
        moments: of what is read and wanted.
        qmax: highest code, and the lowest but for its sign.
        is_scale_free: each output may have another scale than it begins with.
    Returns: what errs least of all scales tried, output by output; plain rounding is one of them.
    """
    taps = rows.shape[-1]
    damping = DAMPING * np.trace(moments.read, axis1=1, axis2=2)[:, np.newaxis, np.newaxis] / taps
    damping = np.where(damping > 0, damping, 1.0)
    read = moments.read + damping * np.eye(taps)
    wanted = moments.wanted + damping * rows
    best = Rounded(codes=np.clip(np.rint(rows / scale), -qmax, qmax), scale=scale)
    least = _error(best, read, wanted)
    for ratio in RATIOS if is_scale_free else (1.0,):
        found = _from(rows, scale * ratio, read, wanted, qmax, is_scale_free=is_scale_free)
        error = _error(found, read, wanted)
        better = error < least
        least = np.where(better, error, least)
        best = Rounded(
            codes=np.where(better, found.codes, best.codes),
            scale=np.where(better, found.scale, best.scale),
        )
    return best


def _from(
    rows: Array, scale: Array, read: Array, wanted: Array, qmax: int, *, is_scale_free: bool
) -> Rounded:
    codes = np.clip(np.rint(rows / scale), -qmax, qmax)
    for _ in range(SWEEPS):
        codes = _sweep(codes, scale, read, wanted, qmax)
        scale = _refit(codes, scale, read, wanted) if is_scale_free else scale
    return Rounded(codes=_sweep(codes, scale, read, wanted, qmax), scale=scale)


def _sweep(codes: Array, scale: Array, read: Array, wanted: Array, qmax: int) -> Array:
    """Sets each code in turn to the best one, the others held fast; all outputs at once."""
    codes = codes.copy()
    slope = wanted / scale - codes @ read  # half of the derivative, downwards, in codes
    for tap in range(codes.shape[-1]):
        diagonal = read[:, tap, tap, np.newaxis]
        best = np.clip(np.rint(codes[..., tap] + slope[..., tap] / diagonal), -qmax, qmax)
        moved = best - codes[..., tap]
        if moved.any():
            codes[..., tap] = best
            slope -= moved[..., np.newaxis] * read[:, np.newaxis, tap]
    return codes


def _refit(codes: Array, scale: Array, read: Array, wanted: Array) -> Array:
    """The scale of least error for codes; the old one where they are all 0, or point away."""
    along = (codes * wanted).sum(axis=-1, keepdims=True)
    energy = (codes * (codes @ read)).sum(axis=-1, keepdims=True)
    sound = (along > 0) & (energy > 0)
    return np.where(sound, along / np.where(sound, energy, 1.0), scale)


def _error(found: Rounded, read: Array, wanted: Array) -> Array:
    """Of each output, but for what no code changes: (groups, outputs, 1)."""
    weights = found.codes * found.scale
    return np.asarray((weights * (weights @ read - 2 * wanted)).sum(axis=-1, keepdims=True))
