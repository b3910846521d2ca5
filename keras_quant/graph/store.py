"""A graph in one file: a zip of graph.json and one .npy for each array, nothing pickled."""

from __future__ import annotations

import contextlib
import io
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from keras_quant.errors import GraphError
from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.graph.verify import verify
from keras_quant.qparams import QParams

FORMAT_VERSION = 1
SUFFIX = ".kqgraph"
# What a file may unpack to: so much, or so many times its size where that is more. Kernels of 1
# bit, stored as bytes, compress to a sixth; of 2 bits, 95 % of them 0, to a fifteenth.
UNPACKED_BYTES, UNPACKED_TIMES = 2**26, 100
# Values of one tensor, for one image: an image of 16 megapixels with 4 channels.
VALUES = 2**26
_STRUCTURE = "graph.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the zip format's first date: equal graphs give equal files

Store = Callable[[np.ndarray | None], Any]
"""Keeps an array, and gives what JSON says of where it is; None for None."""

Fetch = Callable[[Any], np.ndarray | None]
"""Gives back what a Store kept."""


def pack_graph(graph: Graph) -> bytes:
    """Gives the bytes of a graph's file; equal graphs give equal bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:

        def store(array: np.ndarray | None) -> str | None:
            return None if array is None else write_array(archive, array)

        structure = {"format_version": FORMAT_VERSION, **graph_to_json(graph, store)}
        write_json(archive, structure)
    return packed.getvalue()


def load_graph(path: str | Path) -> Graph:
    """Reads a file of `pack_graph`'s bytes, and verifies the graph.

    Raises:
        GraphError: the file is missing, broken, newer than this package, or breaks a rule.
    """
    with opened(path, version=FORMAT_VERSION) as (archive, content):

        def fetch(name: str | None) -> np.ndarray | None:
            return None if name is None else read_array(archive, name)

        return checked(graph_from_json(content, fetch), path)


@contextlib.contextmanager
def opened(
    path: str | Path, *, version: int, remedy: str = "Export it again."
) -> Iterator[tuple[zipfile.ZipFile, dict[str, Any]]]:
    """Opens a zip of JSON and arrays, and makes one error of whatever is wrong with it.

    Args:
        version: of its format, the newest that is known.
        remedy: what to do where the file is missing or broken.
    Returns: the archive, and what its JSON says.
    Raises:
        GraphError: as `load_graph`; also for what goes wrong in the block.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(archive, path)
            content = json.loads(archive.read(_STRUCTURE))
            _check_version(content["format_version"], version, path)
            yield archive, content
    except GraphError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise GraphError(f"{path}: cannot be read: {reason}. {remedy}") from error
    except Exception as error:  # broken bytes can end in any error of zipfile, json or numpy
        reason = f"{type(error).__name__}: {error}"
        raise GraphError(f"{path}: not a whole graph file ({reason}). {remedy}") from error


def checked(graph: Graph, path: str | Path) -> Graph:
    """A graph that was read, if it breaks no rule.

    Raises:
        GraphError: it does.
    """
    _check_tensors(graph, path)
    verify(graph)
    return graph


def write_array(archive: zipfile.ZipFile, array: np.ndarray) -> str:
    """Adds an array to a file; gives the name by which it is read."""
    name = f"{len(archive.namelist())}.npy"
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    _write(archive, name, content.getvalue())
    return name


def read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Reads an array of a file."""
    array: np.ndarray = np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
    return array


def write_json(archive: zipfile.ZipFile, content: Mapping[str, Any]) -> None:
    """Adds what says what is where: JSON that gives back each float exactly."""
    text = json.dumps(content, default=lambda scalar: scalar.item())  # numpy's become plain
    _write(archive, _STRUCTURE, text.encode())


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)


def _check_size(archive: zipfile.ZipFile, path: str | Path) -> None:
    size = Path(path).stat().st_size
    allowed = max(UNPACKED_BYTES, UNPACKED_TIMES * size)
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > allowed:
        raise GraphError(
            f"{path}: has {size:,} bytes, and its content {unpacked:,}; {allowed:,} are allowed. "
            "Export it again."
        )


def _check_tensors(graph: Graph, path: str | Path) -> None:
    for tensor in graph.tensors.values():
        if math.prod(tensor.shape) > VALUES:
            raise GraphError(
                f"{path}: tensor {tensor.name!r} has shape {tensor.shape}; {VALUES:,} values are "
                "allowed. Export it again."
            )


def _check_version(version: int, known: int, path: str | Path) -> None:
    if version > known:
        raise GraphError(
            f"{path}: written by a newer keras_quant (format {version}; this one reads up to "
            f"{known}). Upgrade keras_quant."
        )


def graph_to_json(graph: Graph, store: Store) -> dict[str, Any]:
    """What JSON says of a graph, whose arrays are kept elsewhere."""
    return {
        "name": graph.name,
        "inputs": graph.inputs,
        "outputs": graph.outputs,
        "tensors": [_tensor_to_json(tensor) for tensor in graph.tensors.values()],
        "nodes": [_node_to_json(node, store) for node in graph.nodes],
    }


def graph_from_json(content: dict[str, Any], fetch: Fetch) -> Graph:
    """The graph of which JSON says so; it is not verified."""
    tensors = [_tensor_from_json(item) for item in content["tensors"]]
    return Graph(
        name=content["name"],
        inputs=tuple(content["inputs"]),
        outputs=tuple(content["outputs"]),
        tensors={tensor.name: tensor for tensor in tensors},
        nodes=tuple(_node_from_json(item, fetch) for item in content["nodes"]),
    )


def _tensor_to_json(tensor: Tensor) -> dict[str, Any]:
    qparams = None if tensor.qparams is None else asdict(tensor.qparams)
    return {"name": tensor.name, "shape": tensor.shape, "qparams": qparams}


def _tensor_from_json(item: dict[str, Any]) -> Tensor:
    values = item["qparams"]
    return Tensor(
        name=item["name"],
        shape=tuple(item["shape"]),
        qparams=None if values is None else QParams(**values),
    )


def _node_to_json(node: Node, store: Store) -> dict[str, Any]:
    return {
        "name": node.name,
        "op": node.op,
        "inputs": node.inputs,
        "output": node.output,
        "attrs": dict(node.attrs),
        "layers": node.layers,
        "bias": store(node.bias),
        "table": store(node.table),
        "weight": None if node.weight is None else _weight_to_json(node.weight, store),
    }


def _weight_to_json(weight: Weight, store: Store) -> dict[str, Any]:
    return {
        "values": store(weight.values),
        "scale": store(weight.scale),
        "bits": weight.bits,
        "multiplier": store(weight.multiplier),
    }


def _node_from_json(item: dict[str, Any], fetch: Fetch) -> Node:
    weight = item["weight"]
    return Node(
        name=item["name"],
        op=item["op"],
        inputs=tuple(item["inputs"]),
        output=item["output"],
        attrs={name: _as_tuples(value) for name, value in item["attrs"].items()},
        layers=tuple(item["layers"]),
        bias=fetch(item["bias"]),
        table=fetch(item.get("table")),
        weight=None if weight is None else _weight_from_json(weight, fetch),
    )


def _weight_from_json(item: dict[str, Any], fetch: Fetch) -> Weight:
    values = fetch(item["values"])
    if values is None:
        raise ValueError("a weight without values")
    return Weight(
        values=values,
        scale=fetch(item["scale"]),
        bits=item["bits"],
        multiplier=fetch(item["multiplier"]),
    )


def _as_tuples(value: Any) -> Any:
    """JSON knows only lists; attributes hold tuples."""
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value
