"""Calibrators: what all of them promise, and the grids that each finds, by hand and by search."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.calibration.choose import (
    CALIBRATORS,
    choose,
    load_calibrator,
    relative_error,
    squared_error,
)
from keras_quant.calibration.entropy import divergence
from keras_quant.calibration.finest import Observed, finest, spanning
from keras_quant.calibration.histogram import BINS, histogram_of
from keras_quant.calibration.statistics import ImageRanges, combine, nothing_seen, observe
from keras_quant.errors import DataError, UsageError
from keras_quant.qparams import GridSpec, QParams, dequantize, quantize, signed, unsigned

# Values are spread evenly over their bin: what that makes of errors of steps of 16 bins or more.
WITHIN_A_BIN = 0.02
SPECS = {
    "unsigned": GridSpec(bits=8, signed=False),
    "signed": GridSpec(bits=8, signed=True),
    "narrow": GridSpec(bits=4, signed=True, narrow_range=True),
    "one bit": GridSpec(bits=1, signed=False),
    "bounded": GridSpec(bits=8, signed=False, bound=6.0),
    "real": GridSpec(bits=8, signed=False, power_of_two=False),
    "real signed": GridSpec(bits=4, signed=True, narrow_range=True, power_of_two=False),
    "real bounded": GridSpec(bits=8, signed=False, power_of_two=False, bound=6.0),
    "zero point": GridSpec(bits=8, signed=True, symmetric=False, power_of_two=False),
    "zero point, power of two": GridSpec(bits=4, signed=True, symmetric=False),
}


def seen(values: np.ndarray | list[float], spec: GridSpec) -> Observed:
    """What one image of these values shows."""
    return Observed(statistics=observe(np.asarray(values, np.float32).reshape(1, -1, 1)), spec=spec)


def exact_error(x: np.ndarray, grid: QParams) -> float:
    """Sum of squared errors in float64, from the definitions in qparams."""
    x = x.astype(np.float64)
    return float(np.sum((x - dequantize(quantize(x, grid), grid)) ** 2))


def values_of(spec: GridSpec, *, count: int = 20_000, seed: int = 0) -> np.ndarray:
    """Heavy-tailed values such as a spec is for."""
    x = np.random.default_rng(seed).standard_t(4, count).astype(np.float32)
    x = x + np.float32(0.5) if not spec.symmetric else x
    x = x if spec.signed else np.maximum(x, 0)
    return x if spec.bound is None else np.minimum(4 * x, np.float32(spec.bound))


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("kind", SPECS)
def test_calibrator_gives_a_grid_that_the_spec_allows(name: str, kind: str) -> None:
    spec = SPECS[kind]
    grid = choose(name, [seen(values_of(spec), spec)])
    allowed = dataclasses.astuple(spec.at(grid.scale, grid.zero_point))
    assert dataclasses.astuple(grid) == allowed
    assert grid.scale == np.float32(grid.scale) > 0
    assert grid.qmin <= grid.zero_point <= grid.qmax
    at_bound = spec.bound is not None and grid.scale == np.float32(spec.bound / grid.qmax)
    assert at_bound or not spec.power_of_two or np.log2(grid.scale).is_integer()


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("kind", SPECS)
def test_calibrator_has_an_answer_for_zeros_and_for_nothing(name: str, kind: str) -> None:
    for statistics in (observe(np.zeros((5, 1), np.float32)), nothing_seen()):
        grid = choose(name, [Observed(statistics=statistics, spec=SPECS[kind])])
        assert grid.scale > 0 and quantize(np.zeros(1), grid) == grid.zero_point


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("kind", ["real", "real signed", "zero point"])
@pytest.mark.parametrize("factor", [2.0**-20, 4.0, 2.0**30])
def test_calibrator_scales_with_its_values(name: str, kind: str, factor: float) -> None:
    spec = SPECS[kind]
    small, large = (choose(name, [seen(values_of(spec) * f, spec)]) for f in (1.0, factor))
    assert (large.scale, large.zero_point) == (small.scale * factor, small.zero_point)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_calibrator_gives_one_scale_to_tensors_of_several_ranges(name: str) -> None:
    narrow, wide = (seen(f * values_of(s), s) for f, s in ((1, SPECS["real"]), (3, SPECS["real"])))
    grids = [choose(name, tensors) for tensors in ([narrow, wide], [wide, narrow])]
    assert grids[0].scale == grids[1].scale
    alone = [choose(name, [tensor]).scale for tensor in (narrow, wide)]
    assert alone[0] < grids[0].scale <= alone[1]


def test_minmax_of_hand_made_ranges() -> None:
    """510 over 255 codes is 2; -1 over -8 codes asks for more than 0.5 over 7."""
    real, signs = SPECS["real"], GridSpec(bits=4, signed=True, power_of_two=False)
    assert choose("minmax", [seen([0, 3, 510], real)]).scale == 2.0
    assert choose("minmax", [seen([-1, 0.5], signs)]).scale == 1 / 8
    assert choose("minmax", [seen([-0.5, 1], signs)]).scale == np.float32(1 / 7)
    both = choose("minmax", [seen([-1, 0], signs), seen([0, 7], signs)])
    assert (both.scale, both.qmin, both.qmax) == (1.0, -8, 7)


def test_minmax_of_powers_of_two_is_the_first_that_clips_nothing() -> None:
    spec = SPECS["unsigned"]
    assert choose("minmax", [seen([510.0], spec)]).scale == 2.0
    assert choose("minmax", [seen([510.5], spec)]).scale == 4.0


def test_minmax_of_hand_made_asymmetric_ranges() -> None:
    """-1 to 4 are 15 codes of 1/3, of which the third is 0; what does not reach 0 is led there."""
    spec = GridSpec(bits=4, signed=True, symmetric=False, power_of_two=False)
    grid = choose("minmax", [seen([-1, 4], spec)])
    assert (grid.scale, grid.zero_point) == (np.float32(1 / 3), 3)
    assert (grid.qmin, grid.qmax) == (0, 15)
    above, below = (choose("minmax", [seen(x, spec)]) for x in ([5, 15], [-15, -5]))
    assert [(g.scale, g.zero_point) for g in (above, below)] == [(1.0, 0), (1.0, 15)]


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("kind", ["bounded", "real bounded"])
def test_values_that_reach_their_bound_get_its_scale(name: str, kind: str) -> None:
    spec = SPECS[kind]
    reaching = np.minimum(np.abs(np.random.default_rng(0).normal(0, 9, 5000)), 6.0)
    assert choose(name, [seen(reaching, spec)]).scale == np.float32(6 / 255)
    below = choose(name, [seen(reaching / 8, spec)]).scale
    assert below == 2.0**-8 if spec.power_of_two else below <= np.float32(0.75 / 255)


def test_bounds_that_differ_bind_nobody() -> None:
    tensors = [seen([0, 6], SPECS["bounded"]), seen([0, 6], SPECS["unsigned"])]
    assert choose("minmax", tensors).scale == 2.0**-5


@pytest.mark.parametrize("kind", ["unsigned", "signed", "narrow", "one bit"])
@pytest.mark.parametrize("seed", range(4))
def test_least_squares_finds_the_best_power_of_two(kind: str, seed: int) -> None:
    spec, values = SPECS[kind], values_of(SPECS[kind], seed=seed)
    errors = {2.0**e: exact_error(values, spec.at(2.0**e)) for e in range(-20, 8)}
    assert choose("least_squares", [seen(values, spec)]).scale == min(errors, key=errors.get)


@pytest.mark.parametrize("kind", ["real", "real signed", "real bounded", "zero point"])
@pytest.mark.parametrize("seed", range(4))
def test_no_scale_and_zero_point_nearby_are_better_by_a_hundredth(kind: str, seed: int) -> None:
    spec, values = SPECS[kind], values_of(SPECS[kind], seed=seed)
    found = choose("least_squares", [seen(values, spec)])
    points = {found.zero_point + d for d in (-4, -1, 0, 1, 4) if not spec.symmetric} or {0}
    others = [
        spec.at(found.scale * ratio, point)
        for ratio in np.geomspace(1 / 4, 4, 65)
        for point in points
        if 0 <= point <= found.qmax
    ]
    best = min(exact_error(values, grid) for grid in others)
    assert exact_error(values, found) <= 1.01 * best


def test_least_squares_of_a_group_weighs_each_tensor_by_its_energy() -> None:
    """At 1 bit, step 1 loses all of 0.5, and step 0.5 a quarter of the energy of 1."""
    spec = SPECS["one bit"]
    loud, quiet = seen([1.0], spec), seen([0.5], spec)
    assert choose("least_squares", [loud] * 3 + [quiet]).scale == 0.5
    assert choose("least_squares", [loud] * 5 + [quiet]).scale == 1.0


def test_error_of_hand_made_values() -> None:
    """At 1 bit and step 1 the codes are 0, 1, 1 (clipped), 0: errors 0, 1/4, 1, 1."""
    values = observe(np.array([[0.0], [0.75], [2.0], [-1.0]], np.float32))
    assert squared_error(values.histogram, unsigned(1, 1.0)) == pytest.approx(
        1 / 16 + 1 + 1, rel=1e-3
    )
    energy = 9 / 16 + 4 + 1
    assert relative_error(values, unsigned(1, 1.0)) == pytest.approx(
        (1 / 16 + 2) / energy, rel=1e-3
    )


@pytest.mark.parametrize("scale", [2.0, 0.5, 0.37, 2.0**-20])
@pytest.mark.parametrize("codes", [unsigned(2, 1.0), signed(3, 1.0, narrow_range=True)])
def test_error_of_an_even_spread_is_its_integral(codes: QParams, scale: float) -> None:
    """A bin that holds one value of each of many is the integral of the squared error over it."""
    grid = dataclasses.replace(codes, scale=scale)
    histogram = dataclasses.replace(
        histogram_of(np.array([1.0, -1.0], np.float32)), counts=np.ones(2 * BINS, np.int64)
    )
    fine = np.linspace(-2, 2, 2**20 + 1)
    mean = np.mean([(x - dequantize(quantize(x, grid), grid)) ** 2 for x in (fine,)])
    assert squared_error(histogram, grid) / (2 * BINS) == pytest.approx(mean, rel=1e-5)


@pytest.mark.slow
@given(st.sampled_from([k for k in SPECS if k != "one bit"]), st.integers(0, 50))
def test_error_of_the_histogram_is_that_of_the_values(kind: str, seed: int) -> None:
    spec, values = SPECS[kind], values_of(SPECS[kind], seed=seed)
    for name in ("least_squares", "minmax"):
        tensor = seen(values, spec)
        grid = choose(name, [tensor])
        error = squared_error(tensor.statistics.histogram, grid)
        assert error == pytest.approx(exact_error(values, grid), rel=WITHIN_A_BIN)


def test_error_of_a_group_as_it_is_follows_the_loud_tensor() -> None:
    """At 1 bit, step 1 loses 0.5 of each quiet value, squared 1/4, and so does step 0.5 of 1."""
    spec = SPECS["one bit"]
    loud, quiet = seen([1.0], spec), seen([0.5], spec)
    assert choose("mse", [loud] * 3 + [quiet] * 2).scale == 1.0
    assert choose("mse", [loud] * 2 + [quiet] * 3).scale == 0.5
    assert choose("mse", [loud]).scale == choose("least_squares", [loud]).scale


def test_moving_average_is_the_mean_of_the_ranges_of_images() -> None:
    """Ranges 0..2, 0..4 and 0..9 have the mean 0..5, in any order and in any batches."""
    spec = GridSpec(bits=8, signed=False, power_of_two=False)
    images = np.array([[0, 2], [1, 4], [9, 3]], np.float32)[..., np.newaxis]
    parts = combine([observe(images[2:]), observe(images[:2])])
    for statistics in (observe(images), parts):
        found = choose("moving_average", [Observed(statistics=statistics, spec=spec)])
        assert found.scale == np.float32(5 / 255)


def test_statistics_without_ranges_of_images_are_no_food_for_moving_average() -> None:
    known = seen([1.0, 2.0], SPECS["real"])
    old = dataclasses.replace(known.statistics, ranges=ImageRanges())
    with pytest.raises(DataError, match="no ranges of images.*collect them anew"):
        choose("moving_average", [dataclasses.replace(known, statistics=old)])


@pytest.mark.parametrize("percent", [50, 90, 99.9, 100])
@pytest.mark.parametrize("kind", ["real", "real signed", "zero point"])
def test_percentile_leaves_out_no_more_than_it_says(kind: str, percent: float) -> None:
    """And would leave out more if its range were a bin narrower."""
    spec, values = SPECS[kind], values_of(SPECS[kind]).astype(np.float64)
    tensor = seen(values, spec)
    width = tensor.statistics.histogram.width
    found = choose(f"percentile:{percent}", [tensor])
    left_out = (1 - percent / 100) * len(values)
    if kind == "real" and percent == 50:  # more than half are 0
        assert found.scale == choose("minmax", [tensor]).scale
        return
    if spec.symmetric:
        end = found.scale * (found.qmax if values.max() >= -values.min() else -found.qmin)
        assert np.sum(np.abs(values) > end * (1 + 1e-6)) <= left_out
        assert np.sum(np.abs(values) >= end * (1 - 1e-6) - width) > left_out
        return
    low, high = (found.scale * end for end in (-found.zero_point, 255 - found.zero_point))
    edge = found.scale / 2  # the zero point is rounded
    assert np.sum(values > high + edge) <= left_out / 2 >= np.sum(values < low - edge)
    assert np.sum(values >= high - edge - width) > left_out / 2
    assert np.sum(values <= low + edge + width) > left_out / 2


def test_percentile_of_hand_made_values() -> None:
    """Of 1,000 values 1 and one of 1024, 99.9 % are within 1, of which the bin ends at 1.25."""
    spec = GridSpec(bits=8, signed=False, power_of_two=False)
    tensor = seen([1.0] * 1999 + [1024.0], spec)
    assert tensor.statistics.histogram.width == 0.25
    assert choose("percentile:99.9", [tensor]).scale == np.float32(1.25 / 255)
    assert choose("percentile", [tensor]).scale == np.float32(1024 / 255)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("percentile:", "percentage above 0"),
        ("percentile:0", "percentage above 0"),
        ("percentile:nan", "percentage above 0"),
        ("percentile:101", "percentage above 0"),
        ("minmax:99", "minmax takes no number"),
    ],
)
def test_number_that_a_calibrator_does_not_take_is_refused(name: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        load_calibrator(name)


def plain_divergence(values: np.ndarray, grid: QParams) -> float:
    """TensorRT's, bin by bin: values that are not 0, in 2,048 bins of each sign."""
    width = 2.0 ** (np.frexp(np.abs(values).max())[1] - 11)
    counts: dict[int, float] = {}
    for place in np.floor(values[values != 0] / width).astype(int).tolist():
        counts[place] = counts.get(place, 0) + 1
    ends = range(int(np.floor(values.min() / width)) - 1, int(np.floor(values.max() / width)) + 2)
    codes = {i: round((i + 0.5) * width / grid.scale) + grid.zero_point for i in ends}
    within = [i for i in ends if grid.qmin <= codes[i] <= grid.qmax]
    p = {i: counts.get(i, 0.0) for i in within}
    q = {}
    for code in set(codes.values()):
        mine = [i for i in within if codes[i] == code]
        filled = [i for i in mine if p[i] > 0]
        q |= {i: sum(p[j] for j in mine) / len(filled) if i in filled else 0.0 for i in mine}
    p[within[0]] += sum(n for i, n in counts.items() if codes[i] < grid.qmin)
    p[within[-1]] += sum(n for i, n in counts.items() if codes[i] > grid.qmax)

    def smooth(d: dict[int, float]) -> dict[int, float]:
        empty = sum(n == 0 for n in d.values())
        taken = 1e-4 * empty / (len(d) - empty)
        raw = {i: 1e-4 if n == 0 else max(n - taken, 1e-4) for i, n in d.items()}
        return {i: n / sum(raw.values()) for i, n in raw.items()}

    p, q = smooth(p), smooth(q)
    return sum(p[i] * np.log(p[i] / q[i]) for i in within)


