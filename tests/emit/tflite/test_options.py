"""What a file takes, gives and weighs, as its user chose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.emit.tflite.options import TFLiteOptions
from keras_quant.errors import EmitError, UsageError
from keras_quant.graph.ir import Graph
from keras_quant.graph.passes.integer_head import integer_head
from keras_quant.graph.passes.realize import realize
from keras_quant.graph.reference import run_reference
from keras_quant.pixels import normalize
from keras_quant.preprocessing import UNIT
from keras_quant.qparams import unsigned
from keras_quant.runners.litert import LiteRTRunner

PIXELS = (
    np.arange(256, dtype=np.uint8)[:, None, None, None].repeat(72, axis=0).reshape(256, 6, 6, 2)
)


@pytest.fixture
def realized(graph: Graph) -> Graph:
    """The small graph, with one scale wherever codes are added."""
    tensors = dict(graph.tensors)
    tensors["sums"] = replace(tensors["sums"], qparams=unsigned(6, 0.25))
    return realize(replace(graph, tensors=tensors)).graph


def run(model: bytes, images: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=model)
    given, gives = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert given["dtype"] == images.dtype
    interpreter.resize_tensor_input(given["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], images)
    interpreter.invoke()
    return interpreter.get_tensor(gives["index"])


@pytest.mark.parametrize(
    ("kind", "images"),
    [
        ("float", normalize(PIXELS, UNIT)),
        ("uint8", PIXELS),
        ("int8", (PIXELS.astype(np.int16) - 128).astype(np.int8)),
    ],
)
def test_every_pixel_means_the_same_in_each_input_type(
    realized: Graph, kind: str, images: np.ndarray
) -> None:
    options = TFLiteOptions(input=kind)
    for name in ["pixels", "features"]:
        model = emit_tflite(realized, outputs=[name], options=options)
        given = LiteRTRunner(model).run({"image": normalize(PIXELS, UNIT)})[name]
        np.testing.assert_array_equal(given, run(model, images))
        wanted = run_reference(realized, {"image": normalize(PIXELS, UNIT)}, keep=[name])[name]
        shift = 127 - realized.tensors[name].qparams.qmax
        np.testing.assert_array_equal(run(model, images).astype(int) - shift, wanted)


def test_an_input_of_fewer_codes_cannot_be_given_as_codes(realized: Graph) -> None:
    pixels = replace(realized.tensors["pixels"], qparams=unsigned(4, 1 / 16))
    graph = replace(realized, tensors={**realized.tensors, "pixels": pixels})
    with pytest.raises(EmitError, match="input 'image' is rounded to 16 codes of scale 0.0625"):
        emit_tflite(graph, options=TFLiteOptions(input="uint8"))


def test_an_input_that_floats_are_computed_from_cannot_be_given_as_codes(realized: Graph) -> None:
    softmax = replace(realized.nodes[0], name="peek", op="softmax", output="peek")
    peek = replace(realized.tensors["image"], name="peek")
    graph = replace(
        realized, nodes=(*realized.nodes, softmax), tensors={**realized.tensors, "peek": peek}
    )
    with pytest.raises(EmitError, match="input 'image' is read as float by peek"):
        emit_tflite(graph, options=TFLiteOptions(input="int8"))


@pytest.mark.parametrize(("batch", "signature"), [(None, -1), (1, 1), (3, 3)])
def test_the_batch_is_free_or_fixed(realized: Graph, batch: int | None, signature: int) -> None:
    model = emit_tflite(realized, options=TFLiteOptions(batch=batch))
    (image,) = Interpreter(model_content=model).get_input_details()
    assert image["shape_signature"].tolist() == [signature, 6, 6, 2]
    assert image["shape"][0] == (batch or 1)


def test_an_integer_head_answers_as_its_own_reference(realized: Graph) -> None:
    graph = integer_head(realized)
    model = emit_tflite(graph, options=TFLiteOptions(input="uint8", head="int8"))
    wanted = run_reference(graph, {"image": normalize(PIXELS, UNIT)})["logits"]
    np.testing.assert_array_equal(run(model, PIXELS), wanted)
    types = {details["dtype"] for details in Interpreter(model_content=model).get_tensor_details()}
    assert np.float32 not in types


def test_floats_in_a_file_that_shall_be_integer_are_told(realized: Graph) -> None:
    with pytest.raises(EmitError, match="'head': dense gives floats.*integer_head"):
        emit_tflite(realized, options=TFLiteOptions(head="int8"))


def test_an_add_that_takes_floats_is_told_in_a_file_that_shall_be_integer(graph: Graph) -> None:
    head = integer_head(realize(graph).graph)
    with pytest.raises(EmitError, match="'add': add gives floats.*add only codes of one scale"):
        emit_tflite(head, options=TFLiteOptions(head="int8"))


def test_all_wrong_options_are_told_at_once() -> None:
    with pytest.raises(UsageError, match="pack is 'tiny'; none, fast, smallest .*batch is 0; 1 or"):
        TFLiteOptions(pack="tiny", batch=0)
