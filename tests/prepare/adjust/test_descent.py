from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.prepare.adjust import descent  # noqa: E402
from keras_quant.prepare.adjust.descent import DAMPING, Rounded, descend  # noqa: E402
from keras_quant.prepare.adjust.patches import Moments  # noqa: E402


def drawn(seed: int, *, groups: int = 1, outputs: int = 3, taps: int = 4) -> tuple:
    """Weights of a layer, a scale of 3-bit codes, and moments of inputs that hang together."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 1, (groups, outputs, taps))
    x = rng.normal(0, 1, (groups, 200, taps)) @ rng.normal(0, 1, (groups, taps, taps))
    x -= x.mean(axis=1, keepdims=True)
    read = np.swapaxes(x, 1, 2) @ x / 200
    moments = Moments(
        read=read,
        wanted=rows @ read,
        energy=np.einsum("got,gts,gos->go", rows, read, rows),
    )
    return rows, np.abs(rows).max(axis=-1, keepdims=True) / 3, moments


def error(rows: np.ndarray, weights: np.ndarray, moments: Moments) -> np.ndarray:
    """The damped error of each output, where wanted is what the rows make of what is read."""
    taps = rows.shape[-1]
    damping = DAMPING * np.trace(moments.read, axis1=1, axis2=2)[:, None, None] / taps
    off = weights - rows
    return np.einsum("got,gts,gos->go", off, moments.read + damping * np.eye(taps), off)


@pytest.mark.parametrize("seed", range(6))
def test_no_code_can_be_changed_alone_for_less_error(seed: int) -> None:
    rows, scale, moments = drawn(seed, groups=2)
    found = descend(rows, scale, moments, qmax=3)
    least = error(rows, found.codes * found.scale, moments)
    assert np.abs(found.codes).max() <= 3
    for tap, step in itertools.product(range(rows.shape[-1]), (-1, 1)):
        codes = found.codes.copy()
        codes[..., tap] = np.clip(codes[..., tap] + step, -3, 3)
        assert (error(rows, codes * found.scale, moments) >= least * (1 - 1e-9)).all()


@pytest.mark.parametrize("seed", range(6))
def test_error_is_near_the_least_of_all_codes_and_never_above_that_of_the_nearest(
    seed: int,
) -> None:
    """Of 7**4 codes of each output at the scale that was found, all are tried."""
    rows, scale, moments = drawn(seed)
    found = descend(rows, scale, moments, qmax=3)
    ours = error(rows, found.codes * found.scale, moments)
    nearest = np.clip(np.rint(rows / scale), -3, 3) * scale
    assert (ours <= error(rows, nearest, moments) * (1 + 1e-9)).all()
    every = np.array(list(itertools.product(range(-3, 4), repeat=4)), float)
    best = np.min(
        [error(rows, codes * np.ones_like(rows) * found.scale, moments) for codes in every], axis=0
    )
    assert np.median(ours / best) < 1.3


def test_inputs_that_do_not_hang_together_leave_plain_rounding() -> None:
    rows, scale, _ = drawn(0)
    eye = np.eye(4)[np.newaxis]
    plain = Moments(read=eye, wanted=rows.copy(), energy=np.square(rows).sum(axis=-1))
    found = descend(rows, scale, plain, qmax=3, is_scale_free=False)
    np.testing.assert_array_equal(found.codes, np.clip(np.rint(rows / scale), -3, 3))
    np.testing.assert_array_equal(found.scale, scale)


def test_scale_of_a_tensor_is_not_moved() -> None:
    rows, _, moments = drawn(2)
    scale = np.full((1, 3, 1), 0.4)
    found = descend(rows, scale, moments, qmax=3, is_scale_free=False)
    np.testing.assert_array_equal(found.scale, scale)


def test_what_reads_nothing_is_rounded_to_the_nearest() -> None:
    rows, scale, moments = drawn(1)
    nothing = Moments(read=0 * moments.read, wanted=0 * moments.wanted, energy=0 * moments.energy)
    found = descend(rows, scale, nothing, qmax=3, is_scale_free=False)
    assert isinstance(found, Rounded)
    np.testing.assert_array_equal(found.codes, np.clip(np.rint(rows / scale), -3, 3))


@pytest.mark.parametrize("block", [1, 3, 5])
def test_codes_do_not_depend_on_how_many_are_kept_up_to_date_at_once(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, scale, moments = drawn(3, groups=2, outputs=4, taps=11)
    wanted = descend(rows, scale, moments, qmax=7)
    monkeypatch.setattr(descent, "BLOCK", block)
    found = descend(rows, scale, moments, qmax=7)
    np.testing.assert_array_equal(found.codes, wanted.codes)
    np.testing.assert_allclose(found.scale, wanted.scale, rtol=1e-12)


def test_a_covariance_of_few_positions_counts_for_less() -> None:
    """More positions than taps leave plain damping; fewer leave codes nearer to the nearest."""
    rng = np.random.default_rng(0)
    taps, many = 60, 20_000
    rows = rng.normal(0, 1, (1, 8, taps))
    scale = np.abs(rows).max(axis=-1, keepdims=True) / 7
    mix = np.eye(taps) + rng.normal(0, 0.15, (taps, taps))
    true = mix.T @ mix

    def off(count: int, positions: int) -> float:
        """What codes err on all that could be read, of those seen at a few positions."""
        x = rng.normal(0, 1, (positions, taps)) @ mix
        read = (x.T @ x / positions)[np.newaxis]
        seen = Moments(read=read, wanted=rows @ read, energy=np.ones((1, 8)), count=count)
        found = descend(rows, scale, seen, qmax=7)
        error = (found.codes * found.scale - rows)[0]
        return float(np.einsum("ot,ts,os->", error, true, error))

    few = 20
    assert np.mean([off(few, few) for _ in range(5)]) < np.mean([off(0, few) for _ in range(5)])
    assert off(many, many) == pytest.approx(off(0, many), rel=0.1)
