"""ONNX for TensorRT: Q/DQ, proven node by node in floats, and a folder for a board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from keras_quant.emit.bundle.make import make_bundle, written_graph
from keras_quant.emit.onnx.cover import covers
from keras_quant.emit.onnx.metadata import onnx_metadata
from keras_quant.emit.onnx_tensorrt.emission import stored_shift
from keras_quant.emit.onnx_tensorrt.emit import emit_onnx_tensorrt
from keras_quant.emit.onnx_tensorrt.limits import codes_tolerance
from keras_quant.graph.ir import Graph
from keras_quant.proof.formats.definition import Card, FormatDef
from keras_quant.runners.onnxruntime import UnoptimizedRunner
from keras_quant.targets.tensorrt import TensorRTOptions


def define(options: TensorRTOptions) -> FormatDef:
    """What ONNX for TensorRT does with a user's options."""

    def emit(
        graph: Graph, *, outputs: Sequence[str] | None = None, card: Card | None = None
    ) -> bytes:
        metadata = onnx_metadata(card.preprocessing if card else None)
        return emit_onnx_tensorrt(graph, outputs=outputs, options=options, metadata=metadata)

    def package(graph: Graph, **settings: Any) -> Mapping[str, bytes]:
        return make_bundle(graph, options=options, **settings).files

    return FormatDef(
        emit=emit,
        runner=UnoptimizedRunner,
        stored_shift=stored_shift,
        rewrite=partial(written_graph, options=options),
        tolerance=partial(codes_tolerance, options=options),
        package=package,
        covers=covers,  # its runner optimizes nothing
    )
