"""`kq train` as a user calls it: what it writes, what it prints, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore:The .keras.constraints.serialize"),
]

from keras_quant import __version__  # noqa: E402
from keras_quant.cli.main import main  # noqa: E402
from keras_quant.cli.train import train as train_command  # noqa: E402
from keras_quant.cli.train_options import settings_from  # noqa: E402
from keras_quant.jobs.train_settings import TrainSettings  # noqa: E402
from keras_quant.model.files import load_model  # noqa: E402
from keras_quant.runs import records  # noqa: E402
from keras_quant.runs.records import ModelRecord  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.schemes.file import load_scheme, scheme_to_dict  # noqa: E402
from keras_quant.schemes.scheme import FLOAT, QuantSpec  # noqa: E402
from tests.fake_runs import RECORD, make_run  # noqa: E402

QUICK = ("--model", "mlp", "--option", "units=16", "--epochs", "1")
FILES = {
    *("run.json", "scheme.yaml", "history.csv", "statistics.npz", "model.keras"),
    *("export/model.tflite", "export/model.kqgraph", "export/parity.json"),
}
SCHEME = """\
name: mixed
rules:
- {match: "*", weight: {bits: 3}, activation: {bits: 4}}
- {match: dense2, weight: {bits: 8}}
"""
USER_MODEL = """\
from keras_quant.tf import keras

