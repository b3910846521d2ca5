"""What constant weights look like: their use of codes, and channels that differ or do nothing."""

from __future__ import annotations

import numpy as np

from keras_quant.diagnose.contents import KernelContents


def describe_kernel(
    values: np.ndarray,
    *,
    axis: int,
    dtype: str,
    scales: np.ndarray | None = None,
    zero_points: np.ndarray | None = None,
    bounds: tuple[int, int] | None = None,
) -> KernelContents:
    """Describes weights.

    Args:
        values: codes or floats of any shape.
        axis: of the channels that are put out.
        dtype: as the file calls it.
        scales: (1,) or (channels,); None for floats.
        zero_points: likewise; None for 0.
        bounds: the least and the greatest code of the dtype; None for floats.
    """
    channels = values.shape[axis]
    rows = np.moveaxis(values, axis, 0).reshape(channels, -1)
    if scales is None or bounds is None:
        ranges = np.abs(rows.astype(np.float64)).max(axis=1, initial=0)
        return KernelContents(
            dtype=dtype, channels=channels, spread=_spread(ranges), dead=int((ranges == 0).sum())
        )
    scales = np.asarray(scales, np.float64).reshape(-1)
    zero = np.zeros(1) if zero_points is None else np.asarray(zero_points).reshape(-1)
    is_broken = not (np.isfinite(scales) & (scales > 0)).all() or scales.size not in (1, channels)
    zero = zero if zero.size in (1, channels) else np.zeros(1)
    levels = np.abs(rows.astype(np.int64) - zero.astype(np.int64)[:, None]).max(axis=1, initial=0)
    live = levels > 0
    low, high = bounds
    # -128 and -127 both end int8: files differ in which they use.
    ends = (rows <= low + 1) | (rows >= high)
    return KernelContents(
        dtype=dtype,
        channels=channels,
        scales=scales.size,
        spread=None if is_broken else _spread(levels * scales),
        dead=int((~live).sum()),
        used=float(np.median(levels[live]) / high) if live.any() else 0.0,
        at_bounds=float(ends.mean()) if ends.size else 0.0,
        is_broken=is_broken,
    )


def _spread(ranges: np.ndarray) -> float | None:
    live = ranges[np.isfinite(ranges) & (ranges > 0)]
    return float(live.max() / live.min()) if live.size else None
