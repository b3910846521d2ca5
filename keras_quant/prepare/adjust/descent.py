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
# Codes whose slopes are kept up to date one by one.
BLOCK = 64
# Of the mean variance of what is read, added to each of it: holds weights that nothing reads.
DAMPING = 0.01
# Of a covariance at most, so that something is left of it.
MOST_SHRUNK = 0.9
# Of the shrinkage that has the least error of a covariance; codes come out better with less of it.
# 60 drawn weights and 20, 240, 1,000 positions: all of it erred by 33, 18, 14 on others, this by
# 32, 18, 13, none by 56, 15, 13.
PART = 0.25


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
    damping = _damping(moments)[:, np.newaxis, np.newaxis]
    read = moments.read + damping * np.eye(taps)
    wanted = np.swapaxes(moments.wanted + damping * rows, 1, 2)
    rows, scale = np.swapaxes(rows, 1, 2), np.swapaxes(scale, 1, 2)
    best = _rounded(rows, scale, read, qmax)
    for ratio in RATIOS if is_scale_free else (1.0,):
        found = _rounded(rows, scale * ratio, read, qmax)
        for _ in range(SWEEPS):
            _sweep(found, read, wanted, qmax)
            if is_scale_free:
                found.refit(wanted)
        _sweep(found, read, wanted, qmax)
        best = best.or_better(found, wanted)
    return Rounded(codes=_rows_of(best.codes), scale=_rows_of(best.scale))


def _damping(moments: Moments) -> Array:
    """What is added to the variances of each group, (groups,), > 0.

    A share of their mean: DAMPING, or more where a covariance of so few positions says little. The
    oracle approximating shrinkage of Chen et al., "Shrinkage Algorithms for MMSE Covariance
    Estimation" (2010), eq. 23, shrinks it to (1 - share) S + share mean(S) I; a PART of that is
    taken.
    """
    taps = moments.read.shape[-1]
    trace = np.trace(moments.read, axis1=1, axis2=2)
    share = np.zeros(len(trace))
    if moments.count and taps > 1:
        squares = np.square(moments.read).sum(axis=(1, 2))
        above = (1 - 2 / taps) * squares + trace**2
        below = (moments.count + 1 - 2 / taps) * (squares - trace**2 / taps)
        share = np.where(above < MOST_SHRUNK * below, above / np.where(below > 0, below, 1), 1)
        share = np.minimum(share, MOST_SHRUNK)
    damping = np.maximum(DAMPING, PART * share / (1 - share)) * trace / taps
    return np.where(damping > 0, damping, 1.0)


@dataclass(slots=True, kw_only=True, eq=False)
class _Found:
    """Codes under search; float64 (groups, taps, outputs), so that a tap's lie side by side.

    Attributes:
        codes: integers.
        scale: (groups, 1, outputs).
        made: what is read, times the codes; kept up to date with them.
    """

    codes: Array
    scale: Array
    made: Array

    def refit(self, wanted: Array) -> None:
        """The scale of least error for codes; the old one where they are all 0, or point away."""
        along = (self.codes * wanted).sum(axis=1, keepdims=True)
        energy = (self.codes * self.made).sum(axis=1, keepdims=True)
        sound = (along > 0) & (energy > 0)
        self.scale = np.where(sound, along / np.where(sound, energy, 1.0), self.scale)

    def error(self, wanted: Array) -> Array:
        """Of each output, but for what no code changes: (groups, 1, outputs)."""
        terms = self.codes * self.scale * (self.made * self.scale - 2 * wanted)
        return np.asarray(terms.sum(axis=1, keepdims=True))

    def or_better(self, other: _Found, wanted: Array) -> _Found:
        """Output by output what errs less."""
        better = other.error(wanted) < self.error(wanted)
        names = ("codes", "scale", "made")
        pairs = {name: (getattr(other, name), getattr(self, name)) for name in names}
        return _Found(**{name: np.where(better, *pair) for name, pair in pairs.items()})


def _rounded(rows: Array, scale: Array, read: Array, qmax: int) -> _Found:
    """The nearest codes."""
    codes = np.ascontiguousarray(np.clip(np.rint(rows / scale), -qmax, qmax))
    return _Found(codes=codes, scale=scale, made=read @ codes)


def _rows_of(values: Array) -> Array:
    return np.ascontiguousarray(np.swapaxes(values, 1, 2))


def _sweep(found: _Found, read: Array, wanted: Array, qmax: int) -> None:
    """Sets each code in turn to the best one, the others held fast; all outputs at once.

    What codes of a block do to the slopes of all others is done at once when the block is through,
    by a product of matrices: the lazy batches of Frantar et al., "GPTQ" (2023), section 3.3. The
    codes are those that come of doing it one by one, but for the rounding of float64.
    """
    taps = read.shape[1]
    diagonal = np.diagonal(read, axis1=1, axis2=2)[..., np.newaxis]
    for start in range(0, taps, BLOCK):
        block = slice(start, min(start + BLOCK, taps))
        before = found.codes[:, block].copy()
        # Half of the derivative, downwards, in codes.
        slope = wanted[:, block] / found.scale - found.made[:, block]
        for tap in range(block.start, block.stop):
            here = found.codes[:, tap]
            step = slope[:, tap - start] / diagonal[:, tap]
            best = np.clip(np.rint(here + step), -qmax, qmax)
            moved = best - here
            if moved.any():
                found.codes[:, tap] = best
                slope -= read[:, tap, block, np.newaxis] * moved[:, np.newaxis]
        moved = found.codes[:, block] - before
        if moved.any():
            found.made += np.swapaxes(read[:, block], 1, 2) @ moved
