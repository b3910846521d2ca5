"""Files of ours and of others in which one layer is broken: it is named, and nothing else is."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from keras_quant.errors import DataError, ModelError, UsageError
from keras_quant.jobs.diagnose import Diagnosis, diagnose
from keras_quant.runs.progress import Progress
from tests.diagnose.breaking import onnx_constant, onnx_grid, tflite_scale

pytestmark = pytest.mark.tensorflow

IMAGES = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float net with a residual block and a depthwise layer, images, and the net as our files."""
    pytest.importorskip("tensorflow")
    import keras_quant as kq
    from keras_quant.tf import keras

    folder = tmp_path_factory.mktemp("diagnose")
    images = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 3)).astype(np.uint8)
    np.savez(folder / "images.npz", x_train=images)
    layers = keras.layers
    given = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv1")(given)
    x = layers.BatchNormalization(name="norm1")(x)
    first = layers.ReLU(name="relu1")(x)
    x = layers.Conv2D(8, 3, padding="same", name="conv2")(first)
    x = layers.ReLU(name="relu2")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="conv3")(x)
    x = layers.Add(name="add")([x, first])
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    model = keras.Model(given, layers.Dense(5, name="logits")(x), name="net")
    model.save(folder / "net.keras")
    reals = images / np.float32(255)
    scheme = kq.scheme_from_bits("w8a8")
    statistics = kq.collect(kq.plan(model, scheme), model, reals)
    graph = kq.lower_exactly(kq.quantize(model, scheme, statistics)).graph
    for name in ("tflite", "onnx"):
        content = kq.FORMATS[name].definition.emit(graph)
        (folder / f"ours.{name}").write_bytes(content)
    return folder


@pytest.fixture
def look(folder: Path) -> Callable[..., Diagnosis]:
    def looked(file: str | Path, float_model: str | None = "net.keras", **more: Any) -> Diagnosis:
        return diagnose(
            folder / file,
            float_model=folder / float_model if float_model else None,
            **{"dataset": str(folder / "images.npz"), "images": IMAGES, **more},
            progress=Progress(quiet=True),
        )

    return looked