@pytest.mark.parametrize("kind", ["real", "real signed", "zero point"])
def test_divergence_is_that_of_a_plain_count(kind: str) -> None:
    spec, values = SPECS[kind], values_of(SPECS[kind], count=3000)
    whole = choose("minmax", [seen(values, spec)])
    for ratio in (1.0, 0.5, 0.21):
        grid = spec.at(whole.scale * ratio, whole.zero_point)
        plain = plain_divergence(values.astype(np.float64), grid)
        assert divergence(seen(values, spec), grid) == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize("kind", ["real", "real signed", "zero point"])
def test_no_range_between_those_that_entropy_tries_is_much_better(kind: str) -> None:
    """Which bins a code gets jumps from range to range, and with it the divergence."""
    tensor = seen(values_of(SPECS[kind]), SPECS[kind])
    found = choose("entropy", [tensor])
    low, high = (
        np.minimum(0, tensor.statistics.moments.low),
        np.maximum(0, tensor.statistics.moments.high),
    )
    tried = [finest([tensor], low * r, high * r) for r in np.linspace(0.1, 1, 40)]
    others = [divergence(tensor, grid) for grid in tried if grid.scale >= found.scale / 2]
    assert divergence(tensor, found) <= min(others) * 1.1


def test_entropy_cuts_off_what_is_far_from_all_else() -> None:
    spec = GridSpec(bits=8, signed=False, power_of_two=False)
    bulk = np.abs(np.random.default_rng(0).normal(0, 1, 100_000))
    found = choose("entropy", [seen([*bulk, 100.0], spec)])
    assert found.scale * 255 < 20


