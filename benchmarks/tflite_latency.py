"""Latency of TFLite files: one image, one thread, LiteRT with XNNPACK.

Ours (integers from the graph, and floats from the same emitter) beside TFLiteConverter's
float file and its post-training int8 files of the same network: int8 kernels a channel,
ranges from a representative dataset. All take float images and give float logits, but the
last one, which is int8 at both ends. Weights are untrained: kernels take as long for any
values.

Goals: ours at most 1.02 times int8 of the converter on all networks; float of the converter at
least 3.0 times ours on resnet20. Our files packed for the least size have none.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from interleaved import paired_ratio
from latency import Samples, measure_networks
from networks import Case
from quantized import fake_quantized
from results import Result

from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.emit.tflite.options import TFLiteOptions
from keras_quant.emit.tflite.packing import stored_limits
from keras_quant.lower import lower, lower_exactly
from keras_quant.tf import keras, tf

GOAL_MODEL, GOAL_FLOAT, GOAL_INT8 = "resnet20", 3.0, 1.02
BITS = ("w4a4", "w8a8")
SMALLEST = "w4a4 smallest"
CONVERTER_FLOAT, CONVERTER_INT8 = "TFLiteConverter float", "TFLiteConverter int8"


def main() -> None:
    """Measures and prints."""
    measure_networks(
        __doc__,
        "latency of one image",
        runtime="litert",
        make_files=make_files,
        ratios=ratios,
    )


def ratios(case: Case, samples: Samples) -> list[Result]:
    """Ours beside the converter's."""
    least = GOAL_FLOAT if case.model == GOAL_MODEL else None
    return [
        *(paired_ratio(samples, CONVERTER_FLOAT, ours, at_least=least) for ours in BITS),
        *(paired_ratio(samples, ours, CONVERTER_INT8, at_most=GOAL_INT8) for ours in BITS),
        paired_ratio(samples, SMALLEST, CONVERTER_INT8),
    ]


def make_files(source: keras.Model, images: np.ndarray) -> dict[str, bytes]:
    """Writes one network in all ways that are compared; in the order of the table."""
    return {
        **{bits: our_file(source, images, bits=bits, pack="fast") for bits in BITS},
        SMALLEST: our_file(source, images, bits="w4a4", pack="smallest"),
        "our float": emit_tflite(lower(source)),
        CONVERTER_FLOAT: converter(source).convert(),
        CONVERTER_INT8: int8_converter(source, images).convert(),
        f"{CONVERTER_INT8}, int8 ends": int8_at_both_ends(source, images).convert(),
    }


def our_file(source: keras.Model, images: np.ndarray, *, bits: str, pack: str) -> bytes:
    """Quantizes and writes a network as `kq export --pack` does."""
    model = fake_quantized(source, bits, images)
    snap = lower_exactly(model, limits=partial(stored_limits, options=TFLiteOptions(pack=pack)))
    return emit_tflite(snap.graph, options=TFLiteOptions(pack=pack))


def converter(source: keras.Model) -> tf.lite.TFLiteConverter:
    """A converter for a batch of 1; with a free one it writes Shape and Pack operators."""
    signature = tf.TensorSpec((1, *source.input_shape[1:]), tf.float32)
    function = tf.function(lambda x: source(x, training=False)).get_concrete_function(signature)
    return tf.lite.TFLiteConverter.from_concrete_functions([function], source)


def int8_converter(source: keras.Model, images: np.ndarray) -> tf.lite.TFLiteConverter:
    """Post-training quantization to int8, with float inputs and outputs."""

    def representative_dataset() -> Iterator[list[np.ndarray]]:
        for image in images:
            yield [image[np.newaxis].astype(np.float32) / 255]

    int8 = converter(source)
    int8.optimizations = [tf.lite.Optimize.DEFAULT]
    int8.representative_dataset = representative_dataset
    int8.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return int8


def int8_at_both_ends(source: keras.Model, images: np.ndarray) -> tf.lite.TFLiteConverter:
    """The same with int8 inputs and outputs: what is left without the conversions."""
    int8 = int8_converter(source, images)
    int8.inference_input_type = int8.inference_output_type = tf.int8
    return int8


if __name__ == "__main__":
    main()
