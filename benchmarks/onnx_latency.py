"""Latency of ONNX files: one image, one thread, ONNX Runtime on x86.

Ours beside what ONNX Runtime's own quantizer makes of the same network: tf2onnx's float file,
prepared as its documentation asks, through quantize_static to Q/DQ with uint8 activations and
int8 weights a channel. All take float images, channels last, and give float logits. Weights are
untrained: kernels take as long for any values.

Goals: with 8-bit codes ours takes no longer than ONNX Runtime's; with 4-bit codes, whose narrower
ranges are clipped by operators of their own, at most 1.08 times as long.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from interleaved import paired_ratio
from latency import Samples, measure_networks
from networks import Case
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from quantized import fake_quantized
from results import Result

from keras_quant.emit.onnx_x86.emit import emit_onnx_x86
from keras_quant.emit.onnx_x86.weights import stored_limits
from keras_quant.lower import lower_exactly
from keras_quant.proof.baseline import float_onnx
from keras_quant.tf import keras

BITS = ("w8a8", "w4a4", "w2a2")
GOALS = {"w8a8": 1.00, "w4a4": 1.08}
PEER, FLOAT = "quantize_static", "tf2onnx float"


def main() -> None:
    """Measures and prints."""
    measure_networks(
        __doc__,
        "latency of one image in ONNX Runtime",
        runtime="onnxruntime",
        make_files=make_files,
        ratios=ratios,
    )


def ratios(case: Case, samples: Samples) -> list[Result]:
    """Ours beside ONNX Runtime's."""
    return [paired_ratio(samples, ours, PEER, at_most=GOALS.get(ours)) for ours in BITS]


def make_files(source: keras.Model, images: np.ndarray) -> dict[str, bytes]:
    """Writes one network in all ways that are compared; in the order of the table."""
    floats = float_onnx(source)
    return {
        **{bits: our_file(source, images, bits) for bits in BITS},
        FLOAT: floats,
        PEER: statically_quantized(floats, images),
    }


def our_file(source: keras.Model, images: np.ndarray, bits: str) -> bytes:
    """Quantizes and writes a network as `kq export --to onnx` does."""
    model = fake_quantized(source, bits, images)
    return emit_onnx_x86(lower_exactly(model, limits=stored_limits).graph)


def statically_quantized(floats: bytes, images: np.ndarray) -> bytes:
    """ONNX Runtime's post-training quantization, its ranges from the images."""
    with tempfile.TemporaryDirectory() as folder:
        given, prepared, quantized = (Path(folder) / f"{n}.onnx" for n in ("float", "pre", "int8"))
        given.write_bytes(floats)
        quant_pre_process(given, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantized,
            _Images(images),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
        return quantized.read_bytes()


class _Images(CalibrationDataReader):
    """Gives one image after the other."""

    def __init__(self, images: np.ndarray) -> None:
        self._left = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input; None behind the last."""
        image = next(self._left, None)
        return None if image is None else {"image": image[np.newaxis].astype(np.float32) / 255}


if __name__ == "__main__":
    main()
