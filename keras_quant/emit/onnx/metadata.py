"""What an ONNX file says of itself, as metadata_props."""

from __future__ import annotations

from keras_quant.preprocessing import METADATA_KEY, Preprocessing, preprocessing_to_json


def onnx_metadata(preprocessing: Preprocessing | None) -> dict[str, str]:
    """Gives what becomes of pixels in front of the file's input; nothing where nothing is known."""
    return {} if preprocessing is None else {METADATA_KEY: preprocessing_to_json(preprocessing)}
