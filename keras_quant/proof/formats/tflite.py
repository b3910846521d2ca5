"""TFLite: integer kernels of LiteRT, exact."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from keras_quant.emit.tflite.emission import stored_shift
from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.emit.tflite.ends import with_asked_ends
from keras_quant.emit.tflite.metadata import TFLiteMetadata
from keras_quant.emit.tflite.options import TFLiteOptions
from keras_quant.emit.tflite.packing import stored_limits
from keras_quant.graph.ir import Graph
from keras_quant.proof.formats.definition import Card, FormatDef
from keras_quant.runners.litert import LiteRTRunner


def define(options: TFLiteOptions) -> FormatDef:
    """What TFLite does with a user's options."""

    def emit(
        graph: Graph, *, outputs: Sequence[str] | None = None, card: Card | None = None
    ) -> bytes:
        metadata = None
        if card is not None:
            metadata = TFLiteMetadata(
                name=card.name, labels=card.labels, preprocessing=card.preprocessing
            )
        return emit_tflite(graph, outputs=outputs, options=options, metadata=metadata)

    return FormatDef(
        emit=emit,
        runner=LiteRTRunner,
        stored_shift=stored_shift,
        limits=partial(stored_limits, options=options),
        rewrite=partial(with_asked_ends, options=options),
        code_type=np.int8,
    )
