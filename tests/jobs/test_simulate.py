"""A controller simulated on records: pieces are known by their content, and images are checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_quant.anytime.controlled import begin_stages
from keras_quant.anytime.controller import Controller, Rule
from keras_quant.anytime.rules import NEVER
from keras_quant.bench import records as benches
from keras_quant.errors import DataError, RunError, UsageError
from keras_quant.jobs.anytime import open_stages
from keras_quant.jobs.paths import dataset_of
from keras_quant.jobs.pieces import Piece, recorded_costs
from keras_quant.jobs.simulate import (
    OptionPoint,
    Simulation,
    SimulationSettings,
    _steps,
    as_accurate,
    no_dearer,
    simulate,
)
from keras_quant.runs import records
from keras_quant.runs.progress import Progress
from keras_quant.runs.records import TrainingRecord
from tests.bench.test_records import a_measurement, a_record
from tests.fake_runs import RECORD, make_run
from tests.staged_runs import make_staged_run

QUIET = Progress(quiet=True)
PIECES = tuple(
    Piece(name=name, file=Path(name), sha256=name * 64, is_float=False) for name in ("a", "b")
)


def written(path: Path, *measurements: Any) -> Path:
    benches.save(a_record(*measurements), path)
    return path


def test_times_are_those_of_the_files_content(tmp_path: Path) -> None:
    path = written(
        tmp_path / "bench.json",
        a_measurement("x", 3, sha256="b" * 64, threads=2),
        a_measurement("y", 2, sha256="b" * 64),
        a_measurement("z", 1, sha256="a" * 64),
        a_measurement("w", 9, sha256="a" * 64, batch=8),
    )
    costs = recorded_costs(path, PIECES, "ms")
    one = a_measurement().summary.p50_ms
    np.testing.assert_allclose(costs.each, [one, 2 * one])
    assert (costs.place, costs.is_estimate) == ("x", False)


def test_files_that_a_record_lacks_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "bench.json", a_measurement("z", 1, sha256="a" * 64))
    with pytest.raises(UsageError, match="kq bench a b; missing: b$"):
        recorded_costs(path, PIECES, "ms")


def test_energy_is_that_of_the_record(tmp_path: Path) -> None:
    known = [a_measurement(one, sha256=one * 64, energy_mj=2.5) for one in "ab"]
    costs = recorded_costs(written(tmp_path / "bench.json", *known), PIECES, "mj")
    assert costs.each.tolist() == [2.5, 2.5]
    silent = written(tmp_path / "other.json", known[0], replace(known[1], energy_mj=None))
    with pytest.raises(UsageError, match="no energy of .*b is known"):
        recorded_costs(silent, PIECES, "mj")


def simulated(run: Path, **settings: Any) -> Simulation:
    return simulate([run], SimulationSettings(boards=("nano",), **settings), progress=QUIET)


def test_a_place_is_compared_at_equal_accuracy_and_at_equal_cost(tmp_path: Path) -> None:
    (place,) = simulated(make_staged_run(tmp_path / "run")).places
    assert place.validation.accuracy >= max(one.validation_accuracy for one in place.options)
    assert place.oracle_cost <= place.test.mean_cost
    assert place.static == as_accurate(place.options, place.test.accuracy)
    assert place.speed_up == pytest.approx(place.static.cost / place.test.mean_cost)
    assert place.static_at_cost is None or place.static_at_cost.cost <= place.test.mean_cost
    accuracies = [accuracy for _, accuracy in place.oracle]
    assert accuracies == sorted(accuracies)


def test_the_static_net_to_beat_is_the_cheapest_that_is_as_accurate() -> None:
    costs, accuracies = (1.0, 3.0, 2.0, 9.0), (0.8, 0.9, 0.9, 0.95)
    options = [
        OptionPoint(name="", cost=cost, validation_accuracy=0, test_accuracy=accuracy, share=0)
        for cost, accuracy in zip(costs, accuracies, strict=True)
    ]
    assert [as_accurate(options, wanted).cost for wanted in (0.7, 0.85, 0.95, 0.99)] == [1, 2, 9, 9]


def test_an_option_that_costs_as_much_is_no_dearer() -> None:
    mean = 3 * 0.1 / 3  # rounds to more than 0.1 does
    cheap, same, dear = (
        OptionPoint(name="", cost=cost, validation_accuracy=0, test_accuracy=right, share=0)
        for cost, right in ((0.05, 0.7), (mean, 0.8), (0.2, 0.9))
    )
    assert no_dearer([cheap, same, dear], 0.1) is same
    assert no_dearer([cheap, same, dear], 0.1 - 1e-6) is cheap
    assert no_dearer([dear], 0.1) is None


def test_one_net_of_one_exit_leaves_nothing_to_choose(tmp_path: Path) -> None:
    run = make_staged_run(tmp_path / "run")
    file = (run / "export/stages/stage1.tflite").read_bytes()
    with pytest.raises(UsageError, match="with one there is nothing to choose"):
        simulated(make_run(tmp_path / "single", tflite=file))
    with pytest.raises(RunError, match="Export it: kq export .* --to onnx"):
        simulated(make_run(tmp_path / "other"), form="onnx")


def test_runs_of_other_validation_images_are_refused(tmp_path: Path) -> None:
    first, second = (make_staged_run(tmp_path / name) for name in "ab")
    training = TrainingRecord(method="qkeras", seed=1, epochs=1, batch_size=1)
    records.save(replace(RECORD, training=training), second)
    with pytest.raises(DataError, match="b: its validation or test images .* equal --seed"):
        simulate([first, second], SimulationSettings(boards=("nano",)), progress=QUIET)
    records.save(replace(RECORD, training=replace(training, split_seed=0)), second)
    done = simulate([first, second], SimulationSettings(boards=("nano",)), progress=QUIET)
    assert len(done.places[0].options) == 4


def test_nets_of_fewer_pixels_are_given_the_same_images(tmp_path: Path) -> None:
    whole = make_staged_run(tmp_path / "whole")
    small = make_staged_run(tmp_path / "small", dataset="digits+6px", pixels=6)
    done = simulate([small, whole], SimulationSettings(boards=("nano",)), progress=QUIET)
    accuracies = {one.name: one.test_accuracy for one in done.places[0].options}
    opened, data = open_stages(small), dataset_of(small, None).test
    assert data.x.shape == (359, 6, 6, 1) and done.dataset == "digits"
    *_, last = begin_stages(opened.loaded, opened.inputs(data.x))
    assert accuracies["small"] == np.mean(last.logits.argmax(axis=-1) == data.y)


def test_fewer_pixels_of_other_images_are_refused(tmp_path: Path) -> None:
    x, y = np.zeros((40, 8, 8, 1), np.uint8), np.arange(40) % 10
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    whole = make_staged_run(tmp_path / "whole")
    small = make_staged_run(tmp_path / "small", dataset=f"{tmp_path / 'own.npz'}+6px", pixels=6)
    with pytest.raises(DataError, match="small: its validation or test images are not those of"):
        simulate([whole, small], SimulationSettings(boards=("nano",)), progress=QUIET)


def test_steps_that_no_image_takes_are_not_shown() -> None:
    rules = {(0,): Rule(thresholds=(0.5, 0.5, 0.2), then=(None, 1, 2, 3))}
    steps = list(_steps(Controller(first=0, rules=rules), "abcd"))
    assert [(one.at_least, one.then) for one in steps] == [(0.5, ""), (0.2, "c"), (0.0, "d")]
    never = {(0,): Rule(thresholds=(NEVER,), then=(None, 1))}
    assert [one.then for one in _steps(Controller(first=0, rules=never), "ab")] == ["b"]
