"""What holds for every runner, and LiteRT's own."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import pytest

from keras_quant.emit.onnx_x86.emit import emit_onnx_x86
from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.emit.tflite.options import TFLiteOptions
from keras_quant.errors import DataError, KerasQuantError, ModelError
from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.proof.formats import FORMATS, Format
from keras_quant.qparams import unsigned
from keras_quant.runners import RUNNERS, Runner
from keras_quant.runners.litert import LiteRTRunner
from keras_quant.runners.onnxruntime import OnnxRuntimeRunner
from tests.emit.random_graphs import GraphBuilder, small_classifier

FLOAT32_ROUNDING = 1e-5

MODEL_OF: dict[str, Callable[[Graph], object]] = {
    "reference": lambda graph: graph,
    "litert": emit_tflite,
    "onnxruntime": emit_onnx_x86,
}
"""How each runner's model comes from a graph; an entry of RUNNERS without one fails below."""


@pytest.fixture(scope="module")
def builder() -> GraphBuilder:
    return small_classifier()


@pytest.fixture(params=RUNNERS)
def runner(request: pytest.FixtureRequest, builder: GraphBuilder) -> Runner:
    module, name = RUNNERS[request.param].split(":")
    return getattr(import_module(module), name)(MODEL_OF[request.param](builder.graph()))


def test_answers_do_not_depend_on_the_batch(runner: Runner, builder: GraphBuilder) -> None:
    images = builder.images(7)["image"]
    output = builder.graph().outputs[0]
    together = runner.run({"image": images})[output]
    alone = [runner.run({"image": image[np.newaxis]})[output] for image in images]
    assert together.shape == (7, 5)
    np.testing.assert_allclose(np.concatenate(alone), together, atol=FLOAT32_ROUNDING)


def test_an_answer_survives_the_next_run(runner: Runner, builder: GraphBuilder) -> None:
    output = builder.graph().outputs[0]
    first = runner.run(builder.images(2))[output]
    kept = first.copy()
    runner.run(builder.images(2))
    np.testing.assert_array_equal(first, kept)


def test_a_runner_tells_kernels_and_versions(runner: Runner) -> None:
    assert runner.info.name in RUNNERS
    assert runner.info.kernels
    assert runner.info.versions
    assert runner.inputs == ("image",)
    runner.close()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "input 'image' is missing"),
        ({"image": np.zeros((2, 5, 4, 3), np.float32)}, r"\(2, 5, 4, 3\)"),
    ],
)
def test_wrong_inputs_are_told(runner: Runner, inputs: dict, message: str) -> None:
    with pytest.raises(KerasQuantError, match=message):
        runner.run(inputs)


def test_kernels_left_to_the_builtin_library_are_told() -> None:
    graph = Graph(
        name="pixels",
        inputs=("image",),
        outputs=("codes",),
        tensors={
            "image": Tensor(name="image", shape=(4, 4, 3)),
            "pixels": Tensor(name="pixels", shape=(4, 4, 3), qparams=unsigned(8, 0.5)),
            "codes": Tensor(name="codes", shape=(4, 4, 3), qparams=unsigned(4, 0.5)),
        },
        nodes=(
            Node(name="quantize", op="quantize", inputs=("image",), output="pixels"),
            Node(name="clamp", op="requantize", inputs=("pixels",), output="codes"),
        ),
    )
    kernels = LiteRTRunner(emit_tflite(graph, options=TFLiteOptions(input="uint8"))).info.kernels
    assert kernels == ("XNNPACK", "builtin QUANTIZE")


@pytest.mark.parametrize("form", FORMATS.values(), ids=list(FORMATS))
@pytest.mark.parametrize("damage", ["empty", "garbage", "truncated"])
def test_a_damaged_file_is_a_model_error(
    form: Format, damage: str, builder: GraphBuilder, tmp_path: Path
) -> None:
    whole = form.definition.emit(builder.graph())
    content = {"empty": b"", "garbage": bytes(1000), "truncated": whole[: len(whole) // 2]}
    path = tmp_path / f"model{form.suffix}"
    path.write_bytes(content[damage])
    with pytest.raises(
        ModelError, match=rf"model\{form.suffix}: not an? .* model that .* can load"
    ):
        form.definition.runner(path)


@pytest.mark.parametrize("form", FORMATS.values(), ids=list(FORMATS))
def test_a_missing_file_is_a_model_error(form: Format, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        form.definition.runner(tmp_path / "none")


def test_onnxruntime_refuses_files_with_integer_inputs() -> None:
    info = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.UINT8, ["n", 4]) for n in "xy"]
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", info[:1], info[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    runner = OnnxRuntimeRunner(model.SerializeToString())
    with pytest.raises(DataError, match=r"'x' of the file is tensor\(uint8\); tensor\(float\)"):
        runner.run({"x": np.ones((1, 4), np.float32)})


@pytest.mark.tensorflow
def test_litert_rounds_floats_for_files_with_integer_inputs() -> None:
    pytest.importorskip("tensorflow")
    from keras_quant.tf import keras, tf

    model = keras.Sequential([keras.layers.Dense(2, input_shape=(4,))])
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: [[np.array([[-1, 0, 1, 1.55]], np.float32)]]
    converter.inference_input_type = tf.int8
    runner = LiteRTRunner(converter.convert())
    (name,) = runner.inputs  # 256 codes from -1 to 1.55: steps of 0.01 from -128 on
    reals = np.array([[-1.5, 0.004, 0.006, 9]], np.float32)
    codes = np.array([[-128, -28, -27, 127]], np.int8)
    (given,) = runner.run({name: reals}).values()
    np.testing.assert_array_equal(given, *runner.run({name: codes}).values())
    with pytest.raises(DataError, match="of the file is int8; float64 was given"):
        runner.run({name: reals.astype(np.float64)})
