"""Writes a realized graph as an ONNX file with Q/DQ that TensorRT runs in int8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from keras_quant.emit.onnx.file import OnnxFile
from keras_quant.emit.onnx_tensorrt.emission import Emission, shift
from keras_quant.emit.onnx_tensorrt.floats import FloatEmission
from keras_quant.emit.onnx_tensorrt.limits import find_problems
from keras_quant.emit.onnx_tensorrt.ops import OP_EMITTERS
from keras_quant.emit.shared.aligned import with_aligned_inputs
from keras_quant.emit.shared.edges import split_at_edges
from keras_quant.errors import EmitError
from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.passes.pads import unfold_pads
from keras_quant.targets.tensorrt import VERSIONS, TensorRTOptions, plan

# The first opset with an axis on Q/DQ, which weights need; all versions since 8.0 take it.
OPSET, IR_VERSION = 13, 7

_TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def emit_onnx_tensorrt(
    graph: Graph,
    *,
    outputs: Sequence[str] | None = None,
    options: TensorRTOptions | None = None,
    metadata: Mapping[str, str] | None = None,
    codes_as_floats: bool = False,
) -> bytes:
    """Gives the bytes of an .onnx file.

    The file takes float32 (batch, *shape) inputs with any batch, channels last, as the Keras
    model does: whoever feeds one can feed the other, and TensorRT transposes once, in a few
    microseconds. Output tensors of codes are int8, or whole float32 numbers where the file has
    no Q/DQ, each code shifted by `emit.onnx_tensorrt.emission.stored_shift`, channels last too.
    Without its optimizations, ONNX Runtime computes what the file says.

    Args:
        graph: a realized graph, or one of floats.
        outputs: names of the tensors that the file gives; None means the graph's outputs.
        options: TensorRT's version decides how weights are stored, the precision whether codes
            are.
        metadata: what the file says of itself besides its name.
        codes_as_floats: whether outputs of codes are whole float32 numbers in any case, as not all
            versions of TensorRT are documented to give int8.
    Raises:
        EmitError: lists all nodes and tensors that the file cannot say exactly.
        UsageError: the options do not go together.
    """
    emission = emit_nodes(graph, options or TensorRTOptions())
    return emission.file.pack(
        inputs={name: (np.float32, graph.tensors[name].shape) for name in graph.inputs},
        outputs={
            name: _output(emission, name, codes_as_floats=codes_as_floats)
            for name in outputs or graph.outputs
        },
        metadata={"model": graph.name, **(metadata or {})},
    )


def emit_nodes(graph: Graph, options: TensorRTOptions) -> Emission:
    """Writes all nodes of a graph to a file that has no outputs yet.

    Raises:
        EmitError, UsageError: as emit_onnx_tensorrt.
    """
    planned = plan(options)
    problems = [*_inputs_of_codes(graph), *find_problems(graph, OP_EMITTERS)]
    if problems:
        lines = "".join(f"\n  {line}" for line in problems)
        raise EmitError(f"graph {graph.name!r} cannot be written for TensorRT:{lines}")
    graph = split_at_edges(with_aligned_inputs(graph))
    graph = unfold_pads(graph, partial(_pads_itself, graph))
    file = OnnxFile(graph.name, opset=OPSET, ir_version=IR_VERSION)
    kind = Emission if planned.precision == "int8" else FloatEmission
    emission = kind(graph=graph, file=file, int8_weights=VERSIONS[planned.version].int8_weights)
    for name in graph.inputs:
        emission.reals[name] = _channels_first(emission, name)
    for node in graph.nodes:
        OP_EMITTERS[node.op](emission, node)
    return emission


def _inputs_of_codes(graph: Graph) -> list[str]:
    # What TensorRT makes of int8 network inputs beside Q/DQ differs from version to version.
    return [
        f"input {name!r} has codes; files for TensorRT take floats. Cut stages with codes=False"
        for name in graph.inputs
        if graph.tensors[name].qparams is not None
    ]


def _pads_itself(graph: Graph, node: Node) -> bool:
    """Whether a node's own margins are real 0: a pooling of shifted codes has none of these."""
    return node.op != "avg_pool" or not shift(graph.tensors[node.inputs[0]].qparams)


def _channels_first(emission: Emission, name: str) -> str:
    if len(emission.graph.tensors[name].shape) != 3:
        return name
    inner = f"{name}/channels_first"
    return emission.file.operator("Transpose", [name], inner, perm=_TO_CHANNELS_FIRST)


def _output(emission: Emission, name: str, *, codes_as_floats: bool) -> tuple[type, Sequence[int]]:
    """Gives a tensor its own name in the file, and channels last."""
    tensor = emission.graph.tensors[name]
    in_floats = tensor.qparams is None or isinstance(emission, FloatEmission) or codes_as_floats
    dtype: type = np.float32 if in_floats else np.int8
    if tensor.qparams is None:
        value = emission.reals[name]
    elif codes_as_floats:
        value = emission.stored(name, f"{name}/as_floats")
    else:
        value = emission.codes[name]
    if len(tensor.shape) != 3:
        emission.file.operator("Identity", [value], name, name=f"{name}/output")
    else:
        emission.file.operator(
            "Transpose", [value], name, name=f"{name}/output", perm=_TO_CHANNELS_LAST
        )
    return dtype, tensor.shape
