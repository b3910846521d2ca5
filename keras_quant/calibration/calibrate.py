"""Finding the scales of activations before training: steps by least squares."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from keras_quant.methods.grid import ActivationGrid
from keras_quant.prepare import Plan, split_float
from keras_quant.qparams import QParams, signed, unsigned
from keras_quant.tf import keras

CALIBRATION_IMAGES = 1024
BATCH_SIZE = 128
# Values kept of each tensor: at 2**17, the choice among powers of two no longer changes.
MAX_VALUES = 2**17
# A step this many halvings below the one that reaches max|x| clips nearly everything.
HALVINGS = 8


def calibrate(
    plan: Plan,
    model: keras.Model,
    images: np.ndarray | Sequence[np.ndarray],
    *,
    fresh: bool,
    on_images: Callable[[int], None] = lambda images: None,
) -> dict[int, float]:
    """Picks each group's step by least squared error over training images.

    Steps are powers of two; or, for values with a bound, that which gives it the highest code.
    The errors of a group's tensors count relative to their energy; branches follow (their
    step is their sum's), unless a group has nothing else.

    Args:
        model: the float model with the weights that training starts from.
        images: float32 (images, height, width, channels), normalized; one array for each of
            several inputs, in the model's order.
        fresh: the weights are untrained, so batch norm must use the statistics of the batch.
        on_images: told after each batch how many images are done.
    Returns: the step of each group number.
    """
    if not plan.points:
        return {}
    given = [images] if isinstance(images, np.ndarray) else images
    values = _collect(split_float(plan, model), given, fresh=fresh, on_images=on_images)
    steps = {}
    for group in sorted({point.group for point in plan.points}):
        members = [i for i, point in enumerate(plan.points) if point.group == group]
        leading = [i for i in members if not plan.points[i].is_branch] or members
        tensors = [(values[i], plan.points[i].grid.qparams) for i in leading]
        candidates = {2.0**e for x, q in tensors for e in _exponents(x, q.qmax)}
        candidates |= _bounded_step([plan.points[i].grid for i in members])
        errors = {
            step: sum(relative_error(x, q, step) for x, q in tensors) for step in sorted(candidates)
        }
        steps[group] = min(errors, key=lambda step: errors[step])
    return steps


def _bounded_step(grids: Sequence[ActivationGrid]) -> set[float]:
    """The float32 step that gives the bound of all grids the highest code, if they have one."""
    ends = {(grid.bound, grid.qparams.qmax) for grid in grids}
    bound, qmax = ends.pop()
    return set() if ends or bound is None else {float(np.float32(bound / qmax))}


def _collect(
    model: keras.Model,
    images: Sequence[np.ndarray],
    *,
    fresh: bool,
    on_images: Callable[[int], None],
) -> list[np.ndarray]:
    """Samples up to MAX_VALUES values of each output over all images."""
    starts = range(0, len(images[0]), BATCH_SIZE)
    samples: list[list[np.ndarray]] = [[] for _ in model.outputs]
    for start in starts:
        outputs = model([x[start : start + BATCH_SIZE] for x in images], training=fresh)
        for kept, output in zip(samples, outputs if len(samples) > 1 else [outputs], strict=True):
            kept.append(_thinned(np.asarray(output, np.float32), MAX_VALUES // len(starts)))
        on_images(min(start + BATCH_SIZE, len(images[0])))
    return [np.concatenate(kept) for kept in samples]


def _thinned(values: np.ndarray, count: int) -> np.ndarray:
    """About `count` of an array's values, evenly spread; (values,)."""
    stride = -(-values.size // count)
    while math.gcd(stride, values.shape[-1]) > 1:  # else it would pass over whole channels
        stride += 1
    return values.reshape(-1)[::stride]


def _exponents(x: np.ndarray, qmax: int) -> range:
    top = float(np.abs(x).max(initial=0.0)) or 1.0
    highest = math.ceil(math.log2(top / qmax))
    return range(highest - HALVINGS, highest + 1)


def relative_error(x: np.ndarray, qparams: QParams, step: float) -> float:
    """Mean squared error of rounding x to a step, over x's mean square.

    Args:
        x: float32 of any shape.
        qparams: the codes allowed; its scale is replaced by step.
    """
    codes = np.clip(np.rint(x / np.float32(step)), qparams.qmin, qparams.qmax)
    energy = float(np.mean(np.square(x))) or 1.0
    return float(np.mean(np.square(x - codes * np.float32(step)))) / energy


def measured_grid(images: np.ndarray, *, bits: int) -> QParams:
    """Finds the codes of a model's input from images: a power-of-two step by least squares.

    Args:
        images: float32 training images, as the model takes them.
        bits: width of the input.
    """
    sample = _thinned(images, MAX_VALUES)
    grid = signed(max(2, bits), 1.0, narrow_range=False)
    if images.min() >= 0:
        grid = unsigned(bits, 1.0)
    errors = {e: relative_error(sample, grid, 2.0**e) for e in _exponents(sample, grid.qmax)}
    step = 2.0 ** min(errors, key=lambda exponent: errors[exponent])
    return QParams(scale=step, qmin=grid.qmin, qmax=grid.qmax, bits=grid.bits)
