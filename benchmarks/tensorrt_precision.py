"""Precision in which TensorRT's builder runs each layer of our files: Int8, or Float.

NVIDIA's own parser and builder (TensorRT for RTX, the extra `tensorrt`) read the files; no GPU
is needed. Networks are calibrated on random images and untrained: the engine's layers do not
depend on the values of weights.

Goal: every convolution and dense layer runs in Int8, and nothing is rejected.
"""

from __future__ import annotations

import numpy as np
import onnx
from quantized import fake_quantized
from results import argument_parser

from keras_quant.cli.output import print_table
from keras_quant.emit.onnx_tensorrt.emit import emit_onnx_tensorrt
from keras_quant.files import write_json
from keras_quant.lower import lower_exactly
from keras_quant.targets.builder import INT8, build
from keras_quant.targets.report import BuilderReport
from keras_quant.targets.tensorrt import VERSIONS, TensorRTOptions
from keras_quant.zoo import build as build_model

# name of the zoo: input shape, classes
NETS = {
    "cnn": ((28, 28, 1), 10),
    "resnet20": ((32, 32, 3), 10),
    "mobilenet_v2": ((96, 96, 3), 10),
    "resnet50": ((224, 224, 3), 1000),
}
BITS = ("w8a8", "w4a4")
IMAGES = 4  # to calibrate on; the engine does not depend on them


def main() -> None:
    """Builds each net's engine and prints how many of its layers run in Int8."""
    parser = argument_parser(__doc__)
    parser.add_argument("--nets", nargs="*", default=list(NETS), help="of " + ", ".join(NETS))
    parser.add_argument("--bits", nargs="*", default=list(BITS), help="as of kq train --bits")
    parser.add_argument("--trt", default="10.3", choices=list(VERSIONS), help="the file is for")
    arguments = parser.parse_args()
    reports = {}
    for net in arguments.nets:
        for bits in arguments.bits:
            reports[f"{net} {bits}"] = report(net, bits, TensorRTOptions(version=arguments.trt))
    print_table(
        ("net", "layers", "Int8", "Float", "rejected"),
        [row(name, item) for name, item in reports.items()],
        title=f"TensorRT for RTX {next(iter(reports.values())).version}, files for {arguments.trt}",
    )
    if arguments.json is not None:
        write_json(arguments.json, reports)


def report(net: str, bits: str, options: TensorRTOptions) -> BuilderReport:
    """Calibrates, lowers, emits and builds one net."""
    shape, classes = NETS[net]
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, *shape), np.uint8)
    model = fake_quantized(build_model(net, shape, classes), bits, images)
    content = emit_onnx_tensorrt(lower_exactly(model).graph, options=options)
    return build(onnx.ModelProto.FromString(content))


def row(name: str, item: BuilderReport) -> tuple[str, int, int, str, str]:
    """A line of the table; layers in float are named."""
    floats = [layer.name for layer in item.layers if layer.precision != INT8]
    integer = len(item.layers) - len(floats)
    return (
        name,
        len(item.layers),
        integer,
        ", ".join(floats) or "none",
        "; ".join(item.rejected) or "no",
    )


if __name__ == "__main__":
    main()
