"""What a TFLite file says of itself: labels, and how images become its input.

Android's task libraries and the TFLite code generators read a second flatbuffer, kept as a
buffer of the first, and text files from a zip archive at the file's end. Format:
https://github.com/tensorflow/tflite-support, tensorflow_lite_support/metadata/
metadata_schema.fbs, version 1.0.0; slots are numbered in the order of its fields.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import flatbuffers

from keras_quant.errors import EmitError
from keras_quant.graph.ir import Graph
from keras_quant.preprocessing import METADATA_KEY, Preprocessing, describe, preprocessing_to_json

METADATA_NAME = "TFLITE_METADATA"  # where readers look for it
LABELS_FILE = "labels.txt"
FILE_IDENTIFIER = b"M001"
PARSER_VERSION = "1.0.0"
# Enumerations of the schema.
IMAGE_PROPERTIES, FEATURE_PROPERTIES = 2, 1
NORMALIZATION_OPTIONS = 1
TENSOR_AXIS_LABELS = 2
COLOR_SPACES = {1: 2, 3: 1}
"""Channels of an image to its color space: grayscale and RGB."""
# A zip archive's first date: equal models have equal bytes.
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)

Field = Callable[[flatbuffers.Builder, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TFLiteMetadata:
    """What a file says of itself.

    Attributes:
        name: of the model.
        description: a line on what it does.
        labels: name of each class, in the order of the first output; () for none.
        preprocessing: what becomes of a pixel of 0 to 255 in front of a float input; None for
            nothing known. An int8 or uint8 input takes its codes, as its scale and zero point say.
    """

    name: str
    description: str = "Image classifier, quantized with keras_quant"
    labels: Sequence[str] = ()
    preprocessing: Preprocessing | None = None


def pack_metadata(graph: Graph, metadata: TFLiteMetadata) -> bytes:
    """Gives the metadata's flatbuffer.

    Args:
        graph: that the file is made of; tensors are described in its order.
    Raises:
        EmitError: there are not as many labels as the first output has classes.
    """
    classes = graph.tensors[graph.outputs[0]].shape[-1:]
    if metadata.labels and (len(metadata.labels),) != classes:
        raise EmitError(
            f"there are {len(metadata.labels)} labels; output {graph.outputs[0]!r} has "
            f"{', '.join(map(str, classes)) or 'no'} classes. Give one label for each."
        )
    builder = flatbuffers.Builder(1024)
    inputs = [_input(builder, graph, name, metadata) for name in graph.inputs]
    outputs = [
        _output(builder, name, has_labels=bool(metadata.labels) and name == graph.outputs[0])
        for name in graph.outputs
    ]
    subgraph = _table(builder, {2: _tables(builder, inputs), 3: _tables(builder, outputs)})
    root = _table(
        builder,
        {
            0: _string(builder, metadata.name),
            1: _string(builder, _description(metadata)),
            3: _tables(builder, [subgraph]),
            7: _string(builder, PARSER_VERSION),
        },
    )
    builder.Finish(root, FILE_IDENTIFIER)
    return bytes(builder.Output())


def metadata_entries(graph: Graph, metadata: TFLiteMetadata) -> dict[str, bytes]:
    """Gives the buffers that the file keeps, by name: the metadata, and the preprocessing as JSON.

    The first knows no order of channels but RGB.

    Raises:
        EmitError: as pack_metadata.
    """
    entries = {METADATA_NAME: pack_metadata(graph, metadata)}
    if metadata.preprocessing is not None:
        entries[METADATA_KEY] = preprocessing_to_json(metadata.preprocessing).encode()
    return entries


def append_files(model: bytes, metadata: TFLiteMetadata) -> bytes:
    """Gives a model's bytes with its label file behind them, where it has labels."""
    if not metadata.labels:
        return model
    content = io.BytesIO(model)
    with zipfile.ZipFile(content, "a") as archive:
        entry = zipfile.ZipInfo(LABELS_FILE, ZIP_EPOCH)
        archive.writestr(entry, "".join(f"{label}\n" for label in metadata.labels))
    return content.getvalue()


def _input(builder: flatbuffers.Builder, graph: Graph, name: str, metadata: TFLiteMetadata) -> int:
    fields = {0: _string(builder, name)}
    given = metadata.preprocessing
    if given is not None:
        count = max(len(given.mean), len(given.std))  # one for all channels, or one for each
        values = [v * count if len(v) < count else v for v in (given.mean, given.std)]
        options = _table(builder, {slot: _floats(builder, v) for slot, v in enumerate(values)})
        unit = _table(builder, {0: _byte(NORMALIZATION_OPTIONS), 1: _offset(options)})
        fields[4] = _tables(builder, [unit])
    shape = graph.tensors[name].shape
    color_space = COLOR_SPACES.get(shape[-1]) if len(shape) == 3 else None
    if color_space is not None:
        image = _table(builder, {0: _byte(color_space)})
        content = _table(builder, {0: _byte(IMAGE_PROPERTIES), 1: _offset(image)})
        fields[3] = _offset(content)
    return _table(builder, fields)


def _description(metadata: TFLiteMetadata) -> str:
    given = metadata.preprocessing
    return metadata.description + (f". Input: {describe(given)}" if given is not None else "")


def _output(builder: flatbuffers.Builder, name: str, *, has_labels: bool) -> int:
    features = _table(builder, {})
    content = _table(builder, {0: _byte(FEATURE_PROPERTIES), 1: _offset(features)})
    fields = {0: _string(builder, name), 3: _offset(content)}
    if has_labels:
        labels = {0: _string(builder, LABELS_FILE), 2: _byte(TENSOR_AXIS_LABELS)}
        fields[6] = _tables(builder, [_table(builder, labels)])
    return _table(builder, fields)


def _table(builder: flatbuffers.Builder, fields: Mapping[int, Field]) -> int:
    """Writes a table; its children must have been written."""
    builder.StartObject(max(fields, default=-1) + 1)
    for slot, write in fields.items():
        write(builder, slot)
    end: int = builder.EndObject()
    return end


def _byte(value: int) -> Field:
    return lambda builder, slot: builder.PrependInt8Slot(slot, value, 0)


def _offset(written: int) -> Field:
    return lambda builder, slot: builder.PrependUOffsetTRelativeSlot(slot, written, 0)


def _string(builder: flatbuffers.Builder, text: str) -> Field:
    return _offset(builder.CreateString(text))


def _floats(builder: flatbuffers.Builder, values: Sequence[float]) -> Field:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return _offset(builder.EndVector())


def _tables(builder: flatbuffers.Builder, written: Sequence[int]) -> Field:
    builder.StartVector(4, len(written), 4)
    for offset in reversed(written):
        builder.PrependUOffsetTRelative(offset)
    return _offset(builder.EndVector())
