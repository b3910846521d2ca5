"""What is seen of a small quantized run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.calibration.collect import collect  # noqa: E402
from keras_quant.calibration.quantize import quantize  # noqa: E402
from keras_quant.errors import RunError, UsageError  # noqa: E402
from keras_quant.explain import record as explained_records  # noqa: E402
from keras_quant.explain.record import Explained  # noqa: E402
from keras_quant.jobs.explain import ExplainSettings, explain  # noqa: E402
from keras_quant.jobs.paths import dataset_of  # noqa: E402
from keras_quant.model.files import load_model, save_model  # noqa: E402
from keras_quant.prepare import plan  # noqa: E402
from keras_quant.runs import model_of, records  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.runs.records import QuantizationRecord  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.zoo import build  # noqa: E402
from tests.jobs.test_sensitivity import make_float_run  # noqa: E402

QUIET = Progress(quiet=True)
SETTINGS = ExplainSettings(images=40, maps=2)


def make_quantized_run(path: Path, base: Path) -> Path:
    record = records.load(base)
    source = load_model(model_of(base))
    scheme = scheme_from_bits("w2a4", ends="same")
    x = np.float32(dataset_of(base, None).train.x[:50]) / np.float32(255)
    model = quantize(source, scheme, collect(plan(source, scheme), source, x))
    path.mkdir()
    made = QuantizationRecord(
        source=str(base), method="qkeras", calibrator="mse", images=50, seed=0
    )
    records.save(dataclasses.replace(record, training=None, quantization=made), path)
    save_model(model, path / "model.keras")
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    base = make_float_run(folder / "base")
    return base, make_quantized_run(folder / "quantized", base)


@pytest.fixture(scope="module")
def found(runs: tuple[Path, Path]) -> Explained:
    return explain(runs[1], SETTINGS, progress=QUIET)


def test_all_kernels_and_rounded_activations_are_counted(runs, found: Explained) -> None:
    kinds = {tensor.name: (tensor.kind, tensor.bits) for tensor in found.header.tensors}
    assert kinds["conv"] == kinds["second"] == kinds["logits"] == ("weights", 2)
    assert kinds["relu"] == ("activations", 4) and kinds["input_quant"] == ("activations", 8)
    counts = {
        t.name: h.after.sum() for t, h in zip(found.header.tensors, found.histograms, strict=True)
    }
    assert counts["conv"] == 27 and counts["relu"] == 40 * 3 * 3 * 3
    assert found.header.float_model == str(runs[0])


def test_confusions_are_those_of_both_models(runs, found: Explained) -> None:
    test = dataset_of(runs[0], None).test
    x = np.float32(test.x) / np.float32(255)
    assert found.confusion is not None and found.confusion.shape == (2, 10, 10)
    for path, matrix in zip(runs, found.confusion, strict=True):
        answers = load_model(model_of(path))(x).numpy().argmax(axis=1)
        assert matrix.sum() == len(test)
        for label in range(10):
            row = np.bincount(answers[test.y == label], minlength=10)
            assert matrix[label].tolist() == row.tolist()


def test_maps_are_of_the_last_layer_that_has_places(runs, found: Explained) -> None:
    assert found.maps is not None and found.maps.images.shape == (2, 8, 8, 1)
    assert found.maps.of_float.shape == found.maps.of_quantized.shape == (2, 8, 8)
    assert len(found.header.layer_names) == 2


def test_what_was_seen_is_kept_and_not_replaced_unasked(runs, found: Explained) -> None:
    assert explained_records.load(runs[1]).header == found.header
    with pytest.raises(RunError, match=r"explain\.npz: exists.*--overwrite"):
        explain(runs[1], SETTINGS, progress=QUIET)


def test_a_posterior_of_as_many_dimensions_as_classes_is_no_classifier(tmp_path: Path) -> None:
    base = make_float_run(tmp_path / "base")
    record = records.load(base)
    dataset = dataclasses.replace(record.dataset, name=f"{record.dataset.name}+elbo")
    records.save(dataclasses.replace(record, dataset=dataset), base)
    save_model(build("vae", (8, 8, 1), 10, units=4, latent=10), base / "model.keras")
    seen = explain(make_quantized_run(tmp_path / "vae", base), SETTINGS, progress=QUIET)
    assert seen.confusion is None and seen.maps is None


@pytest.mark.slow
def test_without_a_float_model_the_quantized_one_is_seen_alone(
    runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = make_float_run(tmp_path / "base")
    alone = make_quantized_run(tmp_path / "alone", base)
    base.rename(tmp_path / "elsewhere")
    seen = explain(alone, SETTINGS, progress=Progress())
    assert seen.maps is None and seen.confusion is not None and len(seen.confusion) == 1
    assert "base, which is gone: without --float RUN" in " ".join(capsys.readouterr().err.split())


def test_float_runs_and_settings_out_of_range_are_refused(runs) -> None:
    with pytest.raises(UsageError, match="is in float; give a run that was quantized"):
        explain(runs[0], SETTINGS, progress=QUIET)
    with pytest.raises(UsageError, match="--images is 0"):
        explain(runs[1], ExplainSettings(images=0), progress=QUIET)
