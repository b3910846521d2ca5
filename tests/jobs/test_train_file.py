"""A user's own Keras file, trained from its weights."""

from __future__ import annotations

import dataclasses
import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest

from keras_quant.cli.summary import summary
from keras_quant.errors import (
    DataError,
    KerasQuantWarning,
    ModelError,
    RunError,
    UsageError,
)

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from ai_edge_litert.interpreter import Interpreter  # noqa: E402

from keras_quant.data import load_dataset  # noqa: E402
from keras_quant.jobs import source  # noqa: E402
from keras_quant.jobs.train import train  # noqa: E402
from keras_quant.jobs.train_settings import TrainSettings, check  # noqa: E402
from keras_quant.methods import load_method  # noqa: E402
from keras_quant.model.files import load_model, save_model  # noqa: E402
from keras_quant.model.topology import layers_by_name, variables_by_name  # noqa: E402
from keras_quant.prepare import plan, wrap  # noqa: E402
from keras_quant.runs import records  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from keras_quant.training.optimizer_settings import OptimizerSettings  # noqa: E402

L = keras.layers
QUIET = Progress(quiet=True)
ALMOST_NONE = 1e-30  # a learning rate at which float32 weights stay as they are


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """net.keras: a pruned net of the digits that ends in a softmax."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(16, activation="relu", name="hidden"),
            keras.layers.Dense(10, activation="softmax", name="head"),
        ]
    )
    kernel, bias = model.get_layer("hidden").get_weights()
    kernel[np.abs(kernel) < np.median(np.abs(kernel))] = 0
    model.get_layer("hidden").set_weights([kernel, bias])
    data = load_dataset("digits")
    model.get_layer("head").bias.assign(np.linspace(-1, 1, 10))
    assert model(data.reals(data.test.x[:2])).shape == (2, 10)
    path = tmp_path_factory.mktemp("file")
    save_model(model, path / "net.keras")
    return path


def settings_of(folder: Path, **changed) -> TrainSettings:
    given = {"scheme": scheme_from_bits("4"), "model": str(folder / "net.keras"), "epochs": 1}
    return TrainSettings(**{**given, **changed})


@pytest.mark.slow
def test_training_starts_from_the_files_weights_and_the_run_is_proven(
    folder: Path, tmp_path: Path
) -> None:
    settings = settings_of(
        folder,
        method="lsq",
        distill=0.5,
        optimizer=OptimizerSettings(learning_rate=ALMOST_NONE),
    )
    result = train(settings, tmp_path / "run", progress=QUIET)
    before = layers_by_name(load_model(folder / "net.keras"))
    after = layers_by_name(load_model(tmp_path / "run" / "model.keras"))
    for name in ("hidden", "head"):
        old, new = (variables_by_name(layers[name])["kernel"].numpy() for layers in (before, after))
        np.testing.assert_allclose(new, old, atol=1e-25)
    assert result.export.parity.codes_different == 0
    assert records.load(tmp_path / "run").model.name == str(folder / "net.keras")


@pytest.mark.slow
def test_pruned_weights_stay_0_to_the_file(folder: Path, tmp_path: Path) -> None:
    result = train(settings_of(folder, keep_zeros=True), tmp_path / "run", progress=QUIET)
    old = layers_by_name(load_model(folder / "net.keras"))["hidden"].get_weights()[0]
    new = layers_by_name(load_model(tmp_path / "run" / "model.keras"))["hidden"].get_weights()[0]
    np.testing.assert_array_equal(new == 0, old == 0)
    assert (new != old).any()
    assert result.record.training.keep_zeros


@pytest.mark.slow
def test_clusters_and_zeros_are_kept_to_the_codes_of_the_file(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder / "net.keras")
    for name in ("hidden", "head"):
        kernel = model.get_layer(name).kernel
        kernel.assign(np.round(kernel.numpy() * 16) / 16)
    save_model(model, tmp_path / "clustered.keras")
    result = train(
        settings_of(
            folder,
            model=str(tmp_path / "clustered.keras"),
            scheme=scheme_from_bits("8"),
            method="lsq",
            keep_clusters=True,
            keep_zeros=True,
        ),
        tmp_path / "run",
        progress=QUIET,
    )
    trained = layers_by_name(load_model(tmp_path / "run" / "model.keras"))
    codes = kernels_of_tflite(tmp_path / "run" / "export" / "model.tflite")
    for name in ("hidden", "head"):
        old, new = model.get_layer(name).kernel.numpy(), trained[name].get_weights()[0]
        clusters = [new[old == value] for value in np.unique(old)]
        assert all(len(np.unique(cluster)) == 1 for cluster in clusters)
        assert (new != old).any()
        # The file's kernel may be wider, with zeros behind.
        for before, channel in zip(old.T, codes[name][:, : len(old)], strict=True):
            groups = [np.unique(channel[before == value]) for value in np.unique(before)]
            assert all(len(group) == 1 for group in groups)
            assert not channel[before == 0].any()
    training, content = result.record.training, result.export.path.read_bytes()
    assert training is not None and training.keep_clusters and training.keep_zeros
    (packed,) = (figure for figure in result.record.figures if figure.name == "gzip size")
    assert (packed.value, packed.notes) == (len(gzip.compress(content)), "integer TFLite file")
    assert dict(summary(result))["as gzip packs it"] == f"{packed.value / 1e3:,.1f} kB"


def kernels_of_tflite(file: Path) -> dict[str, np.ndarray]:
    """The codes of a file's Dense kernels by their layers, (outputs, inputs)."""
    interpreter = Interpreter(str(file))
    return {
        name.rpartition("/")[0]: interpreter.get_tensor(detail["index"])
        for detail in interpreter.get_tensor_details()
        for name in [detail["name"]]
        if name.endswith("/weight")
    }