def test_unknown_calibrator_is_named_with_close_ones() -> None:
    with pytest.raises(UsageError, match=r"'least_square' is not known; close names: least_squar"):
        load_calibrator("least_square")


@pytest.mark.parametrize(
    ("specs", "scale", "expected"),
    [
        (["unsigned"], 2.0**-10, 2.0**-7),  # 255 codes of 2**-8 would end before 1
        (["unsigned"], 0.5, 0.5),
        (["unsigned", "signed"], 2.0**-8, 2.0**-7),
        (["real"], 2.0**-10, float(np.float32(1 / 255))),
    ],
)
def test_a_grid_reaches_to_the_ends_that_values_may_have(
    specs: list[str], scale: float, expected: float
) -> None:
    spans = {"signed": (-1.0, 0.0)}
    tensors = [
        seen([0.0], dataclasses.replace(SPECS[name], span=spans.get(name, (0.0, 1.0))))
        for name in specs
    ]
    assert spanning(tensors[0].spec.at(scale), tensors).scale == expected


def test_a_grid_with_a_zero_point_is_widened_on_the_side_that_it_lacks() -> None:
    spec = dataclasses.replace(SPECS["zero point"], span=(-1.0, 0.5))
    tensors = [seen([0.0], spec)]
    grid = spanning(spec.at(2 / 255, 0), tensors)
    assert grid.scale == pytest.approx(3 / 255) and grid.zero_point == 85
    wide = spec.at(4 / 255, 100)
    assert spanning(wide, tensors) is wide


def test_values_without_known_ends_keep_the_grid_that_was_chosen() -> None:
    tensors = [seen([0.0], SPECS["unsigned"])]
    grid = SPECS["unsigned"].at(2.0**-20)
    assert spanning(grid, tensors) is grid
