"""Versions of TensorRT, and what a file for one of them may hold."""

from __future__ import annotations

from dataclasses import dataclass, replace

from keras_quant.errors import UsageError, close_names

_PARSER_8 = "https://github.com/onnx/onnx-tensorrt/blob/{}/docs/operators.md"
_OPSETS = "https://docs.nvidia.com/deeplearning/tensorrt/latest/reference/onnx-opset-guide.html"
_WEIGHTS = (
    "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/"
    "quantized-types-explicit-quantization.html (Quantized Weights)"
)
_TRTEXEC_11 = (
    "https://docs.nvidia.com/deeplearning/tensorrt/11.4.1/api/migration/"
    "tensorrt-10x-to-11x-trtexec.html"
)
_DLA_11 = (
    "https://docs.nvidia.com/deeplearning/tensorrt/11.4.1/inference-library/"
    "dla-strongly-typed-networks.html"
)
_NOTES = "https://docs.nvidia.com/deeplearning/tensorrt/latest/getting-started/release-notes.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRTVersion:
    """What one version, or a row of them, takes.

    Attributes:
        opsets: lowest and highest ONNX opset that its parser is documented to take.
        int8_weights: whether weights may be stored as int8 behind a DequantizeLinear. Earlier
            versions are given float weights with a QuantizeLinear too, as NVIDIA's own
            exporters wrote them then.
        strongly_typed: whether trtexec can take the precision of each layer from the file.
        precision_flags: whether trtexec knows --int8 and --fp16.
        dla: whether it drives a deep learning accelerator.
        calibration_header: first line of its calibration cache; None where it reads none.
        layer_info: whether trtexec can write --exportLayerInfo: a log of 8.2.1 lists the files
            that it can write, and this one is not among them.
        jetpacks: that bring it.
        family: the key that boards know it by, where that is another one.
        sources: where this is documented.
    """

    opsets: tuple[int, int]
    int8_weights: bool
    strongly_typed: bool
    precision_flags: bool
    dla: bool
    calibration_header: str | None
    sources: tuple[str, ...]
    layer_info: bool = True
    jetpacks: str = ""
    family: str | None = None


VERSIONS: dict[str, TensorRTVersion] = {
    "8.2": TensorRTVersion(
        opsets=(7, 13),
        int8_weights=False,
        strongly_typed=False,
        precision_flags=True,
        dla=True,
        calibration_header="TRT-8201-EntropyCalibration2",
        sources=(_PARSER_8.format("release/8.2-GA"),),
        layer_info=False,
        jetpacks="4.6",
    ),
    "8.5": TensorRTVersion(
        opsets=(7, 17),
        int8_weights=False,
        strongly_typed=False,
        precision_flags=True,
        dla=True,
        calibration_header="TRT-8502-EntropyCalibration2",
        sources=(_PARSER_8.format("release/8.5-GA"),),
        jetpacks="5.1",
    ),
    "8.6": TensorRTVersion(
        opsets=(7, 17),
        int8_weights=False,
        strongly_typed=False,
        precision_flags=True,
        dla=True,
        calibration_header="TRT-8602-EntropyCalibration2",
        sources=(_PARSER_8.format("release/8.6-GA"),),
        jetpacks="6.0",
    ),
    "10.3": TensorRTVersion(
        opsets=(9, 20),
        int8_weights=True,
        strongly_typed=True,
        precision_flags=True,
        dla=True,
        calibration_header="TRT-100300-EntropyCalibration2",
        sources=(_PARSER_8.format("10.1-GA"), _WEIGHTS),
        jetpacks="6.1, 6.2",
    ),
    # 10.7 is the last 10.x that drives a DLA.
    "10.x": (
        _TEN := TensorRTVersion(
            opsets=(9, 20),
            int8_weights=True,
            strongly_typed=True,
            precision_flags=True,
            dla=False,
            calibration_header=None,
            sources=(_PARSER_8.format("10.1-GA"), _WEIGHTS, _NOTES),
            jetpacks="7.0 to 7.2",
        )
    ),
    "10.13": replace(_TEN, jetpacks="7.0, 7.1", family="10.x"),
    "10.16": replace(_TEN, jetpacks="7.2", family="10.x"),
    "11": (
        _ELEVEN := TensorRTVersion(
            opsets=(9, 25),
            int8_weights=True,
            strongly_typed=True,
            precision_flags=False,
            dla=False,
            calibration_header=None,
            sources=(_OPSETS, _WEIGHTS, _NOTES, _TRTEXEC_11),
            jetpacks="7.2.2",
        )
    ),
    # On AGX Orin alone, which is the only board with a DLA that gets it.
    "11.4": replace(_ELEVEN, dla=True, family="11", sources=(*_ELEVEN.sources, _DLA_11)),
}
DEFAULT_VERSION = "10.3"  # JetPack 6.1 and 6.2


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRTOptions:
    """Where a file is to run.

    Attributes:
        version: a key of VERSIONS; None means the one to expect on the board, DEFAULT_VERSION
            without a board.
        board: a key of `jetson.BOARDS`; None means any GPU with int8.
        dla: run on the board's deep learning accelerator.
        half: compute in fp16, also where there is int8.
    """

    version: str | None = None
    board: str | None = None
    dla: bool = False
    half: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What options mean.

    Attributes:
        version: a key of VERSIONS.
        board: a key of BOARDS, or None.
        precision: "int8", by Q/DQ in the file; "fp16", a file of floats; or "dla", a file of
            floats for the accelerator.
        reason: why the file is one of floats; "" where it is not.
    """

    version: str
    board: str | None
    precision: str
    reason: str = ""

    @property
    def typed_half(self) -> bool:
        """Whether the file has to say that it is of fp16, as no flag of trtexec's does any more."""
        return self.precision != "int8" and not VERSIONS[self.version].precision_flags


