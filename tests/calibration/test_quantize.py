from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from keras_quant.qparams import QParams, dequantize, signed, unsigned
from keras_quant.qparams import quantize as to_codes

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.calibration.choose import CALIBRATORS, check_calibrators  # noqa: E402
from keras_quant.calibration.collect import collect  # noqa: E402
from keras_quant.calibration.quantize import (  # noqa: E402
    choose_grids,
    choose_input_grids,
    quantize,
)
from keras_quant.errors import DataError, SchemeError, UsageError  # noqa: E402
from keras_quant.lower import lower  # noqa: E402
from keras_quant.prepare import plan, split_float  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.schemes.scheme import QuantSpec, Rule, Scheme  # noqa: E402
from tests.calibration.nets import images_of, net, to_unit  # noqa: E402

PIXELS = unsigned(8, 1 / 255)
W8A8 = scheme_from_bits("w8a8")


def statistics_of(model, scheme, *, images=None, pixels=PIXELS):
    x = images_of() if images is None else images
    return collect(plan(model, scheme), model, x, reals=to_unit, pixels=pixels)


def free(bits: int, **words: bool) -> Scheme:
    """Weights and activations of some bits, whose activations have words of their own."""
    spec = QuantSpec(bits=bits, narrow_range=False, **words)
    rules = [Rule(match="*", weight=QuantSpec(bits=8), activation=spec)]
    return Scheme(name="free", rules=(*rules, Rule(match="@input", activation=spec)))


@pytest.mark.parametrize("bits", ["w4a1", "w4a2", "w4a4", "w4a8"])
def test_groups_get_the_power_of_two_of_least_error_over_all_their_values(bits: str) -> None:
    model, scheme = net(), scheme_from_bits(bits)
    planned = plan(model, scheme)
    values = [
        np.asarray(x, np.float64)
        for x in split_float(planned, model, [p.after for p in planned.points])(
            to_unit(images_of())
        )
    ]
    grids = choose_grids(planned, statistics_of(model, scheme))
    assert set(grids) == {point.group for point in planned.points}
    for group, grid in grids.items():
        members = [
            (x, point.spec)
            for x, point in zip(values, planned.points, strict=True)
            if point.group == group and not point.is_branch
        ]

        def error(step: float, members: list = members) -> float:
            found = 0.0
            for x, spec in members:
                at = spec.at(step)
                found += float(np.mean((x - dequantize(to_codes(x, at), at)) ** 2) / np.mean(x**2))
            return found

        assert grid.scale == min((2.0**e for e in range(-20, 8)), key=error)


