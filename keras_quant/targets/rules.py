"""The rules that an ONNX file must keep for TensorRT, each with its source and its remedy."""

from __future__ import annotations

from dataclasses import dataclass

REJECTED, FLOAT, SLOW, COSTS = "rejected", "float", "slow", "costs time"

_DOCS = "https://docs.nvidia.com/deeplearning/tensorrt/latest"
_EXPLICIT = f"{_DOCS}/inference-library/quantized-types-explicit-quantization.html"
_SCHEMES = f"{_DOCS}/inference-library/work-with-quantized-types.html"
_OPERATORS = "https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md"
_PARSER_8 = (
    "https://github.com/onnx/onnx-tensorrt/blob/release/8.5-GA/builtin_op_importers.cpp"
    " (QuantDequantLinearHelper)"
)
_MATRIX = f"{_DOCS}/getting-started/support-matrix.html (hardware and precision)"
_DLA = f"{_DOCS}/inference-library/work-with-dla.html"
_MODELOPT = "https://github.com/NVIDIA/Model-Optimizer (modelopt.onnx.quantization)"
_SEEN = "seen in the engines of TensorRT for RTX 1.7.1; not documented"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a file must not do.

    Attributes:
        effect: REJECTED: there will be no engine; FLOAT: a layer runs in float without a word;
            SLOW: layers that could be one kernel are not; COSTS: nothing is wrong with the file,
            and this of it takes time that another net would not.
        source: where it is documented, or what it was seen with.
        remedy: what to do.
    """

    effect: str
    source: str
    remedy: str


RULES: dict[str, Rule] = {
    "opset": Rule(
        effect=REJECTED,
        source=f"{_DOCS}/reference/onnx-opset-guide.html and docs/operators.md of each version",
        remedy="Export with an opset in that range, or convert with onnx.version_converter.",
    ),
    "integer-operator": Rule(
        effect=REJECTED,
        source=_OPERATORS,
        remedy="Quantize in QDQ format: QuantizeLinear and DequantizeLinear around a float "
        "operator (quantize_static(quant_format=QuantFormat.QDQ) in ONNX Runtime).",
    ),
    "zero-point": Rule(
        effect=REJECTED,
        source=_OPERATORS,
        remedy="Quantize symmetrically (ActivationSymmetric=True, WeightSymmetric=True).",
    ),
    "zero-point-missing": Rule(
        effect=REJECTED,
        source=_PARSER_8,
        remedy="Give the zero point as third input: int8 zeros of the scale's shape.",
    ),
    "type": Rule(
        effect=REJECTED,
        source=_OPERATORS,
        remedy="Quantize activations and weights to int8 (QInt8), and keep biases in float "
        "(QuantizeBias=False).",
    ),
    "int4": Rule(
        effect=REJECTED,
        source=_SCHEMES,
        remedy="Use int4 for constant 2-D weights and TensorRT 10 or newer only; int8 elsewhere.",
    ),
    "scale-not-constant": Rule(
        effect=REJECTED,
        source=_EXPLICIT,
        remedy="Store the scale as an initializer; dynamic quantization is not supported.",
    ),
    "scale-not-positive": Rule(
        effect=REJECTED,
        source=_PARSER_8,
        remedy="Make every scale a positive number; give channels without weights scale 1.",
    ),
    "per-channel-activation": Rule(
        effect=REJECTED,
        source=_SCHEMES,
        remedy="Give activations one scale a tensor; only constant weights have one a channel.",
    ),
    "quantized-on-float-board": Rule(
        effect=REJECTED,
        source=f"{_MATRIX}; TensorRT's message: Networks with QuantizeLayer/DequantizeLayer "
        "layers require hardware with Int8 support",
        remedy="Export the float model and build it with --fp16: kq export --to tensorrt "
        "--board BOARD does.",
    ),
    "quantized-on-dla": Rule(
        effect=REJECTED,
        source=_DLA,
        remedy="Export without Q/DQ and with a calibration cache: kq export --to tensorrt --dla "
        "does.",
    ),
    "scale-rank": Rule(
        effect=FLOAT,
        source=_SEEN,
        remedy="Store the scale of an activation as a scalar, of rank 0.",
    ),
    "weight-axis": Rule(
        effect=FLOAT,
        source=f"{_SCHEMES}; {_SEEN}",
        remedy="Quantize weights along their output channels: axis 0 of Conv and of Gemm with "
        "transB=1, 1 of ConvTranspose, the last of MatMul and of Gemm with transB=0.",
    ),
    "float-input": Rule(
        effect=FLOAT,
        source=_EXPLICIT,
        remedy="Put QuantizeLinear and DequantizeLinear between the two.",
    ),
    "separated-activation": Rule(
        effect=SLOW,
        source=f"{_EXPLICIT} (Q/DQ Layer-Placement Recommendations: by default, do not quantize "
        "the outputs of weighted operations)",
        remedy="Drop the pair, and quantize behind the activation alone.",
    ),
    "float-weight": Rule(
        effect=FLOAT,
        source=_EXPLICIT,
        remedy="Store the weights as int8 behind a DequantizeLinear.",
    ),
    "float-island": Rule(
        effect=COSTS,
        source=f"{_EXPLICIT}; {_SEEN}: it is a kernel of its own, that gives floats",
        remedy="Put it where there are few values, or in front of the first or behind the last "
        "layer of codes; a max pooling, and functions of one value, need no floats in memory.",
    ),
    "float-copy": Rule(
        effect=COSTS,
        source=f"{_EXPLICIT} (Q/DQ Layer-Placement Recommendations: quantize the residual "
        f"inputs of additions); {_SEEN}",
        remedy="Give its other readers a DequantizeLinear of the same codes, so that the floats "
        "are not written; kq export does.",
    ),
    "requantized": Rule(
        effect=COSTS,
        source=_SEEN,
        remedy="Give both the same scale; then the pair goes away.",
    ),
    "separated-addition": Rule(
        effect=COSTS,
        source=f"{_EXPLICIT} (Q/DQ Layer-Placement Recommendations: by default, do not quantize "
        f"the outputs of weighted operations); {_SEEN}: the values are rounded twice",
        remedy="Drop the pair, where the model may answer otherwise: its branch is then added "
        "before it is rounded. Files of keras_quant have it, as the model was trained with it.",
    ),
    "padded-channels": Rule(
        effect=COSTS,
        source=f"{_SEEN}: what it reads is copied to a tensor of more channels. TensorRT 8 has "
        "depthwise kernels that copy nothing (CudaDepthwiseConvolution in its engines)",
        remedy="Take multiples of 4 channels, better of 32. Of an image's, or those of a "
        "depthwise convolution, nothing can be changed in the file.",
    ),
    "small-product": Rule(
        effect=COSTS,
        source=f"{_MODELOPT} leaves products with K or N below 16 in float; {_SEEN}: they run in "
        "int8, and some are padded",
        remedy="Take at least 16 inputs and outputs. Where it is the head, its time is small, and "
        "a float one may be as fast: measure both.",
    ),
}
