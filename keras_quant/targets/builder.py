"""NVIDIA's own ONNX parser and engine builder, run without a GPU.

They come as TensorRT for RTX (PyPI: tensorrt-rtx-cu12), which builds engines ahead of time for
GPUs that are not there. It is of TensorRT 11's time, and knows no compute capability 8.7 or 7.2:
that it takes a file and runs a layer in int8 on its 8.6 is strong evidence for a Jetson Orin,
and no proof.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_quant.errors import MissingDependencyError
from keras_quant.targets.report import BuilderReport, LayerPrecision

if TYPE_CHECKING:
    import onnx
    import tensorrt_rtx

MODULE, EXTRA = "tensorrt_rtx", "tensorrt"
COMPUTE_CAPABILITY = "8.6"
INT8, FLOAT = "Int8", "Float"

# Operators whose precision decides how fast a network runs.
COMPUTE_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# The builder's log reports each layer of the engine on one line, in these words.
_LAYER = re.compile(r"Name: .*?, LayerType: (?P<kind>\w+), (?P<parts>.*)")
_SECTION = re.compile(r"(Inputs|Constants|Outputs): \[")
_DATATYPE = re.compile(r"Datatype: (\w+)")
_ONNX_LAYER = re.compile(r"\[ONNX Layer: (.*?)\]")
_SIZES = re.compile(r"Dimensions: \[([\d, ]+)\]")
_TACTIC = re.compile(r"TacticName: (?:__myl_)?(\w+?)(?:_0x\w+)?(?:,|$)")
# Generated pointwise code: the scaling behind a convolution, never the convolution itself.
_POINTWISE = "kgen"


def builder_is_installed() -> bool:
    """Whether `build` can run here."""
    return importlib.util.find_spec(MODULE) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltLayer:
    """One layer of an engine, as the builder's log reports it.

    Attributes:
        kind: the builder's word: "correlation" is a convolution, "kgen" generated pointwise code.
        reads, constants, gives: data types: "Int8", "Float", ...
        sizes: of what it reads and gives, in this order.
        onnx_nodes: of the file that it holds.
        tactic: names what generated code does, in order: "MulReluMulMinMaxRounCast".
    """

    kind: str
    reads: tuple[str, ...]
    constants: tuple[str, ...]
    gives: tuple[str, ...]
    sizes: tuple[tuple[int, ...], ...]
    onnx_nodes: tuple[str, ...]
    tactic: str


def built_layers(model: onnx.ModelProto) -> tuple[BuiltLayer, ...]:
    """Builds an engine from a file and tells its layers; () where it is rejected, see `build`."""
    trt = _module()
    lines: list[str] = []
    rejected = _build(trt, _with_names(model).SerializeToString(), _logger(trt, lines))
    return () if rejected else tuple(_layers(lines))


def build(model: onnx.ModelProto) -> BuilderReport:
    """Parses a file and builds an engine from it, for a batch of 1.

    Args:
        model: it is not changed.
    Raises:
        MissingDependencyError: the package is not installed.
    """
    trt = _module()
    named = _with_names(model)
    lines: list[str] = []
    rejected = _build(trt, named.SerializeToString(), _logger(trt, lines))
    layers = () if rejected else tuple(_precisions(named, lines))
    return BuilderReport(
        version=trt.__version__,
        compute_capability=COMPUTE_CAPABILITY,
        rejected=tuple(rejected),
        layers=layers,
    )


def _module() -> Any:
    if not builder_is_installed():
        raise MissingDependencyError(
            f"TensorRT's builder is not installed: pip install 'keras_quant[{EXTRA}]'"
        )
    return importlib.import_module(MODULE)


def _build(trt: Any, content: bytes, logger: tensorrt_rtx.ILogger) -> list[str]:
    """Builds an engine. Returns: why there is none."""
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(content):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        return [
            f"{error.node_name()} ({error.node_operator()}): {error.desc()}" for error in errors
        ]
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = [1 if size < 0 else size for size in tensor.shape]
        profile.set_shape(tensor.name, shape, shape, shape)
    config.add_optimization_profile(profile)
    if builder.build_serialized_network(network, config) is None:
        return ["the builder made no engine: " + "; ".join(logger.errors[-3:])]
    return []


def _logger(trt: Any, lines: list[str]) -> tensorrt_rtx.ILogger:
    """A logger that keeps what it is told."""

    class Log(trt.ILogger):  # type: ignore[misc]  # TensorRT has no types
        errors: list[str] = []

        def __init__(self) -> None:
            super().__init__()
            self.errors = []

        def log(self, severity: Any, message: str) -> None:
            lines.extend(message.splitlines())
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(message)

    return Log()


def _precisions(model: onnx.ModelProto, lines: Sequence[str]) -> Iterator[LayerPrecision]:
    integer = {name for layer in _layers(lines) if _is_int8(layer) for name in layer.onnx_nodes}
    for node in model.graph.node:
        if node.op_type in COMPUTE_OPS:
            precision = INT8 if node.name in integer else FLOAT
            yield LayerPrecision(name=node.name, op=node.op_type, precision=precision)


def _layers(lines: Sequence[str]) -> Iterator[BuiltLayer]:
    for line in lines:
        match = _LAYER.search(line)
        if match is None:
            continue
        parts = _SECTION.split(match["parts"])
        sections = dict(zip(parts[1::2], parts[2::2], strict=False))
        types = {name: tuple(_DATATYPE.findall(text)) for name, text in sections.items()}
        sizes = _SIZES.findall(sections.get("Inputs", "") + sections.get("Outputs", ""))
        tactic = _TACTIC.search(line)
        yield BuiltLayer(
            kind=match["kind"],
            reads=types.get("Inputs", ()),
            constants=types.get("Constants", ()),
            gives=types.get("Outputs", ()),
            sizes=tuple(tuple(map(int, size.split(","))) for size in sizes),
            onnx_nodes=tuple(_ONNX_LAYER.findall(line)),
            tactic=tactic[1] if tactic else "",
        )


def _is_int8(layer: BuiltLayer) -> bool:
    """Whether a layer multiplies int8 by int8: its other constants are scales."""
    return layer.kind != _POINTWISE and (*layer.reads, *layer.constants).count(INT8) >= 2


def _with_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which each node has a name of its own, by which the log reports it."""
    named = type(model)()
    named.CopyFrom(model)
    taken: set[str] = set()
    for node in named.graph.node:
        if not node.name or node.name in taken:
            node.name = next(iter(node.output), node.op_type)
        taken.add(node.name)
    return named
