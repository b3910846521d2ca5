"""ONNX for ONNX Runtime on x86: fused integer kernels, exact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_quant.emit.onnx.metadata import onnx_metadata
from keras_quant.emit.onnx_x86.emission import stored_shift
from keras_quant.emit.onnx_x86.emit import emit_onnx_x86
from keras_quant.emit.onnx_x86.weights import stored_limits
from keras_quant.graph.ir import Graph
from keras_quant.proof.formats.definition import Card, FormatDef
from keras_quant.proof.fusion import check_fused
from keras_quant.runners.onnxruntime import OnnxRuntimeRunner


def define() -> FormatDef:
    """What ONNX for x86 does."""

    def emit(
        graph: Graph, *, outputs: Sequence[str] | None = None, card: Card | None = None
    ) -> bytes:
        metadata = onnx_metadata(card.preprocessing if card else None)
        return emit_onnx_x86(graph, outputs=outputs, metadata=metadata)

    return FormatDef(
        emit=emit,
        runner=OnnxRuntimeRunner,
        stored_shift=stored_shift,
        check=check_fused,
        limits=stored_limits,
        code_type=np.uint8,
    )