def layer_of(found: Diagnosis, name: str) -> Any:
    return next(layer for layer in found.layers if layer.name == name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ours.tflite", "ours.onnx"])
def test_a_good_file_breaks_nowhere(look: Callable[..., Diagnosis], name: str) -> None:
    found = look(name)
    assert found.breaks_at is None
    assert found.findings == ()
    assert found.unmatched_layers == ()
    for layer in ("relu1", "relu2", "conv3", "add", "mean", "logits"):
        error = layer_of(found, layer).error
        # The grid of a sum is coarse for the branch, whose values are small beside it.
        assert error.sqnr_db > (15 if layer == "conv3" else 25), layer
        assert error.cosine > 0.99, layer
    assert layer_of(found, "relu2").operator.computes == "integer"
    assert layer_of(found, "relu2").operator.kernel.scales == 8


def broken_in_ours(folder: Path, name: str) -> None:
    content = (folder / f"ours.{name}").read_bytes()
    if name == "tflite":
        broken = tflite_scale(content, "relu2", divisor=8)
    else:
        codes = next(
            node.output[0]
            for node in onnx.load_model_from_string(content).graph.node
            if node.op_type == "QuantizeLinear" and node.output[0].startswith("relu2")
        )
        broken = onnx_grid(content, codes, divisor=8)
    (folder / f"broken.{name}").write_bytes(broken)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tflite", "onnx"])
def test_a_scale_that_is_too_small_by_8_is_named(
    folder: Path, look: Callable[..., Diagnosis], name: str
) -> None:
    broken_in_ours(folder, name)
    found = look(f"broken.{name}")
    assert found.breaks_at == "relu2"
    (finding,) = (one for one in found.findings if one.layer == "relu2")
    assert finding.kind == "cut off"
    assert "--calibrator minmax" in finding.remedy
    assert layer_of(found, "relu2").error.cut_off > 0.05
    assert [layer.name for layer in found.layers if layer.breaks] == ["relu2"]


@pytest.mark.slow
def test_a_scale_of_a_kernel_that_is_too_small_is_named(
    folder: Path, look: Callable[..., Diagnosis]
) -> None:
    content = (folder / "ours.onnx").read_bytes()
    broken = onnx_constant(content, "conv2/weight_scale", divisor=8)
    (folder / "kernel.onnx").write_bytes(broken)
    found = look("kernel.onnx")
    # ONNX Runtime fuses it no more, so that what the ReLU reads can be seen.
    assert found.breaks_at == "conv2"
    first = found.findings[0]
    assert (first.layer, first.kind) == ("conv2", "scale")
    assert "times 0.125" in first.what
    assert any(one.kind == "float island" for one in found.findings)


@pytest.mark.slow
def test_without_a_float_model_codes_at_the_end_of_their_grid_are_said(
    folder: Path, look: Callable[..., Diagnosis]
) -> None:
    broken_in_ours(folder, "tflite")
    found = look("broken.tflite", float_model=None)
    assert (found.findings[0].layer, found.findings[0].kind) == ("relu2", "cut off")
    assert found.float_model is None and found.breaks_at is None
    sound = look("ours.tflite", float_model=None).findings
    # The branch that is small beside what it is added to has few codes, sound as it is.
    assert [(one.layer, one.kind) for one in sound] == [("conv3_quant", "unused range")]


def test_without_images_operators_and_kernels_are_told(folder: Path) -> None:
    found = diagnose(folder / "ours.tflite", progress=Progress(quiet=True))
    assert found.images == 0
    assert [layer.operator.op for layer in found.layers][:2] == ["QUANTIZE", "CONV_2D"]


@pytest.mark.slow
def test_images_of_another_range_than_the_inputs_codes_are_told(
    look: Callable[..., Diagnosis],
) -> None:
    found = look("ours.tflite", preprocess="tf")
    assert found.findings[0].kind == "input range"
    assert "-1 to 1" in found.findings[0].what


@pytest.mark.slow
def test_an_exported_float_file_may_stand_for_the_model(look: Callable[..., Diagnosis]) -> None:
    """Two integer files of one graph: they are equal, tensor by tensor."""
    found = look("ours.tflite", float_model="ours.tflite")
    errors = [layer.error.sqnr_db for layer in found.layers if layer.error is not None]
    assert len(errors) == len(found.layers)
    assert set(errors) == {math.inf}


@pytest.mark.slow
def test_what_cannot_be_looked_at_is_refused(
    folder: Path, look: Callable[..., Diagnosis], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"net\.keras: is no \.tflite or \.onnx file"):
        look("net.keras")
    with pytest.raises(UsageError, match="--images is 0; 1 or more is allowed"):
        look("ours.tflite", images=0)
    with pytest.raises(ModelError, match="no such file"):
        look("none.tflite")
    np.savez(tmp_path / "small.npz", x_train=np.zeros((20, 4, 4, 3), np.uint8))
    with pytest.raises(DataError, match=r"images of dataset .* are \(None, 4, 4, 3\)"):
        look("ours.tflite", dataset=str(tmp_path / "small.npz"))
    (folder / "cut.tflite").write_bytes((folder / "ours.tflite").read_bytes()[:500])
    with pytest.raises(ModelError, match=r"cut\.tflite"):
        look("cut.tflite")


@pytest.mark.slow
def test_a_broken_file_of_tflite_converter_is_named(
    folder: Path, look: Callable[..., Diagnosis]
) -> None:
    from keras_quant.tf import keras, tf

    images = np.load(folder / "images.npz")["x_train"] / np.float32(255)
    converter = tf.lite.TFLiteConverter.from_keras_model(
        keras.models.load_model(folder / "net.keras")
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([x[None]] for x in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    content = converter.convert()
    (folder / "theirs.tflite").write_bytes(content)
    good = look("theirs.tflite")
    assert good.breaks_at is None
    assert (good.unmatched, good.unmatched_layers) == ((), ())
    tensor = layer_of(good, "relu2").tensor
    (folder / "broken.tflite").write_bytes(tflite_scale(content, tensor, divisor=8))
    assert look("broken.tflite").breaks_at == "relu2"


@pytest.mark.slow
def test_a_broken_file_of_quantize_static_is_named(
    folder: Path, look: Callable[..., Diagnosis]
) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    from keras_quant.tf import keras

    tf2onnx = pytest.importorskip("tf2onnx")
    images = np.load(folder / "images.npz")["x_train"] / np.float32(255)
    model = keras.models.load_model(folder / "net.keras")
    tf2onnx.convert.from_keras(model, opset=17, output_path=str(folder / "float.onnx"))

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        batches = iter(np.split(images, 10))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {model.input_names[0]: batch}

    quantize_static(
        str(folder / "float.onnx"),
        str(folder / "theirs.onnx"),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
    )
    good = look("theirs.onnx")
    assert good.breaks_at is None
    assert good.unmatched_layers == ()
    content = (folder / "theirs.onnx").read_bytes()
    kernel = next(
        one.name
        for one in onnx.load_model_from_string(content).graph.initializer
        if "conv2" in one.name and one.name.endswith("_scale") and "bias" not in one.name.lower()
    )
    (folder / "broken.onnx").write_bytes(onnx_constant(content, kernel, divisor=8))
    for float_model in ("net.keras", "float.onnx"):
        found = look("broken.onnx", float_model=float_model)
        assert found.breaks_at is not None
        assert "conv2" in found.breaks_at or "relu2" in found.breaks_at