@pytest.mark.slow
@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_quantize_leaves_its_source_and_the_disk_alone(
    calibrator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    model, scheme = net(batch_norm=True), scheme_from_bits("w4a8")
    statistics = statistics_of(model, scheme)
    before, config = model.get_weights(), model.to_json()
    monkeypatch.chdir(tmp_path)
    capfd.readouterr()
    made = quantize(model, scheme, statistics, calibrator=calibrator)
    assert (os.listdir(tmp_path), *capfd.readouterr()) == ([], "", "")
    assert made is not model and model.to_json() == config
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    again = quantize(model, scheme, statistics, calibrator=calibrator)
    x = to_unit(images_of(5))
    np.testing.assert_array_equal(made(x), again(x))
    assert not np.array_equal(made(x), model(x))


@pytest.mark.thinned(6)
@pytest.mark.parametrize("calibrator", CALIBRATORS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_grids_of_the_graph_are_those_that_were_chosen(calibrator: str, symmetric: bool) -> None:
    model, scheme = net(), free(8, power_of_two=False, symmetric=symmetric)
    planned, statistics = plan(model, scheme), statistics_of(model, scheme)
    graph = lower(quantize(model, scheme, statistics, calibrator=calibrator))
    found = {t.name: t.qparams for t in graph.tensors.values() if t.qparams is not None}
    grids = choose_grids(planned, statistics, calibrator)
    asymmetric = 0
    for point in planned.points:
        grid = grids[point.group]
        (name,) = (n for n in found if n in (point.after, f"{point.after}_quant"))
        wanted = point.spec.at(float(np.float32(grid.scale)), grid.zero_point)
        assert (found[name].scale, found[name].zero_point) == (wanted.scale, wanted.zero_point)
        asymmetric += wanted.zero_point != 0
    assert bool(asymmetric) != symmetric


def test_pixels_keep_their_codes_at_their_bits_alone() -> None:
    model = net()
    for bits, kept in ((8, True), (4, False)):
        rule = Rule(match="@input", activation=QuantSpec(bits=bits, narrow_range=False))
        scheme = Scheme(name="input", rules=(*scheme_from_bits("4").rules, rule))
        statistics = statistics_of(model, scheme)
        (grid,) = choose_input_grids(plan(model, scheme), statistics).values()
        assert (grid is statistics.pixels) == kept
    assert dataclasses.astuple(grid) == dataclasses.astuple(unsigned(4, 2.0**-4))


@pytest.mark.parametrize("low", [0.0, -3.0])
def test_float_images_get_signed_codes_where_they_reach_below_zero(low: float) -> None:
    model = net()
    images = np.random.default_rng(0).uniform(low, 3, (9, 6, 6, 3)).astype(np.float32)
    for scheme, words in ((scheme_from_bits("4"), ()), (free(8, power_of_two=False), ("real",))):
        statistics = statistics_of(model, scheme, images=images, pixels=None)
        (grid,) = choose_input_grids(plan(model, scheme), statistics).values()
        codes = signed(8, 1.0, narrow_range=False) if low < 0 else unsigned(8, 1.0)
        assert (grid.qmin, grid.qmax, grid.zero_point) == (codes.qmin, codes.qmax, 0)
        assert np.log2(grid.scale).is_integer() == (not words)
        assert grid.scale * codes.qmax == pytest.approx(3 if words else 4, rel=0.05)


def test_float_input_gets_no_grid() -> None:
    model = net()
    rule = Rule(match="@input", activation=QuantSpec(bits=32))
    scheme = Scheme(name="open", rules=(*scheme_from_bits("w4a8").rules, rule))
    assert choose_input_grids(plan(model, scheme), statistics_of(model, scheme)) == {}


def test_float_scheme_gives_the_source_itself() -> None:
    model, w4a4 = net(), scheme_from_bits("4")
    assert quantize(model, scheme_from_bits("float"), statistics_of(model, w4a4)) is model


def test_statistics_of_another_scheme_will_do_where_the_places_are_the_same() -> None:
    model = net()
    statistics = statistics_of(model, scheme_from_bits("w8a8"))
    assert quantize(model, scheme_from_bits("w2a4"), statistics).get_layer("hidden_quant")


def test_statistics_of_other_weights_and_of_fewer_places_are_refused() -> None:
    model, scheme = net(), scheme_from_bits("w8a8")
    statistics = statistics_of(model, scheme)
    fewer = statistics_of(model, scheme_from_bits("w8af"))
    with pytest.raises(DataError, match="lack what relu1, conv2, sum, gap, hidden put out, which"):
        quantize(model, scheme, fewer)
    model.set_weights([w * 2 for w in model.get_weights()])
    with pytest.raises(DataError, match="of another model than .*, or of other weights"):
        quantize(model, scheme, statistics)


def test_unknown_calibrator_is_named_with_close_ones() -> None:
    model, scheme = net(), scheme_from_bits("4")
    with pytest.raises(UsageError, match="'min_max' is not known; close names: minmax"):
        quantize(model, scheme, statistics_of(model, scheme), calibrator="min_max")


def test_branches_follow_the_sum_that_they_feed() -> None:
    """A branch a thousand times as large as the sum would have another step."""
    model, scheme = net(), scheme_from_bits("4")
    planned, statistics = plan(model, scheme), statistics_of(model, scheme)
    branch = next(point for point in planned.points if point.is_branch)
    alone = choose_grids(planned, statistics)[branch.group]
    louder = {**statistics.tensors}
    louder[branch.after] = dataclasses.replace(
        louder[branch.after],
        moments=dataclasses.replace(louder[branch.after].moments, high=np.float64(1e6)),
    )
    same = choose_grids(planned, dataclasses.replace(statistics, tensors=louder))[branch.group]
    assert isinstance(alone, QParams) and alone.scale == same.scale


def test_rule_names_the_calibrator_of_a_tensor() -> None:
    source = net()
    named = dataclasses.replace(
        W8A8, rules=(*W8A8.rules, Rule(match="gap", calibrator="percentile:50"))
    )
    planned = plan(source, named)
    statistics = collect(planned, source, images_of(), reals=to_unit)
    places = {point.after: point.group for point in planned.points}
    run = choose_grids(plan(source, W8A8), statistics)
    found = choose_grids(planned, statistics)
    changed = {name for name, group in places.items() if found[group].scale != run[group].scale}
    assert changed == {"gap"}
    pixels = dataclasses.replace(W8A8, rules=(*W8A8.rules, Rule(match="@input", calibrator="mse")))
    assert plan(source, pixels).input_calibrator == "mse"


def test_calibrators_of_tensors_that_share_a_scale_must_agree() -> None:
    source = net()
    named = dataclasses.replace(W8A8, rules=(*W8A8.rules, Rule(match="conv1", calibrator="mse")))
    planned = plan(source, named)
    statistics = collect(planned, source, images_of(), reals=to_unit)
    with pytest.raises(SchemeError, match=r"one calibrator: relu1 \(mse\), sum \(the run\)"):
        choose_grids(planned, statistics)


def test_unknown_calibrators_of_rules_are_all_named() -> None:
    rules = (Rule(match="*", calibrator="msee"), Rule(match="gap", calibrator="mse:3"))
    with pytest.raises(SchemeError, match=r"rules\[0\].*close names: mse.*rules\[1\].*no number"):
        check_calibrators(Scheme(name="mine", rules=rules))
