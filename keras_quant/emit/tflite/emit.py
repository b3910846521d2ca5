"""Writes a realized graph as a TFLite file whose int8 kernels compute the reference's codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keras_quant.emit.shared.edges import split_at_edges
from keras_quant.emit.tflite.emission import Emission
from keras_quant.emit.tflite.ends import emit_input, take_codes
from keras_quant.emit.tflite.file import TFLiteFile
from keras_quant.emit.tflite.legalize import legalize
from keras_quant.emit.tflite.limits import find_float_nodes, find_problems, find_unpacked_nodes
from keras_quant.emit.tflite.metadata import TFLiteMetadata, append_files, metadata_entries
from keras_quant.emit.tflite.ops import OP_EMITTERS
from keras_quant.emit.tflite.options import TFLiteOptions
from keras_quant.emit.tflite.rescale import rescale
from keras_quant.errors import EmitError
from keras_quant.graph.ir import Graph
from keras_quant.graph.passes.pads import unfold_pads

_DEFAULTS = TFLiteOptions()


def emit_tflite(
    graph: Graph,
    *,
    outputs: Sequence[str] | None = None,
    options: TFLiteOptions = _DEFAULTS,
    metadata: TFLiteMetadata | None = None,
) -> bytes:
    """Gives the bytes of a .tflite file.

    The file has a signature "serving_default" whose names are the graph's tensor names. It
    takes (batch, *shape) inputs; inputs and outputs of codes are int8, each code shifted by
    `emit.tflite.emission.stored_shift`.

    Args:
        graph: a realized graph.
        outputs: names of the tensors that the file gives; None means the graph's outputs.
            Parity asks for all tensors of codes.
        options: the user's choices.
        metadata: what the file says of itself; None means nothing.
    Raises:
        EmitError: lists all nodes and tensors that TFLite cannot compute exactly, or not as
            the options ask.
    """
    problems = find_problems(graph)
    if options.pack == "smallest":
        problems += find_unpacked_nodes(graph, options.pack)
    _refuse(graph, problems)
    legal = unfold_pads(legalize(split_at_edges(rescale(graph))), lambda node: False)
    aliases: Mapping[str, str] = {}
    if options.head == "int8":
        _refuse(graph, find_float_nodes(legal))
    if options.input != "float":
        legal, aliases = take_codes(legal)
    file = TFLiteFile(graph.name, batch=options.batch)
    emission = Emission(graph=legal, file=file, options=options)
    given = {}
    for name in legal.inputs:
        given[name], emission.index[name] = emit_input(emission, name)
    emission.index.update({name: emission.index[source] for name, source in aliases.items()})
    for node in legal.nodes:
        emission.index[node.output] = OP_EMITTERS[node.op](emission, node)
    content = file.pack(
        inputs=given,
        outputs={name: emission.index[name] for name in outputs or graph.outputs},
        metadata=None if metadata is None else metadata_entries(graph, metadata),
    )
    return content if metadata is None else append_files(content, metadata)


def _refuse(graph: Graph, problems: Sequence[str]) -> None:
    if problems:
        lines = "".join(f"\n  {line}" for line in problems)
        raise EmitError(f"graph {graph.name!r} cannot be written as TFLite:{lines}")
