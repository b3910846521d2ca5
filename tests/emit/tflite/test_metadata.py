"""What a file says of itself, read slot by slot as metadata_schema.fbs numbers them."""

from __future__ import annotations

import dataclasses
import io
import zipfile

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import encode, number_types, table

from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.emit.tflite.metadata import TFLiteMetadata
from keras_quant.errors import EmitError, ModelError
from keras_quant.graph.ir import Graph
from keras_quant.graph.passes.realize import realize
from keras_quant.preprocessing import PREPROCESSINGS, UNIT, Preprocessing
from keras_quant.runners.litert import LiteRTRunner

LABELS = ("cat", "dog", "Käfer")
METADATA = TFLiteMetadata(name="small", description="a test", labels=LABELS, preprocessing=UNIT)


class Slots:
    """A table of a flatbuffer."""

    def __init__(self, content: bytes, position: int) -> None:
        self._table = table.Table(content, position)

    def _field(self, slot: int) -> int:
        offset = self._table.Offset(4 + 2 * slot)
        assert offset, f"slot {slot} is empty"
        return self._table.Pos + offset

    def text(self, slot: int) -> str:
        return self._table.String(self._field(slot)).decode()

    def number(self, slot: int) -> int:
        return self._table.Get(number_types.Int8Flags, self._field(slot))

    def child(self, slot: int) -> Slots:
        return Slots(self._table.Bytes, self._table.Indirect(self._field(slot)))

    def children(self, slot: int) -> list[Slots]:
        vector = self._field(slot) - self._table.Pos
        start, count = self._table.Vector(vector), self._table.VectorLen(vector)
        return [
            Slots(self._table.Bytes, self._table.Indirect(start + 4 * index))
            for index in range(count)
        ]

    def floats(self, slot: int) -> list[float]:
        vector = self._field(slot) - self._table.Pos
        count, start = self._table.VectorLen(vector), self._table.Vector(vector)
        return np.frombuffer(self._table.Bytes, np.float32, count, start).tolist()


def entries_of(model: bytes) -> dict[bytes, bytes]:
    """The buffers that a file names in its list of metadata."""
    parsed = schema.ModelT.InitFromPackedBuf(model)
    return {entry.name: bytes(parsed.buffers[entry.buffer].data) for entry in parsed.metadata}


def read(model: bytes) -> Slots:
    content = entries_of(model)[b"TFLITE_METADATA"]
    assert content[4:8] == b"M001"
    return Slots(content, encode.Get(number_types.UOffsetTFlags.packer_type, content, 0))


def test_the_metadata_tells_names_normalization_and_labels(graph: Graph) -> None:
    root = read(emit_tflite(realize(graph).graph, metadata=METADATA))
    said = "a test. Input: unit: pixel / 255, 0 to 1"
    assert (root.text(0), root.text(1), root.text(7)) == ("small", said, "1.0.0")
    (subgraph,) = root.children(3)
    (image,), (logits,) = subgraph.children(2), subgraph.children(3)
    assert (image.text(0), logits.text(0)) == ("image", "logits")
    (unit,) = image.children(4)
    assert unit.number(0) == 1  # NormalizationOptions
    assert (unit.child(1).floats(0), unit.child(1).floats(1)) == ([0.0], [255.0])
    (labels,) = logits.children(6)
    assert (labels.text(0), labels.number(2)) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS


@pytest.mark.parametrize(
    ("preprocessing", "mean", "std"),
    [
        (PREPROCESSINGS["tf"], [127.5], [127.5]),
        (PREPROCESSINGS["caffe"], [103.939, 116.779, 123.68], [1.0, 1.0, 1.0]),
        (PREPROCESSINGS["torch"], [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
        (Preprocessing(name="x", mean=(1.0,), std=(2.0, 3.0)), [1.0, 1.0], [2.0, 3.0]),
    ],
)
def test_normalization_is_that_of_the_preprocessing(
    graph: Graph, preprocessing: Preprocessing, mean: list[float], std: list[float]
) -> None:
    metadata = dataclasses.replace(METADATA, preprocessing=preprocessing)
    content = emit_tflite(realize(graph).graph, metadata=metadata)
    (subgraph,) = read(content).children(3)
    (unit,) = subgraph.children(2)[0].children(4)
    assert unit.child(1).floats(0) == pytest.approx(mean)
    assert unit.child(1).floats(1) == pytest.approx(std)
    assert LiteRTRunner(content).info.preprocessing == preprocessing


def test_nothing_is_said_of_pixels_where_nothing_is_known(graph: Graph) -> None:
    metadata = dataclasses.replace(METADATA, preprocessing=None)
    content = emit_tflite(realize(graph).graph, metadata=metadata)
    (subgraph,) = read(content).children(3)
    with pytest.raises(AssertionError, match="slot 4 is empty"):
        subgraph.children(2)[0].children(4)
    assert list(entries_of(content)) == [b"TFLITE_METADATA"]
    assert LiteRTRunner(content).info.preprocessing is None


def test_a_damaged_preprocessing_is_told_when_the_file_is_loaded(graph: Graph) -> None:
    content = emit_tflite(realize(graph).graph, metadata=METADATA)
    assert content.count(b'"std": [255.0]') == 1
    with pytest.raises(ModelError, match=r"(?s)is damaged: std\[0\] is 0.0; .* is allowed"):
        LiteRTRunner(content.replace(b'"std": [255.0]', b'"std": [0.000]'))


def test_labels_lie_in_a_zip_behind_a_model_that_still_runs(graph: Graph) -> None:
    model = emit_tflite(realize(graph).graph, metadata=METADATA)
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        assert archive.read("labels.txt").decode().split() == list(LABELS)
    images = {"image": np.random.default_rng(0).random((2, 6, 6, 2), np.float32)}
    with_metadata, without = (
        LiteRTRunner(content).run(images)["logits"]
        for content in (model, emit_tflite(realize(graph).graph))
    )
    np.testing.assert_array_equal(with_metadata, without)


def test_equal_models_have_equal_bytes(graph: Graph) -> None:
    realized = realize(graph).graph
    first, second = (emit_tflite(realized, metadata=METADATA) for _ in range(2))
    assert first == second
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert archive.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)


def test_a_model_without_labels_has_no_archive(graph: Graph) -> None:
    metadata = TFLiteMetadata(name="small", description="a test")
    model = emit_tflite(realize(graph).graph, metadata=metadata)
    assert not zipfile.is_zipfile(io.BytesIO(model))


def test_too_few_labels_are_told(graph: Graph) -> None:
    metadata = TFLiteMetadata(name="small", description="", labels=("cat",))
    with pytest.raises(EmitError, match="there are 1 labels; output 'logits' has 3 classes"):
        emit_tflite(realize(graph).graph, metadata=metadata)
