from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.calibration import statistics as module
from keras_quant.calibration.histogram import histogram_of
from keras_quant.calibration.statistics import combine, nothing_seen, observe

FLOAT64_SUM = 1e-12  # sums of parts are rounded in another order


def test_hand_made_moments() -> None:
    found = observe(np.array([[1, -2], [3, 0]], np.float32), per_channel=True)
    whole, channels = found.moments, found.channels
    assert (whole.count, whole.low, whole.high) == (4, -2, 3)
    assert (whole.total, whole.squares) == (2, 14)
    assert (whole.mean, whole.mean_square, whole.variance) == (0.5, 3.5, 3.25)
    assert channels is not None and channels.count == 2
    for name, expected in {
        "low": [1, -2],
        "high": [3, 0],
        "total": [4, -2],
        "squares": [10, 4],
        "mean": [2, -1],
        "variance": [1, 1],
    }.items():
        np.testing.assert_array_equal(getattr(channels, name), expected)


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 40), st.integers(0, 99))
def test_parts_and_chunks_give_what_the_whole_gives(
    images: int, channels: int, cut: int, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(size=(images, 3, channels)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", 7)
        parts = [
            observe(part, per_channel=True) for part in (values[:cut], values[cut:]) if part.size
        ]
        found = combine([nothing_seen(), *parts])
    whole = found.moments
    assert (whole.count, whole.low, whole.high) == (values.size, values.min(), values.max())
    exact = values.astype(np.float64)
    assert float(whole.total) == pytest.approx(exact.sum(), rel=FLOAT64_SUM, abs=FLOAT64_SUM)
    assert float(whole.squares) == pytest.approx((exact**2).sum(), rel=FLOAT64_SUM)
    np.testing.assert_array_equal(found.histogram.counts, histogram_of(values).counts)
    assert found.channels is not None
    np.testing.assert_array_equal(found.channels.low, values.min(axis=(0, 1)))
    np.testing.assert_allclose(
        found.channels.squares, (exact**2).sum(axis=(0, 1)), rtol=FLOAT64_SUM
    )


def test_channels_are_kept_only_where_they_are_asked_for() -> None:
    values = np.ones((2, 3), np.float32)
    assert observe(values).channels is None
    assert combine([nothing_seen(), observe(values)]).channels is None


def test_nothing_seen_has_a_mean_of_zero() -> None:
    moments = nothing_seen().moments
    assert (moments.count, moments.mean, moments.mean_square, moments.variance) == (0, 0, 0, 0)
