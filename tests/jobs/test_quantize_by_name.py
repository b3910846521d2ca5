"""Models that are built by name, with weights of a file or random ones, go to a proven file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.errors import UsageError  # noqa: E402
from keras_quant.jobs.quantize import quantize_run  # noqa: E402
from keras_quant.jobs.quantize_settings import QuantizeSettings  # noqa: E402
from keras_quant.model.files import load_model  # noqa: E402
from keras_quant.proof.formats import FORMATS  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.schemes.bits import freed, scheme_from_bits  # noqa: E402
from keras_quant.zoo import build  # noqa: E402


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (60, 8, 8, 1)).astype(np.uint8), np.arange(60) % 3
    path = tmp_path / "data.npz"
    np.savez(path, x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    return path


def settings(source: str, data: Path, **more: Any) -> QuantizeSettings:
    scheme = freed(scheme_from_bits("w8a8"))
    return QuantizeSettings(source=source, scheme=scheme, dataset=str(data), **more)


def quantized(chosen: QuantizeSettings, path: Path) -> Any:
    return quantize_run(chosen, path, [FORMATS["tflite"]], progress=Progress(quiet=True))


@pytest.mark.slow
def test_weights_of_a_file_are_those_that_are_quantized(data: Path, tmp_path: Path) -> None:
    model = build("ds_cnn", (8, 8, 1), 3, width=8)
    model.save_weights(tmp_path / "w.h5")
    chosen = settings("ds_cnn", data, weights=str(tmp_path / "w.h5"), model_options={"width": 8})
    result = quantized(chosen, tmp_path / "run")
    assert result.exported.files[0].parity.passed
    assert result.record.quantization.source == str(tmp_path / "w.h5")
    head, found = model.get_layer("logits"), load_model(tmp_path / "run" / "model.keras")
    kernel = found.get_layer("logits").get_weights()[0]
    np.testing.assert_allclose(kernel, head.get_weights()[0], atol=np.abs(kernel).max() / 100)


@pytest.mark.slow
def test_random_weights_have_batch_norms_of_the_images(data: Path, tmp_path: Path) -> None:
    chosen = settings("ds_cnn", data, weights="none", model_options={"width": 8})
    result = quantized(chosen, tmp_path / "run")
    assert result.exported.files[0].parity.codes_different == 0
    norms = [
        weight
        for weight in load_model(tmp_path / "run" / "model.keras").weights
        if "moving_mean" in weight.name
    ]
    assert all(np.abs(np.asarray(weight)).max() > 0 for weight in norms)


@pytest.mark.parametrize(
    ("source", "more", "told"),
    [
        ("ds_cnn", {}, "--from RUN, or a file, --weights FILE; --weights none leaves them random"),
        ("MobileNetV2", {}, "MobileNetV2 is built without weights"),
        ("ds_cnn", {"weights": "none", "parent": Path("run")}, "--from and --weights both give"),
        ("MobileNetV2", {"parent": Path("run")}, "--from is for models of the zoo"),
        ("net.keras", {"weights": "w.h5"}, "built by name; net.keras is none"),
    ],
)
def test_what_does_not_go_together_is_told(
    data: Path, tmp_path: Path, source: str, more: dict[str, Any], told: str
) -> None:
    with pytest.raises(UsageError) as raised:
        quantized(settings(source, data, **more), tmp_path / "run")
    assert told in str(raised.value)
