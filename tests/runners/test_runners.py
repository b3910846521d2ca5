"""What holds for every runner, and LiteRT's own."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from keras_quant.emit.onnx_tensorrt.emit import emit_onnx_tensorrt
from keras_quant.emit.onnx_x86.emit import emit_onnx_x86
from keras_quant.emit.onnx_x86.weights import PRECISION_OPTION
from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.emit.tflite.options import TFLiteOptions
from keras_quant.errors import DataError, KerasQuantError, ModelError
from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.preprocessing import METADATA_KEY, PREPROCESSINGS, Preprocessing
from keras_quant.proof.formats import FORMATS, Format
from keras_quant.proof.formats.definition import Card
from keras_quant.qparams import unsigned
from keras_quant.runners import Runner
from keras_quant.runners.child import ChildRunner
from keras_quant.runners.litert import LiteRTRunner
from keras_quant.runners.onnxruntime import OnnxRuntimeRunner, UnoptimizedRunner
from tests.emit.random_graphs import GraphBuilder, small_classifier

FLOAT32_ROUNDING = 1e-5


def in_child(name: str) -> Callable[[bytes], Runner]:
    """What runs the bytes of a file in a child process."""

    def load(content: bytes) -> Runner:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"model{FORMATS[name].suffix}"
            path.write_bytes(content)
            return ChildRunner(FORMATS[name].runner, path)

    return load


RUNNERS: dict[str, Callable[..., Runner]] = {
    "tflite": LiteRTRunner,
    "tflite of a fixed batch": LiteRTRunner,
    "onnx": OnnxRuntimeRunner,
    "onnx of a fixed batch": OnnxRuntimeRunner,
    "tensorrt": UnoptimizedRunner,
    **{f"{name} in a child": in_child(name) for name in FORMATS},
}
FIXED = 3


def with_batch(content: bytes, batch: int | str) -> bytes:
    """An ONNX file whose inputs and outputs have another batch axis."""
    model = onnx.load_model_from_string(content)
    for value in (*model.graph.input, *model.graph.output):
        axis = value.type.tensor_type.shape.dim[0]
        axis.Clear()
        setattr(axis, "dim_param" if isinstance(batch, str) else "dim_value", batch)
    return model.SerializeToString()


EMIT: dict[str, Callable[[Graph], bytes]] = {
    "tflite": emit_tflite,
    "tflite of a fixed batch": lambda graph: emit_tflite(graph, options=TFLiteOptions(batch=FIXED)),
    "onnx": emit_onnx_x86,
    "onnx of a fixed batch": lambda graph: with_batch(emit_onnx_x86(graph), FIXED),
    "tensorrt": emit_onnx_tensorrt,
    "tflite in a child": emit_tflite,
    "onnx in a child": emit_onnx_x86,
    "tensorrt in a child": emit_onnx_tensorrt,
}


@pytest.fixture(scope="module")
def builder() -> GraphBuilder:
    return small_classifier()


@pytest.fixture(params=RUNNERS)
def runner(request: pytest.FixtureRequest, builder: GraphBuilder) -> Runner:
    return RUNNERS[request.param](EMIT[request.param](builder.graph()))


def test_every_format_has_its_runner_tried() -> None:
    assert {form.definition.runner for form in FORMATS.values()} <= set(RUNNERS.values())


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_a_child_runs_a_file_by_the_runner_of_its_format(form: Format) -> None:
    module, _, name = form.runner.partition(":")
    assert getattr(importlib.import_module(module), name) is form.definition.runner


def test_answers_do_not_depend_on_the_batch(runner: Runner, builder: GraphBuilder) -> None:
    images = builder.images(7)["image"]
    output = builder.graph().outputs[0]
    together = runner.run({"image": images})[output]
    alone = [runner.run({"image": image[np.newaxis]})[output] for image in images]
    assert together.shape == (7, 5)
    tolerance = FLOAT32_ROUNDING * np.abs(together).max()
    np.testing.assert_allclose(np.concatenate(alone), together, atol=tolerance)


def test_an_answer_survives_the_next_run(runner: Runner, builder: GraphBuilder) -> None:
    output = builder.graph().outputs[0]
    first = runner.run(builder.images(2))[output]
    kept = first.copy()
    runner.run(builder.images(2))
    np.testing.assert_array_equal(first, kept)


def test_what_was_prepared_is_computed_as_often_as_it_is_asked(
    runner: Runner, builder: GraphBuilder
) -> None:
    output = builder.graph().outputs[0]
    images = builder.images(7)
    wanted = runner.run(images)[output]
    infer = runner.prepare(images)
    for _ in range(2):
        np.testing.assert_array_equal(infer()[output], wanted)


def test_a_runner_tells_kernels_and_versions(runner: Runner) -> None:
    assert runner.info.name in ("litert", "onnxruntime")
    assert runner.info.kernels
    assert runner.info.versions
    assert runner.inputs == ("image",)


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


def pixels_to_four_bits() -> Graph:
    """Codes of pixels become fewer ones, which XNNPACK does not do from uint8."""
    return Graph(
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


def test_kernels_left_to_the_builtin_library_are_told() -> None:
    content = emit_tflite(pixels_to_four_bits(), options=TFLiteOptions(input="uint8"))
    kernels = LiteRTRunner(content).info.kernels
    assert kernels == ("XNNPACK", "builtin QUANTIZE")


@pytest.mark.parametrize("kind", ["tflite", "onnx", "tensorrt"])
def test_outputs_come_in_the_files_order(kind: str, builder: GraphBuilder) -> None:
    graph = builder.graph()
    wanted = [graph.outputs[0], *(node.output for node in reversed(graph.nodes[:-1]))]
    assert wanted != sorted(wanted)
    found = RUNNERS[kind](FORMATS[kind].definition.emit(graph, outputs=wanted))
    assert list(found.run(builder.images(2))) == wanted


@pytest.mark.parametrize("runner", [OnnxRuntimeRunner, UnoptimizedRunner])
def test_weights_of_an_onnx_file_may_lie_beside_it(
    runner: Callable[..., Runner], builder: GraphBuilder, tmp_path: Path
) -> None:
    content, images = emit_onnx_x86(builder.graph()), builder.images(2)
    model = onnx.load_model_from_string(content)
    beside = {"save_as_external_data": True, "location": "weights", "size_threshold": 64}
    onnx.save(model, tmp_path / "model.onnx", **beside)
    assert (tmp_path / "weights").stat().st_size > 0
    (found,) = runner(tmp_path / "model.onnx").run(images).values()
    np.testing.assert_array_equal(found, *runner(content).run(images).values())
    (tmp_path / "weights").unlink()
    with pytest.raises(ModelError, match=r"model.onnx: not an ONNX model that .* can load"):
        runner(tmp_path / "model.onnx")


def keep_in(model: onnx.ModelProto, location: str) -> bytes:
    """A model whose first initializer says that its values lie in another file."""
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return model.SerializeToString()


@pytest.mark.parametrize("location", ["../weights", "/{}/weights", "link"])
def test_weights_outside_of_the_folder_are_refused(
    location: str, builder: GraphBuilder, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "weights").write_bytes(bytes(10_000))
    (folder / "link").symlink_to(tmp_path / "weights")
    model = onnx.load_model_from_string(emit_onnx_x86(builder.graph()))
    content = keep_in(model, location.format(tmp_path))
    (folder / "model.onnx").write_bytes(content)
    for given in (folder / "model.onnx", content):
        with pytest.raises(ModelError, match=r"lie in .*; only files in the model's own folder"):
            OnnxRuntimeRunner(given)


def test_an_axis_that_a_file_leaves_open_takes_any_length() -> None:
    info = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", "m"]) for n in "xy"]
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", info[:1], info[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    runner = OnnxRuntimeRunner(model.SerializeToString())
    assert runner.run({"x": np.ones((2, 5), np.float32)})["y"].shape == (2, 5)


def test_what_onnxruntime_cannot_compute_is_a_model_error() -> None:
    info = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", "m"]) for n in "xy"]
    target = onnx.numpy_helper.from_array(np.array([-1, 3]), "shape")
    node = onnx.helper.make_node("Reshape", ["x", "shape"], ["y"])
    graph = onnx.helper.make_graph([node], "g", info[:1], info[1:], initializer=[target])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    runner = OnnxRuntimeRunner(model.SerializeToString())
    with pytest.raises(ModelError, match="the given bytes: ONNX Runtime cannot compute it"):
        runner.run({"x": np.ones((2, 4), np.float32)})


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


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("known", [None, *PREPROCESSINGS.values()], ids=str)
def test_a_file_tells_what_pixels_become(
    form: Format, known: Preprocessing | None, builder: GraphBuilder
) -> None:
    definition = form.definition
    content = definition.emit(builder.graph(), card=Card(name="net", preprocessing=known))
    info = definition.runner(content).info
    assert info.preprocessing == known and not info.takes_pixels
    assert definition.runner(definition.emit(builder.graph())).info.preprocessing is None


def test_a_damaged_preprocessing_of_an_onnx_file_is_told(builder: GraphBuilder) -> None:
    metadata = {METADATA_KEY: '{"name": "x", "std": [-1]}'}
    content = emit_onnx_x86(builder.graph(), metadata=metadata)
    with pytest.raises(ModelError, match=r"is damaged: std\[0\] is -1.0; .* Export it again"):
        OnnxRuntimeRunner(content)


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize(
    "entry", [("session.intra_op.allow_spinning", "0"), (PRECISION_OPTION, "2")]
)
def test_session_options_other_than_ours_are_refused(
    entry: tuple[str, str], optimize: bool, builder: GraphBuilder
) -> None:
    content = emit_onnx_x86(builder.graph(), metadata=dict([entry]))
    told = rf"the given bytes: its metadata name session options: {'='.join(entry)}; only "
    with pytest.raises(ModelError, match=rf"{told}{PRECISION_OPTION}=1 is set. Remove these"):
        OnnxRuntimeRunner(content, optimize=optimize)
    OnnxRuntimeRunner(emit_onnx_x86(builder.graph(), metadata={PRECISION_OPTION: "1"}))
