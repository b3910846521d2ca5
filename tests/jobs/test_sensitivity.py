"""Sensitivity and search over a small float run."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.errors import BudgetError, RunError, UsageError  # noqa: E402
from keras_quant.jobs import search as search_module  # noqa: E402
from keras_quant.jobs import sensitivity as module  # noqa: E402
from keras_quant.jobs.paths import dataset_of  # noqa: E402
from keras_quant.jobs.search import SearchSettings, search, write_scheme  # noqa: E402
from keras_quant.jobs.sensitivity import SensitivitySettings, measure_sensitivity  # noqa: E402
from keras_quant.model.files import load_model, save_model  # noqa: E402
from keras_quant.model.metrics import cross_entropy  # noqa: E402
from keras_quant.preprocessing import UNIT  # noqa: E402
from keras_quant.runs import model_of, records  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.schemes.file import load_scheme  # noqa: E402
from keras_quant.search import record as sensitivity_records  # noqa: E402
from keras_quant.search.budget import parse_budget  # noqa: E402
from keras_quant.search.record import Sensitivity  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from tests.fake_runs import RECORD  # noqa: E402

L = keras.layers
QUIET = Progress(quiet=True)
SETTINGS = SensitivitySettings(bits=(2, 4, 8), images=60, probes=2)
FLOAT32_ROUNDING = 1e-5


def make_float_run(path: Path) -> Path:
    """A run of a net of three layers on digits, with a batch norm and a bias; it never learned."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8, 8, 1), name="image")
    x = L.Conv2D(3, 3, strides=2, use_bias=False, name="conv")(x)
    x = L.ReLU(name="relu")(L.BatchNormalization(name="norm")(x))
    x = L.Conv2D(4, 2, name="second")(x)
    x = L.Dense(10, name="logits")(L.Flatten(name="flat")(x))
    path.mkdir(parents=True)
    training = dataclasses.replace(RECORD.training, method="float")
    dataset = dataclasses.replace(RECORD.dataset, preprocess=UNIT, validation_fraction=0.1)
    records.save(dataclasses.replace(RECORD, training=training, dataset=dataset), path)
    save_model(keras.Model(inputs, x), path / "model.keras")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_float_run(tmp_path_factory.mktemp("runs") / "base")


@pytest.fixture(scope="module")
def measured(run: Path) -> Sensitivity:
    return measure_sensitivity(run, SETTINGS, progress=QUIET)


def test_each_layer_was_measured_at_each_width_and_is_on_the_disk(
    run: Path, measured: Sensitivity
) -> None:
    assert measured.layers == ("conv", "second", "logits")
    pairs = [(one.layer, one.bits) for one in measured.entries]
    assert pairs == list(itertools.product(measured.layers, (2, 4, 8)))
    assert measured.is_complete and sensitivity_records.load(run) == measured
    assert set(measured.traces) == set(measured.layers)
    for layer in measured.layers:
        errors = [measured.entry(layer, bits).output_error for bits in (2, 4, 8)]
        assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-3 < errors[0]


def test_the_float_model_answers_as_it_would_by_itself(run: Path, measured: Sensitivity) -> None:
    part = dataset_of(run, None).validation
    places = np.arange(60) * len(part) // 60
    answers = load_model(model_of(run))(np.float32(part.x[places]) / np.float32(255)).numpy()
    loss = cross_entropy(answers, part.y[places]).mean()
    assert measured.baseline.loss == pytest.approx(loss, rel=FLOAT32_ROUNDING)
    assert measured.baseline.distance == 0.0 and measured.metric == "accuracy"


def test_one_layer_alone_is_what_a_model_with_that_kernel_answers(
    run: Path, measured: Sensitivity
) -> None:
    """The last layer has a bias: rounded by hand, and its mean put right over training images."""
    from keras_quant.jobs.calibration import calibration_images
    from keras_quant.search.kernels import kernel_layers, plan_all, round_kernel

    data = dataset_of(run, None)
    model = load_model(model_of(run))
    layer = model.get_layer("logits")
    operation = kernel_layers(plan_all(model))["logits"]
    kernel = round_kernel(layer, operation, 2).values
    before = keras.Model(model.input, layer.input)
    read = before(np.float32(calibration_images(data, 64)) / np.float32(255)).numpy()
    off = (read @ layer.kernel.numpy() - read @ kernel).mean(axis=0)
    part, places = data.validation, np.arange(60) * len(data.validation) // 60
    given = before(np.float32(part.x[places]) / np.float32(255)).numpy()
    answers = given @ kernel + layer.bias.numpy() + off
    loss = cross_entropy(answers, part.y[places]).mean()
    assert measured.entry("logits", 2).outcome.loss == pytest.approx(loss, rel=FLOAT32_ROUNDING)