def test_what_does_not_go_with_a_file_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--option is for models of the zoo"):
        check(settings_of(folder, model_options={"units": 3}))
    with pytest.raises(ModelError, match="no such file"):
        train(settings_of(tmp_path), tmp_path / "run", progress=QUIET)
    x, y = np.zeros((20, 6, 6, 1), np.uint8), np.arange(20) % 10
    np.savez(tmp_path / "small.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    small = settings_of(folder, dataset=str(tmp_path / "small.npz"))
    with pytest.raises(DataError, match=r"takes \(None, 8, 8, 1\); images of dataset"):
        train(small, tmp_path / "run", progress=QUIET)
    with pytest.raises(UsageError, match="lies in the run that would be replaced"):
        train(settings_of(folder), folder, overwrite=True, progress=QUIET)
    with pytest.raises(UsageError, match="no kernel has a weight that is 0"):
        train(
            TrainSettings(scheme=scheme_from_bits("4"), model="mlp", keep_zeros=True),
            tmp_path / "run",
            progress=QUIET,
        )
    with pytest.raises(
        UsageError, match=r"--keep-clusters: in no kernel .* head 160 of 160\. Give"
    ):
        train(settings_of(folder, keep_clusters=True), tmp_path / "run", progress=QUIET)
    with pytest.raises(UsageError, match="--keep-clusters moves those of a cluster together"):
        check(settings_of(folder, keep_clusters=True, freeze_oscillations=True))
    assert not (tmp_path / "run").exists()
    quantized = dataclasses.replace(settings_of(folder), distill=0.5, scheme=scheme_from_bits("8"))
    check(quantized)  # the file itself is the teacher


def test_a_bias_that_the_model_has_not_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def net(*, bias: bool) -> keras.Model:
        head = keras.layers.Dense(3, use_bias=bias, name="head")
        return keras.Sequential([keras.layers.Input((4,)), head])

    given, model = net(bias=True), net(bias=False)
    save_model(given, tmp_path / "model.keras")
    monkeypatch.setattr(source.runs, "model_of", lambda run: run / "model.keras")
    with pytest.warns(KerasQuantWarning, match="bias of head are left out"):
        source._take_weights(model, tmp_path)
    np.testing.assert_array_equal(model.get_weights()[0], given.get_weights()[0])


def test_a_beta_that_training_gave_a_norm_without_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def net(*, center: bool) -> keras.Model:
        norm = keras.layers.BatchNormalization(center=center, name="norm")
        return keras.Sequential([keras.layers.Input((4,)), norm])

    save_model(net(center=True), tmp_path / "model.keras")
    monkeypatch.setattr(source.runs, "model_of", lambda run: run / "model.keras")
    with pytest.warns(KerasQuantWarning, match="beta of norm are left out, which quantizing added"):
        source._take_weights(net(center=False), tmp_path)


SHORTHANDS = {
    "SeparableConv2D": ((6, 6, 3), lambda: L.SeparableConv2D(4, 3, depth_multiplier=2)),
    "SeparableConv1D": ((8, 3), lambda: L.SeparableConv1D(4, 3, depth_multiplier=2)),
    "DepthwiseConv1D": ((8, 3), lambda: L.DepthwiseConv1D(3, depth_multiplier=2)),
    "Conv1DTranspose": ((8, 3), lambda: L.Conv1DTranspose(4, 3, strides=2)),
}


@pytest.mark.parametrize("kind", SHORTHANDS)
def test_layers_that_stand_for_others_start_from_a_quantized_run(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape, make = SHORTHANDS[kind]

    def net() -> keras.Model:
        keras.backend.reset_uids()
        norm = L.Normalization(mean=[0.5, 0.0, 1.0], variance=[1.0, 2.0, 3.0])
        return keras.Sequential([L.Input(shape), norm, make(), L.Flatten(), L.Dense(3)])

    trained, fresh = net(), net()
    planned = plan(trained, scheme_from_bits("4"))
    save_model(wrap(planned, trained, load_method("lsq"), None), tmp_path / "model.keras")
    monkeypatch.setattr(source.runs, "model_of", lambda run: run / "model.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error", KerasQuantWarning)
        source._take_weights(fresh, tmp_path)
    for ours, theirs in zip(fresh.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_normalization_of_other_numbers_is_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def net(mean: float) -> keras.Model:
        keras.backend.reset_uids()
        norm = L.Normalization()
        model = keras.Sequential([L.Input((4,)), norm, L.Dense(3)])
        norm.adapt(np.float32([[mean] * 4, [mean + 2] * 4]))
        return model

    planned = plan(net(0.0), scheme_from_bits("4"))
    quantized = wrap(planned, net(0.0), load_method("lsq"), None)
    save_model(quantized, tmp_path / "model.keras")
    monkeypatch.setattr(source.runs, "model_of", lambda run: run / "model.keras")
    same = net(0.0)
    source._take_weights(same, tmp_path)
    np.testing.assert_array_equal(same.layers[0].mean, np.ones((1, 4)))
    with pytest.raises(RunError, match="lacks these layers, .*: normalization"):
        source._take_weights(net(5.0), tmp_path)


NAMED_OUTPUTS = """
from keras_quant.tf import keras

def build(input_shape, num_classes):
    x = keras.layers.Flatten()(inputs := keras.Input(input_shape))
    names = ("late", "early")
    heads = {name: keras.layers.Dense(num_classes, name=f"{name}_head")(x) for name in names}
    return keras.Model(inputs, heads)
"""


@pytest.mark.slow
def test_outputs_by_name_are_trained_in_float_as_in_a_list(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NAMED_OUTPUTS)
    # Keras has the outputs in the order of their names.
    settings = settings_of(
        tmp_path,
        model=f"{tmp_path / 'net.py'}:build",
        scheme=scheme_from_bits("float"),
        loss_weights=(1.0, 0.0),
        optimizer=OptimizerSettings(learning_rate=0.05),
    )
    record = train(settings, tmp_path / "run", progress=QUIET).record
    accuracy = {f.notes: f.value for f in record.figures if f.name == "accuracy"}
    early, late = (accuracy[f"Keras model, output {name}_head"] for name in ("early", "late"))
    assert early > 60 > 30 > late
