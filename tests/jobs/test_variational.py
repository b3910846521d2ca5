"""Runs of variational autoencoders: what is recorded of them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

from keras_quant.jobs.evaluate import evaluate  # noqa: E402
from keras_quant.jobs.paths import dataset_of  # noqa: E402
from keras_quant.jobs.quantize import quantize_run  # noqa: E402
from keras_quant.jobs.quantize_settings import QuantizeSettings  # noqa: E402
from keras_quant.jobs.train import train  # noqa: E402
from keras_quant.jobs.train_settings import TrainSettings  # noqa: E402
from keras_quant.model.files import load_model  # noqa: E402
from keras_quant.proof.formats import FORMATS  # noqa: E402
from keras_quant.runs import model_of  # noqa: E402
from keras_quant.runs.index import Run, read_run  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.schemes.file import load_scheme  # noqa: E402

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """One in float, and what was quantized of it."""
    folder = tmp_path_factory.mktemp("runs")
    settings = TrainSettings(
        scheme=load_scheme("float"),
        model="vae",
        model_options={"units": 4, "latent": 3},
        dataset="digits+elbo",
        epochs=1,
    )
    train(settings, folder / "float", progress=QUIET)
    quantize_run(
        QuantizeSettings(source=str(folder / "float"), scheme=scheme_from_bits("8"), images=64),
        folder / "w8a8",
        [FORMATS["tflite"]],
        progress=QUIET,
    )
    return read_run(folder / "float"), read_run(folder / "w8a8")


def test_the_score_is_the_elbo_of_the_test_images(runs: tuple[Run, Run]) -> None:
    for run in runs:
        data = dataset_of(run.path, None)
        p = np.float64(data.test.x) / 255
        outputs = load_model(model_of(run.path))(np.float32(p), training=False)
        mean, logarithm, logits = (np.float64(output) for output in outputs)
        bit = 1 / (1 + np.exp(-logits))
        likelihood = (p * np.log(bit) + (1 - p) * np.log(1 - bit)).sum(axis=(1, 2, 3))
        divergence = (mean**2 + np.exp(logarithm) - 1 - logarithm).sum(axis=1) / 2
        assert run.metric == "ELBO" and run.judged == "TFLite file"
        assert run.score == pytest.approx((likelihood - divergence).mean(), rel=1e-5)


def test_losses_are_in_nats_and_their_sum_is_the_negative_elbo(runs: tuple[Run, Run]) -> None:
    for run in runs:
        losses = [one for one in run.record.figures if one.notes.startswith("TFLite file, output")]
        assert [(one.name, one.unit) for one in losses] == [("loss", "nats")] * 3
        assert run.score == pytest.approx(-sum(one.value for one in losses))


def test_outputs_have_the_float_models_names(runs: tuple[Run, Run]) -> None:
    for run in runs:
        notes = [one.notes for one in run.record.figures if ", output " in one.notes]
        named = {note.partition(", output ")[2] for note in notes}
        assert named == {"mean", "log_variance", "pixel_logits"}
        for found in evaluate(run.path):
            assert [output.name for output in found.outputs] == [
                "mean",
                "log_variance",
                "pixel_logits",
            ]


def test_where_a_posterior_is_largest_says_nothing(runs: tuple[Run, Run]) -> None:
    for run in runs:
        assert run.agreement is None
        assert not [figure for figure in run.record.figures if "agreement" in figure.name]
