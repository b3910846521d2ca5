"""What an ONNX file says of itself, as metadata_props."""

from __future__ import annotations

from collections.abc import Sequence

from keras_quant.preprocessing import METADATA_KEY, Preprocessing, preprocessing_to_json


def onnx_metadata(
    *, name: str, labels: Sequence[str], preprocessing: Preprocessing | None
) -> dict[str, str]:
    """Gives what becomes of pixels in front of the file's input; nothing where nobody said.

    Args:
        name: of the model, which stands in the file's graph.
        labels: of its classes, which ONNX has no place for.
    """
    return {} if preprocessing is None else {METADATA_KEY: preprocessing_to_json(preprocessing)}
