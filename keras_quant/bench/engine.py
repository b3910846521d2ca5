"""A TensorRT engine as trtexec --exportLayerInfo describes it: layers, types, ONNX nodes, times.

The inspector's JSON of TensorRT 8 to 10 names inputs and outputs in `Bindings`, and says of a
tensor "Format/Datatype", a sentence that ends with the type; that of 11 has `I/O Tensors`, and
Format and Datatype apart
(https://docs.nvidia.com/deeplearning/tensorrt/11.4.1/api/migration/tensorrt-10x-to-11x-IEngineInspector.html).
What versions add is passed over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keras_quant.errors import ResultsError, shown

REFORMAT, CONVERSION, PRODUCT = "reformat", "Q/DQ", "products"
POOL, POINTWISE, OTHER, NOTHING = "pooling", "pointwise", "other", "nothing"
KINDS = (PRODUCT, REFORMAT, CONVERSION, POOL, POINTWISE, OTHER, NOTHING)
"""What a layer does: PRODUCT is a convolution or a matrix product with what was fused into it,
REFORMAT moves values into another layout or float type, CONVERSION makes codes of floats or floats
of codes, and NOTHING costs nothing."""

# Parts of layers' types, of all versions, as they are in recorded files and the builder's logs.
_PRODUCTS = (
    *("conv", "correlation", "gemm", "fullyconnected"),
    *("matmul", "matrixmultiply", "matrix_multiply"),
)
_TACTICS = ("gemm", "mha", "fprop", "implicit_conv")
_POOLS = ("pool", "reduce")
_POINTWISE = ("pointwise", "elementwise", "activation", "unary", "scale", "kgen", "softmax")
_REFORMATS = ("reformat", "reorg", "shuffle", "transpose", "copy")
# As the inspector calls them; https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/
# c-api/namespacenvinfer1.html (DataType) and the sentences of Format/Datatype.
_TYPES = {
    "float": "fp32",
    "fp32": "fp32",
    "half": "fp16",
    "fp16": "fp16",
    "bfloat16": "bf16",
    "bf16": "bf16",
    "int8": "int8",
    "int4": "int4",
    "fp8": "fp8",
    "fp4": "fp4",
    "int32": "int32",
    "int64": "int64",
    "uint8": "uint8",
    "bool": "bool",
}
UNKNOWN = "unknown"
FLOATS = ("fp32", "fp16", "bf16")
_CODES = ("int8", "int4", "uint8", "fp8")
_ONNX_LAYER = re.compile(r"\[ONNX Layer: (.*?)\]")
# Up to 8.5 only the name of a layer tells what it is made of: weights and nodes between " + ".
NO_NODE = re.compile(
    r"(?:^|\.)(?:weight|bias|running_mean|running_var)$|\(Unnamed Layer|squeeze_(?:node_)?after_"
)
_SUBGRAPH = re.compile(r"\{ForeignNode\[(.*?)\.\.\.(.*)\]\}")
COPY = re.compile(r"Reformatting CopyNode for (?:Input|Output) Tensor \d+ to ")
QDQ_NAME = re.compile(r"(?:de)?quantizelinear", re.IGNORECASE)
_NEEDED = "Build the engine with trtexec --profilingVerbosity=detailed, and export it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTensor:
    """What a layer reads or gives.

    Attributes:
        dimensions: of the engine; -1 where they are open.
        datatype: "int8", "fp16", "fp32", ...; UNKNOWN where the file does not tell.
        layout: as the file has it, with the type's name in versions before 11.
    """

    name: str
    dimensions: tuple[int, ...]
    datatype: str
    layout: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLayer:
    """One layer of an engine: a kernel, or a few.

    Attributes:
        layer_type: TensorRT's word for it: "CaskConvolution", "Reformat", "kgen", ...
        kind: one of KINDS.
        precision: in which it computes: of its weights, where the file tells, else of what it
            reads first. A REFORMAT or CONVERSION has "fp32 to int8".
        onnx_nodes: nodes of the ONNX file that it holds; of its name where the file tells none.
        time_ms: median over the runs of a profile; None without one.
        share: of the time of all layers; None without a profile.
    """

    name: str
    layer_type: str
    kind: str
    precision: str
    inputs: tuple[EngineTensor, ...]
    outputs: tuple[EngineTensor, ...]
    onnx_nodes: tuple[str, ...]
    time_ms: float | None = None
    share: float | None = None

    @property
    def types(self) -> str:
        """The types that it reads and gives, each once: "int8 -> fp32"."""
        sides = (self.inputs, self.outputs)
        return " -> ".join(", ".join(dict.fromkeys(t.datatype for t in side)) for side in sides)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """All layers of an engine, in the order in which they run.

    Attributes:
        io_tensors: names of its inputs and outputs.
        bare: names of layers of which the file says nothing but the name.
    """

    layers: tuple[EngineLayer, ...]
    io_tensors: tuple[str, ...]
    bare: tuple[str, ...] = ()


def parse_engine(text: str, where: str) -> Engine:
    """Reads the file of --exportLayerInfo; layers with no more than a name are in `bare`.

    Args:
        where: names the file in messages.
    Raises:
        ResultsError: it is broken, or of something else.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ResultsError(
            f"{where}: not JSON ({error}). It was cut short, or is another file; give the file "
            "that trtexec --exportLayerInfo wrote"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("Layers"), list):
        raise ResultsError(
            f"{where}: has no list of Layers; {_what_it_is(content)}. Give the file that trtexec "
            "--exportLayerInfo wrote"
        )
    try:
        rows = content["Layers"]
        return Engine(
            layers=tuple(_layer(row) for row in rows if isinstance(row, dict)),
            io_tensors=_io_tensors(content),
            bare=tuple(str(row) for row in rows if not isinstance(row, dict)),
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ResultsError(
            f"{where}: layers are needed, with names, inputs and outputs. Give the file that "
            "trtexec --exportLayerInfo wrote"
        ) from error


def check_detailed(engine: Engine, where: str) -> None:
    """Checks that an engine has layers, and that all of them are described.

    Raises:
        ResultsError: it has none, or was built without detailed verbosity.
    """
    if engine.bare:
        raise ResultsError(
            f"{where}: tells only the names of {len(engine.bare)} layers, as an engine that was "
            f"built without detailed verbosity. {_NEEDED}"
        )
    if not engine.layers:
        raise ResultsError(f"{where}: has no layer. {_NEEDED}")
    if all(
        one.datatype == UNKNOWN
        for layer in engine.layers
        for one in (*layer.inputs, *layer.outputs)
    ):
        raise ResultsError(f"{where}: tells no types of tensors. {_NEEDED}")


def with_times(engine: Engine, times_ms: Sequence[tuple[str, float]], where: str) -> Engine:
    """Adds a profile to an engine.

    Args:
        times_ms: name and time of each layer, in any order; a name may come again.
        where: names the profile in messages.
    Raises:
        ResultsError: it is of another engine: it has layers that this one has not, or lacks
            products. Others it may lack, as stations between streams.
    """
    waiting: dict[str, list[float]] = {}
    for name, time in times_ms:
        waiting.setdefault(name, []).append(time)
    total = sum(time for _, time in times_ms)
    layers = []
    for layer in engine.layers:
        found = waiting.get(layer.name)
        time_ms = found.pop(0) if found else None
        share = time_ms / total if time_ms is not None and total else None
        layers.append(replace(layer, time_ms=time_ms, share=share))
    extra = [name for name, left in waiting.items() if left]
    missing = [one.name for one in layers if one.time_ms is None and one.kind == PRODUCT]
    if extra or missing:
        parts = [
            f"{what} {len(names)} layers {verb}, as {names[0]!r}"
            for what, names, verb in (
                ("tells of", extra, "that the engine has not"),
                ("lacks", missing, "of the engine"),
            )
            if names
        ]
        raise ResultsError(
            f"{where}: {' and '.join(parts)}. Give the layers and the profile of one engine, as "
            "one call of trtexec writes them"
        )
    return replace(engine, layers=tuple(layers))


def _layer(row: Mapping[str, Any]) -> EngineLayer:
    name, layer_type = str(row["Name"]), str(row.get("LayerType", ""))
    inputs = tuple(map(_tensor, row.get("Inputs") or ()))
    outputs = tuple(map(_tensor, row.get("Outputs") or ()))
    kind = _kind(row, name, layer_type, inputs, outputs)
    read, given = (side[0].datatype if side else UNKNOWN for side in (inputs, outputs))
    weights = row.get("Weights")
    typed = _datatype(weights.get("Type")) if isinstance(weights, dict) else UNKNOWN
    precision = typed if typed != UNKNOWN and kind == PRODUCT else read
    return EngineLayer(
        name=name,
        layer_type=layer_type,
        kind=kind,
        precision=f"{read} to {given}" if kind in (REFORMAT, CONVERSION) else precision,
        inputs=inputs,
        outputs=outputs,
        onnx_nodes=_onnx_nodes(row, name),
    )


def _tensor(row: Mapping[str, Any]) -> EngineTensor:
    both = row.get("Format/Datatype")
    apart = row.get("Datatype") or row.get("DataType")
    return EngineTensor(
        name=str(row.get("Name", "")),
        dimensions=tuple(int(size) for size in row.get("Dimensions") or ()),
        datatype=_datatype(apart or both),
        layout=str(row.get("Format") or both or ""),
    )


def _datatype(text: object) -> str:
    """The last word of a type's or layout's sentence that is a type."""
    words = re.findall(r"\w+", str(text or "").lower())
    return next((_TYPES[word] for word in reversed(words) if word in _TYPES), UNKNOWN)


def _kind(
    row: Mapping[str, Any],
    name: str,
    layer_type: str,
    inputs: Sequence[EngineTensor],
    outputs: Sequence[EngineTensor],
) -> str:
    word = layer_type.lower()
    tactic = str(row.get("TacticName", "")).lower()
    if word in ("noop", "constant", "signal", "wait"):
        return NOTHING
    if any(part in word for part in _PRODUCTS):
        return PRODUCT
    # Myelin's fusions are called by their tactics: "sm80_xmma_gemm_i8i8_i8i32_...", "_gemm_mha_v2".
    if word in ("fusion", "myelin", "kgen") and any(part in tactic for part in _TACTICS):
        return PRODUCT
    if any(part in word for part in _REFORMATS) or COPY.search(name):
        is_qdq = row.get("Origin") == "QDQ" or QDQ_NAME.search(name)
        crosses = inputs and outputs and _crosses(inputs[0].datatype, outputs[0].datatype)
        return CONVERSION if is_qdq or crosses else REFORMAT
    if word in ("quantize", "dequantize"):
        return CONVERSION
    if any(part in word for part in _POOLS):
        return POOL
    nodes = _ONNX_LAYER.findall(str(row.get("Metadata", "")))
    if nodes and all(QDQ_NAME.search(node) for node in nodes):
        return CONVERSION
    return POINTWISE if any(part in word for part in _POINTWISE) else OTHER


def _crosses(read: str, given: str) -> bool:
    """Whether floats become codes, or codes floats."""
    return (read in _CODES and given in FLOATS) or (read in FLOATS and given in _CODES)


def _onnx_nodes(row: Mapping[str, Any], name: str) -> tuple[str, ...]:
    told = _ONNX_LAYER.findall(str(row.get("Metadata") or ""))
    if told:
        return tuple(dict.fromkeys(told))
    if COPY.search(name):
        return ()
    return tuple(dict.fromkeys(part for part in parts_of(name) if not NO_NODE.search(part)))


def parts_of(name: str) -> list[str]:
    """What a layer's name is made of: weights and nodes.

    Pointwise nodes that are fused stand in "PWN(...)", in one another, and a subgraph of Myelin's
    is called "{ForeignNode[FIRST...LAST]}".
    """
    subgraph = _SUBGRAPH.fullmatch(name)
    if subgraph is not None:
        return [f"{subgraph[1]} to {subgraph[2]}"]
    parts = re.split(r" \+ |, ", name.replace("PWN(", ""))
    if "PWN(" in name:
        parts = [part.rstrip(")") for part in parts]
    return [part.strip() for part in parts if part.strip()]


def _io_tensors(content: Mapping[str, Any]) -> tuple[str, ...]:
    found = content.get("I/O Tensors", content.get("Bindings")) or ()
    return tuple(str(one["Name"] if isinstance(one, dict) else one) for one in found)


def _what_it_is(content: object) -> str:
    """What the user may have given in place of it."""
    if isinstance(content, list):
        rows = [row for row in content if isinstance(row, dict)]
        if any("averageMs" in row for row in rows):
            return "it is a profile (--exportProfile), which belongs behind --profile"
        if any("latencyMs" in row for row in rows):
            return "it holds times of calls (--exportTimes)"
        return "it is a list"
    if isinstance(content, dict):
        return f"it has {', '.join(list(content)[:5]) or 'nothing'}"
    return f"it is {shown(content)}"
