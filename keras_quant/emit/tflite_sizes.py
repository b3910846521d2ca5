"""What takes the bytes of a TFLite file: the constants of each layer, and all the rest."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ai_edge_litert import schema_py_generated as schema

_SCALE_BYTES = 4  # float32
_ZERO_POINT_BYTES = 8  # int64


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBytes:
    """The bytes of a file.

    Attributes:
        total: length of the file.
        layers: for each layer, its constants with their scales and zero points; 0 where it has
            none. Constants of equal bytes are stored once, and count for the first layer.
        structure: the rest: operators, tensors, names, metadata.
    """

    total: int
    layers: dict[str, int]
    structure: int


def measure_tflite(content: bytes, layers: Collection[str]) -> FileBytes:
    """Shares out the bytes of a file that `emit_tflite` wrote.

    Args:
        layers: names of the graph's nodes; a constant "conv1/weight" belongs to "conv1".
    """
    model = schema.Model.GetRootAs(content)
    found = dict.fromkeys(layers, 0)
    counted = set()
    subgraph = model.Subgraphs(0)
    for index in range(subgraph.TensorsLength()):
        tensor = subgraph.Tensors(index)
        layer = _layer_of(tensor.Name().decode(), found)
        buffer = tensor.Buffer()
        data = model.Buffers(buffer).DataLength()
        if layer is None or data == 0:
            continue
        found[layer] += _grid_bytes(tensor) + (0 if buffer in counted else data)
        counted.add(buffer)
    return FileBytes(total=len(content), layers=found, structure=len(content) - sum(found.values()))


def _layer_of(tensor: str, layers: Collection[str]) -> str | None:
    """The longest name of a layer that a tensor's name starts with, up to a slash."""
    parts = tensor.split("/")
    prefixes = ("/".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in layers), None)


def _grid_bytes(tensor: schema.Tensor) -> int:
    grid = tensor.Quantization()
    if grid is None:
        return 0
    return grid.ScaleLength() * _SCALE_BYTES + grid.ZeroPointLength() * _ZERO_POINT_BYTES