@pytest.mark.slow
def test_what_was_stopped_goes_on_and_ends_in_the_same_record(
    run: Path, measured: Sensitivity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_float_run(tmp_path / "base")
    rounded = module.round_kernel
    calls = []

    def stopping(*arguments):
        calls.append(arguments[2])
        if len(calls) == 5:
            raise KeyboardInterrupt
        return rounded(*arguments)

    monkeypatch.setattr(module, "round_kernel", stopping)
    with pytest.raises(KeyboardInterrupt):
        measure_sensitivity(other, SETTINGS, progress=QUIET)
    assert len(sensitivity_records.load(other).entries) == 4
    with pytest.raises(RunError, match="exists. Give --resume"):
        measure_sensitivity(other, SETTINGS, progress=QUIET)
    with pytest.raises(RunError, match="these differ: images. Give --overwrite"):
        settings = dataclasses.replace(SETTINGS, images=50)
        measure_sensitivity(other, settings, resume=True, progress=QUIET)
    found = measure_sensitivity(other, SETTINGS, resume=True, progress=QUIET)
    assert calls[5:] == [4, 8, 2, 4, 8]
    assert found.entries == measured.entries and found.traces == measured.traces


def test_quantized_runs_are_refused_with_what_they_were_made_of(tmp_path: Path) -> None:
    training = dataclasses.replace(RECORD.training, parent="models/base")
    records.save(dataclasses.replace(RECORD, training=training), tmp_path)
    for ask in (
        lambda: measure_sensitivity(tmp_path, SETTINGS, progress=QUIET),
        lambda: search(tmp_path, asked("size=0.5"), progress=QUIET),
    ):
        with pytest.raises(UsageError, match="is quantized.*give the run that .* models/base"):
            ask()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": (1, 4)}, "--bits 1: 2 to 8"),
        ({"bits": (4, 4)}, "each once"),
        ({"images": -1}, "--images is -1"),
        ({"probes": 1}, "--probes is 1; 0"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        measure_sensitivity(tmp_path, SensitivitySettings(**changes), progress=QUIET)


def asked(*budgets: str, **changes) -> SearchSettings:
    return SearchSettings(budgets=tuple(map(parse_budget, budgets)), **changes)


@pytest.mark.parametrize("budget", ["size=0.65", "bitops=w4a8", "energy=0.92"])
def test_the_search_finds_the_best_of_all_mixes(
    budget: str, run: Path, measured: Sensitivity
) -> None:
    """Against each of the 27 mixes, with the costs that the whole graph has for it."""
    found = search(run, asked(budget), progress=QUIET)
    (spent,) = found.spent
    graph = search_module._graph(load_model(model_of(run)), search_module.scheme_from_bits("w8a8"))
    costs = search_module.Costs(graph=graph, layers=measured.layers, widths=(2, 4, 8))
    harms = {}
    for widths in itertools.product((2, 4, 8), repeat=3):
        bits = dict(zip(measured.layers, widths, strict=True))
        if costs.total(spent.quantity, bits) <= spent.most:
            entries = [measured.entry(*pair).outcome.loss for pair in bits.items()]
            harms[widths] = sum(loss - measured.baseline.loss for loss in entries)
    assert 1 < len(harms) < 27
    assert tuple(found.bits.values()) in harms
    assert found.harm == pytest.approx(min(harms.values()), abs=1e-9)
    assert spent.value == costs.total(spent.quantity, found.bits) <= spent.most
    assert found.loss[1] == pytest.approx(measured.baseline.loss + found.harm)


def test_the_bytes_of_uniform_bits_are_those_of_their_own_run(run: Path, measured) -> None:
    found = search(run, asked("size=w4a8"), progress=QUIET)
    (spent,) = found.spent
    # conv 9 x 3 and logits 16 x 10 at 8 bits, second 12 x 4 at 4 bits; 8 bytes a channel.
    assert spent.most == 27 + 160 + 24 + 8 * (3 + 4 + 10)


def test_what_cannot_be_met_says_the_smallest_that_can(run: Path, measured: Sensitivity) -> None:
    with pytest.raises(BudgetError, match=r"smallest reachable with 2, 4, 8 bits is 0\.20 kB"):
        search(run, asked("size=100B"), progress=QUIET)
    with pytest.raises(BudgetError, match="below --min-accuracy at best"):
        search(run, asked("size=0.9", min_score=1.5), progress=QUIET)


def test_a_lower_score_than_that_of_the_cheapest_changes_nothing(run: Path, measured) -> None:
    free, gated = (
        search(run, asked("size=0.6", min_score=score), progress=QUIET) for score in (None, 0.0)
    )
    assert free.bits == gated.bits and gated.score[1] >= 0.0


@pytest.mark.slow
def test_entropy_needs_no_measurement_and_agrees_with_that_of_the_record(
    run: Path, measured: Sensitivity, tmp_path: Path
) -> None:
    other = make_float_run(tmp_path / "base")
    found = search(other, asked("size=0.6", by="entropy", widths=(2, 4, 8)), progress=QUIET)
    again = search(run, asked("size=0.6", by="entropy"), progress=QUIET)
    assert found.bits == again.bits and found.loss is None and again.loss is not None
    for layer, bits in found.bits.items():
        lost = measured.entry(layer, 8).entropy - measured.entry(layer, bits).entropy
        assert found.harms[layer] == pytest.approx(lost)
    with pytest.raises(RunError, match=r"has no sensitivity\.json yet"):
        search(other, asked("size=0.6"), progress=QUIET)


def test_the_scheme_gives_each_layer_what_was_chosen(run: Path, measured, tmp_path: Path) -> None:
    from keras_quant.prepare import plan

    found = search(run, asked("size=0.6", activations=4), progress=QUIET)
    write_scheme(found, tmp_path / "mixed.yaml")
    planned = plan(load_model(model_of(run)), load_scheme(str(tmp_path / "mixed.yaml")))
    assert {name: spec.bits for name, spec in planned.weights.items()} == dict(found.bits)
    assert {point.spec.bits for point in planned.points} == {4}


def test_a_record_of_other_weights_is_refused(run: Path, measured, tmp_path: Path) -> None:
    other = make_float_run(tmp_path / "base")
    settings = dataclasses.replace(measured.settings, model="another")
    sensitivity_records.save(dataclasses.replace(measured, settings=settings), other)
    with pytest.raises(RunError, match="is of other weights than the run's model has now"):
        search(other, asked("size=0.6"), progress=QUIET)


def test_widths_that_were_not_measured_are_refused(run: Path, measured: Sensitivity) -> None:
    with pytest.raises(RunError, match="was measured at 2, 4, 8 bits, not at 3"):
        search(run, asked("size=0.6", widths=(2, 3)), progress=QUIET)
    with pytest.raises(UsageError, match="needs measured times: --latency 8="):
        search(run, asked("latency_ms=1"), progress=QUIET)


@pytest.mark.slow
def test_times_of_layers_are_kept_within_a_budget(run: Path, measured, tmp_path: Path) -> None:
    """Of made-up profiles: 8 bits take 30 us a layer, 4 take 20, 2 take 10; all else takes 5."""
    from tests.search.profiles import write_profile

    times = {8: 30.0, 4: 20.0, 2: 10.0}
    files = {
        bits: write_profile(tmp_path / f"{bits}.json", dict.fromkeys(measured.layers, us), rest=5.0)
        for bits, us in times.items()
    }
    found = search(run, asked("latency_ms=0.055", latency=files), progress=QUIET)
    (spent,) = found.spent
    assert spent.value == pytest.approx(0.005 + sum(times[b] for b in found.bits.values()) / 1e3)
    assert spent.value <= 0.055 and spent.widest == pytest.approx(0.095)
    with pytest.raises(BudgetError, match=r"smallest reachable .* is 0\.0350 ms"):
        search(run, asked("latency_ms=0.03", latency=files), progress=QUIET)
    with pytest.raises(UsageError, match="nothing was given for 4 bits"):
        some = {8: files[8], 2: files[2]}
        search(run, asked("latency_ms=0.1", latency=some), progress=QUIET)
    write_profile(files[4], {"conv": 3.0}, rest=5.0)
    with pytest.raises(UsageError, match="no operator is that of second, logits"):
        search(run, asked("latency_ms=0.1", latency=files), progress=QUIET)


def test_the_files_are_json_that_others_can_read(run: Path, measured: Sensitivity) -> None:
    content = json.loads((run / sensitivity_records.FILE_NAME).read_text())
    assert content["format_version"] == 1 and len(content["entries"]) == 9


@pytest.mark.slow
def test_without_labels_distances_count_and_layers_that_are_called_twice_are_measured_too(
    tmp_path: Path,
) -> None:
    np.save(
        tmp_path / "images.npy", np.random.default_rng(0).integers(0, 255, (60, 6, 6, 1), np.uint8)
    )
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 1), name="image")
    shared = L.Dense(6, name="shared")
    x = L.ReLU(name="relu")(shared(L.Conv2D(6, 3, name="conv")(inputs)))
    x = L.Flatten(name="flat")(shared(x))
    path = tmp_path / "base"
    path.mkdir()
    dataset = dataclasses.replace(
        RECORD.dataset,
        name=str(tmp_path / "images.npy"),
        input_shape=(6, 6, 1),
        num_classes=0,
        has_labels=False,
        preprocess=UNIT,
    )
    training = dataclasses.replace(RECORD.training, method="float")
    records.save(dataclasses.replace(RECORD, training=training, dataset=dataset), path)
    save_model(keras.Model(inputs, L.Dense(3, name="out")(x)), path / "model.keras")
    found = measure_sensitivity(path, SETTINGS, progress=QUIET)
    assert found.metric == "" and found.baseline.loss is None and found.is_complete
    for layer in ("conv", "shared", "out"):
        two, eight = (found.entry(layer, bits) for bits in (2, 8))
        assert two.outcome.distance > eight.outcome.distance > 0
        assert (two.output_error is None) == (layer == "shared")
    mixed = search(path, asked("size=0.6"), progress=QUIET)
    assert set(mixed.bits) == {"conv", "shared", "out"} and mixed.loss is None
    with pytest.raises(UsageError, match="not known of shared, which are called more than once"):
        search(path, asked("size=0.6", by="output-error"), progress=QUIET)
    with pytest.raises(UsageError, match="no labels, so it has no accuracy"):
        search(path, asked("size=0.6", min_score=0.9), progress=QUIET)
