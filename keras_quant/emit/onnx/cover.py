"""Whether one ONNX file computes all that another one does."""

from __future__ import annotations

import onnx


def covers(whole: bytes, part: bytes) -> bool:
    """Whether each node of `part` stands in `whole`, reading the same inputs and constants.

    A runtime that runs each node by itself then computes the same values for both; one that
    fuses nodes does not, as what is asked for decides what can be fused.
    """
    files = [onnx.load_model_from_string(content) for content in (whole, part)]
    kept = [
        {
            *(version.SerializeToString() for version in file.opset_import),
            *(value.SerializeToString() for value in file.graph.input),
            *(tensor.SerializeToString() for tensor in file.graph.initializer),
            *(node.SerializeToString() for node in file.graph.node),
        }
        for file in files
    ]
    return kept[1] <= kept[0]