def small(input_shape, num_classes):
    x = image = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 3, activation="relu")(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(image, keras.layers.Dense(num_classes)(x))

def odd(input_shape, num_classes):
    x = image = keras.Input(input_shape)
    x = keras.layers.Flatten()(keras.layers.LayerNormalization(name="layer_norm")(x))
    x = keras.layers.UnitNormalization(name="unit_norm")(x)
    return keras.Model(image, keras.layers.Dense(num_classes)(x))
"""


def kq(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def settings_of(*arguments: object) -> TrainSettings:
    """What `kq train` is asked for."""
    with train_command.make_context("kq train", [str(argument) for argument in arguments]) as made:
        return settings_from(made.params)


def train(out: Path, name: str, *arguments: object) -> Path:
    """Trains a run that is expected to succeed."""
    result = kq("train", *QUICK, *arguments, "--out", out, "--name", name)
    assert result.exit_code == 0, result.stderr
    return out / name


def files_below(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("[!.]*") if p.is_file()}


def weights_of(run: Path) -> list[np.ndarray]:
    return load_model(run / "model.keras").get_weights()


def record_of(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


@pytest.fixture(scope="module")
def main_job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("models")
    arguments = ("--bits", "4", "--epochs", "2", "--out", out, "--name", "run", "--json")
    return out / "run", kq("train", *QUICK, *arguments)


@pytest.fixture
def run(main_job: tuple[Path, Result], tmp_path: Path) -> Path:
    """A finished run that a test may change."""
    return shutil.copytree(main_job[0], tmp_path / "models" / "run")


@pytest.fixture(scope="module")
def float_job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("models")
    arguments = ("--method", "float", "--out", out, "--name", "float")
    return out / "float", kq("train", *QUICK, *arguments)


@pytest.fixture(scope="module")
def float_run(float_job: tuple[Path, Result]) -> Path:
    return float_job[0]


def test_main_job_writes_every_file_and_nothing_else(main_job: tuple[Path, Result]) -> None:
    path, result = main_job
    assert result.exit_code == 0, result.stderr
    assert files_below(path) == FILES
    record = record_of(path)
    assert (record["status"], record["kq_version"]) == ("exported", __version__)
    assert len((path / "history.csv").read_text().splitlines()) == 3
    parity = json.loads((path / "export/parity.json").read_text())["tflite"]
    assert parity["passed"] is True
    assert (parity["codes_different"], parity["outputs"][0]["keras_top1_agreement"]) == (0, 1.0)
    assert parity["images"] == record["dataset"]["sizes"]["test"] == 359


def test_json_is_one_document_that_repeats_the_record(main_job: tuple[Path, Result]) -> None:
    path, result = main_job
    printed = json.loads(result.stdout)
    assert printed["run"] == str(path)
    assert printed["record"] == record_of(path)
    assert printed["parity"]["passed"] is True
    assert "epoch 2/2" in result.stderr


def test_a_worker_that_helps_says_in_json_that_it_wrote_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main_job: tuple[Path, Result]
) -> None:
    monkeypatch.setattr("keras_quant.jobs.train.train", lambda *_, **__: None)
    result = kq("train", *QUICK, "--out", tmp_path, "--name", "run", "--json")
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    assert printed == {
        "run": str(tmp_path / "run"),
        "record": None,
        "parity": None,
        "note": "this worker is done; the first one writes the run",
    }
    assert set(json.loads(main_job[1].stdout)) < set(printed)


def test_scheme_file_of_a_run_says_what_its_record_says(main_job: tuple[Path, Result]) -> None:
    written = load_scheme(str(main_job[0] / "scheme.yaml"))
    assert json.loads(json.dumps(scheme_to_dict(written))) == record_of(main_job[0])["scheme"]


@pytest.mark.slow
def test_figures_of_the_record_are_those_that_evaluate_finds(run: Path) -> None:
    keras, tflite = json.loads(kq("evaluate", run, "--json").stdout)
    figures = {(f["name"], f["notes"]): f["value"] for f in record_of(run)["figures"]}
    assert figures["accuracy", "Keras model"] == 100 * keras["outputs"][0]["scores"]["accuracy"]
    assert figures["accuracy", "TFLite file"] == 100 * tflite["outputs"][0]["scores"]["accuracy"]
    assert (
        figures["top-1 agreement", "Keras and TFLite"]
        == 100 * tflite["outputs"][0]["agreement"]
        == 100
    )
    size = (run / "export" / "model.tflite").stat().st_size
    assert figures["size", "integer TFLite file"] == size


@pytest.mark.slow
def test_run_is_named_after_data_model_and_scheme_and_its_policy_is_told(tmp_path: Path) -> None:
    result = kq("train", *QUICK, "--scheme", "w4a8", "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert files_below(tmp_path / "digits-mlp-w4a8") == FILES
    assert "accuracy, TFLite file" in result.stdout
    assert "@first: weights 8; @last: weights 8" in result.stderr


def test_existing_run_is_refused_and_left_as_it_is(run: Path) -> None:
    before = {name: (run / name).read_bytes() for name in FILES}
    result = kq("train", *QUICK, "--out", run.parent, "--name", run.name)
    assert result.exit_code == 1
    assert "a run of that name exists" in result.stderr
    assert "--overwrite" in result.stderr
    assert {name: (run / name).read_bytes() for name in files_below(run)} == before


@pytest.mark.slow
def test_overwrite_replaces_the_run_and_equal_seeds_give_equal_files(run: Path) -> None:
    content, weights = (run / "export/model.tflite").read_bytes(), weights_of(run)
    (run / "export" / "notes.txt").write_text("of the old run")
    result = kq(
        *("train", *QUICK, "--bits", "4", "--epochs", "2"),
        *("--out", run.parent, "--name", run.name, "--overwrite"),
    )
    assert result.exit_code == 0, result.stderr
    assert files_below(run) == FILES
    assert (run / "export/model.tflite").read_bytes() == content
    for old, new in zip(weights, weights_of(run), strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.slow
def test_other_seed_gives_other_weights(run: Path) -> None:
    other = train(run.parent, "other", "--bits", "4", "--epochs", "2", "--seed", "1")
    assert any((a != b).any() for a, b in zip(weights_of(run), weights_of(other), strict=True))


def test_float_run_is_all_float_and_proven(float_run: Path) -> None:
    assert files_below(float_run) == FILES - {"statistics.npz"}
    record = record_of(float_run)
    assert record["training"]["method"] == "float"
    assert record["float_layers"] == ["dense1", "dense2", "logits"]
    assert json.loads((float_run / "export/parity.json").read_text())["tflite"]["passed"]


def test_summary_of_a_float_run_tells_of_logits_not_of_codes(
    float_job: tuple[Path, Result],
) -> None:
    _, result = float_job
    assert result.exit_code == 0, result.stderr
    assert "codes that differ" not in result.stdout
    (row,) = [line for line in result.stdout.splitlines() if "logits that differ by" in line]
    assert "up to " in row and "against the reference" in row


@pytest.mark.slow
def test_run_starts_from_the_weights_of_its_parent(tmp_path: Path, float_run: Path) -> None:
    # A step this small leaves the weights where they were.
    still = ("--learning-rate", "1e-12", "--bits", "w8a8")
    child = train(tmp_path, "child", *still, "--from", float_run)
    assert record_of(child)["training"]["parent"] == str(float_run)
    old, new = load_model(float_run / "model.keras"), load_model(child / "model.keras")
    for layer in ("dense1", "dense2", "logits"):
        kernel, start = new.get_layer(layer).kernel, old.get_layer(layer).kernel
        np.testing.assert_allclose(kernel, start, atol=1e-6)


def test_model_options_and_dataset_are_the_parents_unless_given(tmp_path: Path) -> None:
    path = make_run(tmp_path / "parent")
    model = ModelRecord(name="resnet8", options={"width": 4}, exits=("relu1",))
    dataset = replace(RECORD.dataset, name="mnist")
    records.save(replace(RECORD, model=model, dataset=dataset), path)
    inherited = settings_of("--from", path)
    assert (inherited.model, inherited.exits, inherited.dataset) == ("resnet8", ("relu1",), "mnist")
    assert inherited.model_options == {"width": 4}
    other = settings_of("--from", path, "--model", "mlp", "--dataset", "digits")
    assert (other.model, other.model_options, other.exits) == ("mlp", {}, ())
    assert other.dataset == "digits"
    assert settings_of("--from", path, "--option", "width=8").model_options == {"width": 8}
    alone = settings_of()
    assert (alone.model, alone.dataset) == ("cnn", "digits")


def test_validation_images_are_those_of_the_run_behind_it_unless_asked(tmp_path: Path) -> None:
    def split(*arguments: object) -> tuple[int, int | None, float]:
        found = settings_of(*arguments)
        return found.seed, found.split_seed, found.validation_fraction

    path = make_run(tmp_path / "parent")
    training = replace(RECORD.training, seed=7)
    dataset = replace(RECORD.dataset, validation_fraction=0.02)
    records.save(replace(RECORD, training=training, dataset=dataset), path)
    assert split("--from", path) == split("--model", path / "model.keras") == (0, 7, 0.02)
    assert split("--from", path, "--dataset", "digits+noise9") == (0, 7, 0.02)
    # A record of equal seeds says no more than one of a run without --from.
    assert split("--from", path, "--seed", 7) == (7, None, 0.02)
    given = ("--split-seed", 5, "--validation-fraction", 0.3)
    assert split("--from", path, *given) == (0, 5, 0.3)
    assert split("--from", path, "--dataset", "mnist") == split() == (0, None, 0.1)


def test_validation_on_what_the_run_behind_it_was_trained_on_is_told(
    tmp_path: Path, float_run: Path
) -> None:
    # There is nothing to keep at 0, so that it ends before it trains.
    arguments = ("--from", float_run, "--split-seed", 5, "--keep-zeros", "--out", tmp_path)
    told = " ".join(kq("train", *QUICK, *arguments).stderr.split())
    assert "by seed 0, and this run holds out 0.1 by seed 5. So it is validated on" in told
    assert "--keep-zeros" in told


@pytest.mark.slow
def test_scheme_file_and_set_choose_bits_layer_by_layer(tmp_path: Path) -> None:
    (tmp_path / "mixed.yaml").write_text(SCHEME)
    scheme = ("--scheme", tmp_path / "mixed.yaml", "--set", "logits=w6")
    path = train(tmp_path, "run", *scheme)
    layers = json.loads(kq("inspect", path, "--json").stdout)["nodes"]
    bits = {layer["name"]: layer["weight_bits"] for layer in layers if layer["weight_bits"]}
    assert bits == {"dense1": 3, "dense2": 8, "logits": 6}


@pytest.mark.slow
def test_early_stopping_keeps_the_best_epoch(tmp_path: Path) -> None:
    # A learning rate that only spoils what the first epochs found.
    options = ("--optimizer", "sgd", "--learning-rate", "0.5", "--schedule", "constant")
    path = train(tmp_path, "run", "--epochs", "30", "--early-stopping", "2", *options)
    rows = [line.split(",") for line in (path / "history.csv").read_text().splitlines()[1:]]
    accuracies = [float(row[4]) for row in rows]
    assert len(rows) < 30
    assert len(rows) - 1 - accuracies.index(max(accuracies)) == 2
    found = json.loads(kq("evaluate", path, "--split", "validation", "--json").stdout)
    assert found[0]["outputs"][0]["scores"]["accuracy"] == pytest.approx(max(accuracies), abs=1e-6)


@pytest.mark.slow
def test_bfloat16_training_exports_exactly(tmp_path: Path) -> None:
    path = train(tmp_path, "run", "--bits", "4", "--precision", "bf16")
    parity = json.loads((path / "export/parity.json").read_text())["tflite"]
    assert (parity["codes_different"], parity["outputs"][0]["keras_top1_agreement"]) == (0, 1.0)
    assert all(w.dtype == np.float32 for w in weights_of(path))


@pytest.mark.slow
def test_users_own_model_is_trained(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(USER_MODEL)
    arguments = ("--bits", "4", "--epochs", "1", "--out", tmp_path)
    result = kq("train", "--model", f"{tmp_path / 'nets.py'}:small", *arguments)
    assert result.exit_code == 0, result.stderr
    assert files_below(tmp_path / "digits-nets-w4a4") == FILES


@pytest.mark.slow
def test_tensorboard_gets_event_files(tmp_path: Path) -> None:
    path = train(tmp_path, "run", "--tensorboard")
    events = list((path / "tensorboard").glob("events.out.tfevents.*"))
    assert events
    assert sum(file.stat().st_size for file in events) > 0


def npz(path: Path, **changes: Callable[[np.ndarray], np.ndarray]) -> Path:
    """Writes 8x8 images of three classes, with some of the arrays changed."""
    random = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 60), ("test", 12)):
        arrays[f"x_{part}"] = random.random((count, 8, 8, 1)).astype(np.float32)
        arrays[f"y_{part}"] = np.arange(count) % 3
    np.savez(path, **{name: changes.get(name, np.copy)(a) for name, a in arrays.items()})
    return path


def with_nan(x: np.ndarray) -> np.ndarray:
    x[7, 0, 0, 0] = np.nan
    return x


def truncated(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def wrong_data(folder: Path) -> dict[str, Path]:
    """Broken datasets by name."""
    (folder / "empty").mkdir()
    (folder / "one" / "cats").mkdir(parents=True)
    return {
        "truncated": truncated(npz(folder / "truncated.npz")),
        "shape": npz(folder / "shape.npz", x_train=lambda x: x[..., None]),
        "label": npz(folder / "label.npz", y_test=lambda y: y + 1),
        "nan": npz(folder / "nan.npz", x_train=with_nan),
        "empty": folder / "empty",
        "one": folder / "one",
    }


@pytest.mark.parametrize(
    ("arguments", "exit_code", "helpful"),
    [
        (["--model", "resnet"], 2, "close names: resnet"),
        (["--model", "vae"], 2, "vae is a variational autoencoder: put +elbo behind the data's"),
        (["--model", "vae", "--dataset", "digits+noise9"], 2, "as in --dataset digits+elbo"),
        (["--option", "units=none"], 2, "units is none; an integer is allowed"),
        (["--option", "unit=3"], 2, "has no option unit; it has units"),
        (["--option", "units"], 2, "write KEY=VALUE"),
        (["--dataset", "digit"], 1, "close names: digits"),
        (["--scheme", "w4a44"], 2, "close names: w4a4"),
        (["--bits", "9"], 2, "8"),
        (["--bits", "0"], 2, "8"),
        (["--bits", "four"], 2, "w4a8"),
        (["--bits", "4", "--scheme", "w4a4"], 2, "--bits and --scheme both name bits"),
        (["--bits", "4", "--method", "float"], 2, "--method float has no bits"),
        (["--method", "qkera"], 2, "close names: qkeras"),
        (["--set", "dens1=w8a8"], 2, "close names: dense1"),
        (["--optimizer", "adamw"], 2, "close names: adam"),
        (["--schedule", "cosin"], 2, "close names: cosine"),
        (["--epochs", "0", "--batch-size", "0"], 2, "--epochs is 0; 1 or more is allowed; --batch"),
        (["--epochs", "many"], 2, "not a valid integer"),
        (["--learning-rate", "nan"], 2, "--learning-rate is nan; more than 0 is allowed"),
        (["--warmup", "-1"], 2, "--warmup is -1.0; 0 or more is allowed"),
        (["--early-stopping", "-1"], 2, "0 (off) or more is allowed"),
        (["--threads", "-1"], 2, "0 (one a core) or more is allowed"),
        (["--validation-fraction", "1"], 2, "between 0 and 1 is allowed"),
        (["--split-seed", "-1"], 2, "--split-seed is -1; 0 to 4294967295 is allowed"),
        (["--self-distill", "2"], 2, "--self-distill is 2.0; 0 (labels alone) to 1 is allowed"),
        (["--orthogonal"], 2, "--orthogonal is for models of several outputs; "),
        (["--seed", "-1"], 2, "--seed is -1; 0 to 4294967295 is allowed"),
        (["--precision", "fp16"], 2, "allowed: float32, bf16"),
        (["--name", "../run"], 2, "the folder is chosen with --out"),
        (["--name", "x" * 300], 1, "Choose a shorter name"),
        (["--from", "gone"], 1, "gone: no such run folder"),
        (["--resume"], 1, "no such run folder"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_option_is_explained_and_leaves_nothing(
    tmp_path: Path, arguments: list[str], exit_code: int, helpful: str
) -> None:
    result = kq("train", *QUICK, *arguments, "--out", tmp_path / "models")
    assert_explained(result, exit_code, helpful)
    assert files_below(tmp_path) == set()


@pytest.mark.parametrize(
    ("name", "helpful"),
    [
        ("truncated", "is not a complete .npz file"),
        ("shape", "x_train: shape is (60, 8, 8, 1, 1); (images, height, width), "),
        ("label", "4 labels are outside the classes 0 to 2, the first is 3"),
        ("nan", "1 images hold NaN or infinity, the first is image 7"),
        ("empty", "holds nothing; put PNG"),
        ("one", "cats: has no images"),
    ],
)
def test_bad_data_is_explained_and_leaves_nothing(tmp_path: Path, name: str, helpful: str) -> None:
    data = wrong_data(tmp_path)[name]
    result = kq("train", *QUICK, "--dataset", data, "--out", tmp_path / "models")
    assert_explained(result, 1, helpful)
    assert not (tmp_path / "models").exists()


def assert_explained(result: Result, exit_code: int, helpful: str) -> None:
    assert (result.exit_code, result.stdout) == (exit_code, ""), result.stderr
    assert helpful in " ".join(result.stderr.split())
    assert "bug of kq" not in result.stderr
    assert "Traceback" not in result.stderr


def test_layers_that_are_not_supported_are_all_listed_before_training(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(USER_MODEL)
    model = f"{tmp_path / 'nets.py'}:odd"
    result = kq("train", "--model", model, "--bits", "4", "--out", tmp_path / "models")
    assert_explained(result, 1, "layer_norm")
    assert "unit_norm" in result.stderr
    assert not (tmp_path / "models").exists()


def test_missing_file_of_a_model_is_named(tmp_path: Path) -> None:
    result = kq("train", "--model", "gone.py:small", "--out", tmp_path / "models")
    assert_explained(result, 1, "no file gone.py")


def test_options_for_a_model_of_ones_own_are_refused(tmp_path: Path) -> None:
    result = kq("train", "--model", "nets.py:small", "--option", "width=2", "--out", tmp_path)
    assert_explained(result, 2, "--option is for models of the zoo; nets.py:small takes none")


@pytest.mark.parametrize("options", [["--bits", "3"], ["--bits", "4", "--epochs", "3"]])
def test_resume_with_other_settings_is_refused(run: Path, options: list[str]) -> None:
    stop(run)
    result = kq(
        *("train", *QUICK, "--epochs", "2", *options),
        *("--out", run.parent, "--name", run.name, "--resume"),
    )
    kind = "scheme" if "3" in options[:2] else "training"
    assert_explained(result, 1, f"these differ: {kind} (see")


def test_finished_run_is_not_resumed(run: Path) -> None:
    arguments = ("--bits", "4", "--epochs", "2", "--out", run.parent, "--name", run.name)
    result = kq("train", *QUICK, *arguments, "--resume")
    assert_explained(result, 1, "that run is finished; --overwrite trains it anew")


@pytest.mark.parametrize(
    ("name", "content", "helpful"),
    [
        ("checkpoint.npz", b"PK\x03\x04 half", "checkpoint.npz: broken"),
        ("statistics.npz", b"PK\x03\x04 half", "statistics.npz: is no whole .npz file"),
        ("run.json", b'{"format_version": 99}', "written by a newer kq (format 99"),
        ("run.json", b'{"format_version": 1', "run.json: not JSON"),
        ("run.json", b"{}", "run.json: command: missing"),
    ],
)
def test_broken_file_of_a_stopped_run_is_named(
    run: Path, name: str, content: bytes, helpful: str
) -> None:
    stop(run)
    (run / name).write_bytes(content)
    arguments = ("--bits", "4", "--epochs", "2", "--out", run.parent, "--name", run.name)
    assert_explained(kq("train", *QUICK, *arguments, "--resume"), 1, helpful)
    assert (run / name).read_bytes() == content


def stop(run: Path) -> None:
    """Makes a finished run one that was stopped."""
    record = record_of(run) | {"status": "training", "figures": []}
    (run / "run.json").write_text(json.dumps(record))


def test_parent_of_another_model_is_refused_with_its_layers(
    tmp_path: Path, float_run: Path
) -> None:
    arguments = ("--from", float_run, "--epochs", "1", "--out", tmp_path / "models")
    result = kq("train", "--model", "mlp", "--option", "units=8", *arguments)
    assert_explained(result, 1, "in another shape: dense1, bn1, dense2, bn2, logits")
    assert not (tmp_path / "models").exists()


def test_run_that_would_replace_its_own_parent_is_refused(run: Path) -> None:
    arguments = ("--from", run, "--out", run.parent, "--name", run.name, "--overwrite")
    assert_explained(kq("train", *QUICK, *arguments), 2, "a run cannot start --from itself")
    assert files_below(run) == FILES


def test_folder_of_other_things_is_never_emptied(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    arguments = ("--out", tmp_path, "--name", "mine", "--overwrite")
    assert_explained(kq("train", *QUICK, *arguments), 1, "not empty, and not a run")
    assert files_below(tmp_path) == {"mine/thesis.txt"}


def test_out_below_a_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    result = kq("train", *QUICK, "--out", tmp_path / "models" / "below")
    assert_explained(result, 1, "A part of that path is a file: choose another folder.")
    assert (tmp_path / "models").read_text() == "a file"


@pytest.mark.slow
def test_diverging_loss_ends_with_advice_and_the_last_good_weights(tmp_path: Path) -> None:
    arguments = ("--optimizer", "sgd", "--learning-rate", "1e30", "--bits", "4")
    result = kq("train", *QUICK, *arguments, "--out", tmp_path, "--name", "run")
    assert_explained(result, 1, "Try a lower --learning-rate")
    assert all(np.isfinite(w).all() for w in weights_of(tmp_path / "run"))
    assert not (tmp_path / "run" / "export").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--first-last", "4"), "--first-last '4' is not known; 8, same, float are"),
        (("--scheme", "w4a4", "--first-last", "same"), "--first-last goes with --bits"),
        (("--sums", "4"), "--sums '4' is not known; 8, same are"),
        (("--scheme", "w4a4", "--sums", "8"), "--sums goes with --bits"),
        (("--method", "float", "--sums", "8"), "--sums goes with --bits"),
        (("--progressive", "3,4"), "4 is not fewer bits than what comes before it"),
        (("--progressive", "w4a4,w2a8"), "w2a8 is not fewer bits"),
        (("--progressive", "4,4"), "4 is not fewer bits"),
        (("--progressive", "4"), "give two widths or more, as in 4,3,2"),
        (("--progressive", "4,2", "--bits", "4"), "leave out --bits"),
        (("--progressive", "4,9"), "bits '9' are not understood"),
        (("--nested", "4,8"), "--nested 4,8: 8 is not fewer bits than what comes before it"),
        (("--nested", "8,8"), "--nested 8,8: 8 is not fewer bits"),
        (("--nested", "8"), "--nested 8: give two widths or more"),
        (("--nested", "8,4", "--scheme", "w4a4"), "--nested names bits itself"),
        (("--nested", "8,4", "--progressive", "4,3"), "give one of them"),
        (("--nested", "8,4", "--method", "qkeras"), "which --method qkeras has no way to"),
        (("--slim", "1,0.5"), "--slim 1,0.5: give two shares or more, that rise to 1"),
        (("--slim", "0.5,0.75"), "that rise to 1"),
        (("--slim", "half,1"), "write shares of the channels"),
        (("--slim", "0.5,1", "--nested", "8,4"), "--nested both make several runs: give one"),
        (("--nested", "8,w1a1"), "layer dense2: weights of 1 bit: nested cuts 2 to 8"),
        (("--distill", "0.5", "--distill-share", "0.5"), "goes with a teacher"),
        (("--distill", "nothing"), "--distill nothing: no such run or model"),
        (("--accumulate", "0"), "--accumulate is 0; 1 or more is allowed"),
        (("--method", "lsq", "--bits", "w1a1"), "methods that have it: qkeras, pact, dorefa, bnn"),
    ],
)
def test_options_of_few_bits_that_do_not_go_are_told(tmp_path, arguments, message) -> None:
    result = kq("train", *QUICK, *arguments, "--out", tmp_path, "--name", "odd")
    assert result.exit_code in (1, 2) and message in result.stderr, result.stderr
    assert not (tmp_path / "odd" / "model.keras").exists()


def test_a_teacher_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "teacher")
    other = f"{tmp_path}/gone/../teacher/model.keras"
    result = kq("train", *QUICK, "--distill", f"{run},{other}", "--out", tmp_path / "models")
    helpful = f"--distill names {run} and {other}, which are one model; name each teacher once"
    assert_explained(result, 2, helpful)
    assert not (tmp_path / "models").exists()


def test_first_and_last_layer_have_the_bits_that_are_asked_for() -> None:
    def ends(word: str) -> dict[str, object]:
        rules = scheme_from_bits("w1a1", ends=word).rules
        return {rule.match: rule.weight for rule in rules if rule.match in ("@first", "@last")}

    assert ends("8") == dict.fromkeys(("@first", "@last"), QuantSpec(bits=8))
    assert ends("same") == dict.fromkeys(("@first", "@last"))
    assert ends("float") == dict.fromkeys(("@first", "@last"), FLOAT)
    assert scheme_from_bits("4", ends="same").name == "w4a4-same-ends"
