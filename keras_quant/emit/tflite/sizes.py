"""What takes the bytes of a TFLite file: the constants of each layer, and all the rest."""

from __future__ import annotations

import gzip
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ai_edge_litert import schema_py_generated as schema

# Places of fields in the tables of the format's schema: Buffer, and QuantizationParameters.
_DATA, _SCALE, _ZERO_POINT = 4, 8, 10
_ELEMENT_BYTES = {_SCALE: 4, _ZERO_POINT: 8}  # float32, int64


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBytes:
    """The bytes of a file.

    Attributes:
        total: length of the file.
        gzip: length of the file as gzip packs it: what a download of it takes, and where zeros
            and few different codes pay.
        layers: for each layer, its constants with their scales and zero points; 0 where it has
            none. What is stored once, such as constants of equal bytes and zero points of an
            equal number of channels, counts for the first layer.
        structure: the rest: operators, tensors, names, metadata.
    """

    total: int
    gzip: int
    layers: dict[str, int]
    structure: int


def measure_tflite(content: bytes, layers: Collection[str]) -> FileBytes:
    """Shares out the bytes of a file that `emit_tflite` wrote.

    Args:
        layers: names of the graph's nodes; a constant "conv1/weight" belongs to "conv1".
    """
    model = schema.Model.GetRootAs(content)
    found = dict.fromkeys(layers, 0)
    counted: set[int] = set()
    subgraph = model.Subgraphs(0)
    for index in range(subgraph.TensorsLength()):
        tensor = subgraph.Tensors(index)
        layer = _layer_of(tensor.Name().decode(), found)
        constant = model.Buffers(tensor.Buffer())
        if layer is None or constant.DataLength() == 0:
            continue
        for place, size in _vectors(constant, tensor.Quantization()):
            found[layer] += 0 if place in counted else size
            counted.add(place)
    return FileBytes(
        total=len(content),
        gzip=len(gzip.compress(content)),
        layers=found,
        structure=len(content) - sum(found.values()),
    )


def _layer_of(tensor: str, layers: Collection[str]) -> str | None:
    """The longest name of a layer that a tensor's name starts with, up to a slash."""
    parts = tensor.split("/")
    prefixes = ("/".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in layers), None)


def _vectors(
    constant: schema.Buffer, grid: schema.QuantizationParameters | None
) -> Iterator[tuple[int, int]]:
    """Where in the file a constant, its scales and its zero points lie, and their bytes."""
    yield constant._tab.Vector(constant._tab.Offset(_DATA)), constant.DataLength()
    if grid is None:
        return
    for field, element_bytes in _ELEMENT_BYTES.items():
        offset = grid._tab.Offset(field)
        if offset:
            yield grid._tab.Vector(offset), grid._tab.VectorLen(offset) * element_bytes