def plan(options: TensorRTOptions) -> Plan:
    """Decides which file fits a version and a board.

    Raises:
        UsageError: they are unknown or do not go together; all problems at once.
    """
    from keras_quant.targets.jetson import BOARDS  # reads a file of tables

    problems = [
        f"{option} {name!r} is not known{close_names(name, known)}; known are {', '.join(known)}"
        for option, name, known in (
            ("--trt", options.version, VERSIONS),
            ("--board", options.board, BOARDS),
        )
        if name is not None and name not in known
    ]
    if problems:
        raise UsageError("; ".join(problems))
    board = None if options.board is None else BOARDS[options.board]
    brought = (DEFAULT_VERSION, *VERSIONS) if board is None else board.tensorrt
    version = options.version or brought[0]
    if not {version, VERSIONS[version].family} & set(brought):
        problems.append(
            f"--trt {version}: JetPack brings {' and '.join(brought)} to {options.board}"
        )
    if options.dla and (board is None or not board.dla_cores):
        having = ", ".join(name for name, item in BOARDS.items() if item.dla_cores)
        problems.append(f"--dla: {options.board or 'no board given'}; these have one: {having}")
    if options.dla and not VERSIONS[version].dla:
        having = ", ".join(name for name, item in VERSIONS.items() if item.dla)
        problems.append(f"--dla: TensorRT {version} drives none; these do: {having}")
    if options.dla and options.half:
        problems.append("--dla and --fp16: give one; what a DLA computes in, its version decides")
    if problems:
        raise UsageError("; ".join(problems))
    return _precision(version, options)


def _precision(version: str, options: TensorRTOptions) -> Plan:
    from keras_quant.targets.jetson import BOARDS

    if options.dla:
        reason = "a DLA takes no Q/DQ layers; it rounds and saturates by calibration.cache"
        if VERSIONS[version].calibration_header is None:
            reason = (
                f"a DLA takes no Q/DQ layers, and TensorRT {version} reads no calibration cache, "
                "so that it computes in fp16"
            )
        return Plan(version=version, board=options.board, precision="dla", reason=reason)
    board = None if options.board is None else BOARDS[options.board]
    if board is not None and not board.int8:
        reason = (
            f"the GPU of {options.board} ({board.gpu}, compute capability "
            f"{board.compute_capability}) has no int8 kernels in TensorRT"
        )
        return Plan(version=version, board=options.board, precision="fp16", reason=reason)
    if options.half:
        reason = "fp16 was asked for"
        return Plan(version=version, board=options.board, precision="fp16", reason=reason)
    return Plan(version=version, board=options.board, precision="int8")
