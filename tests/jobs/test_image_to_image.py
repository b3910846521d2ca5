"""Images that become images: what clean ones are for, from the dataset's name to the figures."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.data import load_dataset  # noqa: E402
from keras_quant.errors import DataError, ModelError  # noqa: E402
from keras_quant.jobs.draws import elbo_over_draws  # noqa: E402
from keras_quant.jobs.evaluate import evaluate  # noqa: E402
from keras_quant.jobs.quantize import quantize_run  # noqa: E402
from keras_quant.jobs.quantize_settings import QuantizeSettings  # noqa: E402
from keras_quant.jobs.source import build_float, tasks_of_model  # noqa: E402
from keras_quant.jobs.train import train  # noqa: E402
from keras_quant.jobs.train_settings import TrainSettings  # noqa: E402
from keras_quant.lower import lower  # noqa: E402
from keras_quant.model.files import load_model, save_model  # noqa: E402
from keras_quant.model.metrics import metrics_of, psnr  # noqa: E402
from keras_quant.model.tasks import VARIATIONAL  # noqa: E402
from keras_quant.proof.evidence import gather  # noqa: E402
from keras_quant.proof.formats import FORMATS  # noqa: E402
from keras_quant.runs import records  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.schemes.file import load_scheme  # noqa: E402
from keras_quant.search.judge import Judge  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

NOISY = "digits+noise40"
FLOAT32_ROUNDING = 1e-5


def passing_on() -> keras.Model:
    """Puts out what it is given."""
    inputs = keras.Input((8, 8, 1), name="image")
    outputs = keras.layers.Conv2D(1, 1, kernel_initializer="ones", name="same")(inputs)
    return keras.Model(inputs, outputs, name="passing_on")


def noise_db(part: str = "test") -> float:
    """The PSNR of noisy digits, as an answer."""
    data = load_dataset(NOISY)
    split = getattr(data, part)
    return float(psnr(data.reals(split.x), data.reals(split.wanted), span=1.0).mean())


@pytest.mark.parametrize("suffix", [".keras", ".tflite"])
def test_files_are_judged_by_clean_images(tmp_path: Path, suffix: str) -> None:
    path, model = tmp_path / f"model{suffix}", passing_on()
    if suffix == ".keras":
        save_model(model, path)
    else:
        path.write_bytes(FORMATS["tflite"].definition.emit(lower(model)))
    (found,) = evaluate(path, dataset=NOISY)
    assert found.outputs[0].scores["PSNR"] == pytest.approx(noise_db(), rel=FLOAT32_ROUNDING)
    (clean,) = evaluate(path, dataset="digits")
    assert clean.outputs[0].scores["PSNR"] > 100


def test_proofs_are_held_to_clean_images() -> None:
    data = load_dataset(NOISY)
    evidence = gather(passing_on(), data, images=300)
    assert evidence.is_noisy and not gather(passing_on(), load_dataset("digits")).is_noisy
    targets = np.concatenate([batch.targets[0] for batch in evidence.batches()])
    assert np.array_equal(targets, data.reals(data.test.wanted[:300]))


def test_layers_are_ranked_by_clean_images() -> None:
    data = load_dataset(NOISY)
    judge = Judge(data, data.validation, lambda reals: (reals,))
    assert judge.metric == "PSNR"
    assert judge.baseline.score == pytest.approx(noise_db("validation"), rel=FLOAT32_ROUNDING)


def test_an_image_to_image_net_takes_images_without_labels() -> None:
    data = dataclasses.replace(load_dataset("digits"), class_names=())
    model = build_float("unet_small", {"width": 1}, data, None)
    assert tasks_of_model(model, data) == ("reconstruction",)
    with pytest.raises(DataError, match="cnn tells classes apart"):
        build_float("cnn", {}, data, None)


def test_an_autoencoder_needs_to_be_asked_for_its_bound() -> None:
    model = build_float("vae", {"units": 2}, load_dataset("digits+elbo"), None)
    with pytest.raises(ModelError, match=r"vae puts out \(20,\), \(20,\); the data need \(10,\)"):
        tasks_of_model(model, load_dataset("digits"))


def test_an_elbo_is_not_asked_of_other_pixels(tmp_path: Path) -> None:
    save_model(passing_on(), tmp_path / "model.keras")
    with pytest.raises(DataError, match="images are of -1 to 1; for an ELBO 0 to 1 is needed"):
        evaluate(tmp_path / "model.keras", dataset="digits+elbo", preprocess="tf")


def test_a_bound_over_draws_is_that_at_the_mean_where_nothing_varies() -> None:
    keras.utils.set_random_seed(0)
    data = load_dataset("digits+elbo")
    model = build_float("vae", {"units": 8, "latent": 2}, data, None)
    kernel, bias = model.get_layer("log_variance").weights
    kernel.assign(np.zeros(kernel.shape))
    images = data.reals(data.test.x)

    def at_the_mean() -> float:
        named = zip(VARIATIONAL, model(images, training=False), strict=True)
        judge = partial(metrics_of, num_classes=10, span=1.0)
        return -sum(judge(task)["loss"](y.numpy(), images).mean() for task, y in named)

    bias.assign([-40.0, -40.0])
    assert elbo_over_draws(model, data) == pytest.approx(at_the_mean(), rel=FLOAT32_ROUNDING)
    bias.assign([0.0, 0.0])
    drawn = elbo_over_draws(model, data)
    assert drawn == elbo_over_draws(model, data) != elbo_over_draws(model, data, seed=1)
    # Kingma and Welling's estimator, by the layer's own draws.
    trained = [np.asarray(output) for output in model(images, training=True)]
    parts = zip(VARIATIONAL, trained, strict=True)
    judge = partial(metrics_of, num_classes=10, span=1.0)
    own = -sum(judge(task)["loss"](y, images).mean() for task, y in parts)
    assert drawn == pytest.approx(own, rel=0.02) and drawn < at_the_mean() - 1


@pytest.mark.slow
def test_a_denoiser_is_quantized_and_proven_beside_its_noisy_images(tmp_path: Path) -> None:
    settings = TrainSettings(
        scheme=load_scheme("float"),
        model="unet_small",
        model_options={"width": 1},
        dataset=NOISY,
        epochs=1,
    )
    train(settings, tmp_path / "float", progress=Progress(quiet=True))
    result = quantize_run(
        QuantizeSettings(source=str(tmp_path / "float"), scheme=scheme_from_bits("8"), images=64),
        tmp_path / "int8",
        [FORMATS["tflite"]],
        progress=Progress(quiet=True),
    )
    figures = {(f.name, f.notes): f.value for f in records.load(tmp_path / "int8").figures}
    assert figures["PSNR", "noisy images"] == pytest.approx(noise_db(), rel=FLOAT32_ROUNDING)
    assert {"float model", "Keras model", "TFLite file"} <= {n for name, n in figures if n}
    assert result.exported.files[0].parity.codes_different == 0


@pytest.mark.slow
def test_the_bound_of_a_file_is_that_of_its_model_at_the_mean(tmp_path: Path) -> None:
    settings = TrainSettings(
        scheme=scheme_from_bits("4"),
        method="lsq",
        model="vae",
        model_options={"units": 8, "latent": 2},
        dataset="digits+elbo",
        epochs=1,
    )
    result = train(settings, tmp_path / "vae", progress=Progress(quiet=True))
    assert result.export.parity.codes_different == 0
    data = load_dataset("digits+elbo")
    images = data.reals(data.test.x)
    model = load_model(tmp_path / "vae" / "model.keras")
    mean, variance, logits = (output.numpy().astype(np.float64) for output in model(images))
    divergence = (mean**2 + np.exp(variance) - 1 - variance).sum(axis=1) / 2
    crossed = (np.logaddexp(0, logits) - logits * images).sum(axis=(1, 2, 3))
    expected = float((divergence + crossed).mean())
    figures = {(f.name, f.notes): f.value for f in result.record.figures}
    for whose in ("Keras model", "TFLite file"):
        assert figures["negative ELBO", whose] == pytest.approx(expected, rel=FLOAT32_ROUNDING)
    for found in evaluate(tmp_path / "vae"):
        losses = [output.scores["loss"] for output in found.outputs]
        assert sum(losses) == pytest.approx(expected, rel=FLOAT32_ROUNDING)
