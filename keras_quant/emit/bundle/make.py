"""A folder that brings a model to a board: the file, samples, scripts, and what they are."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from keras_quant.emit.bundle import compare
from keras_quant.emit.bundle.answers import (
    allowed_difference,
    expected_answers,
    rounds_in_fp16,
)
from keras_quant.emit.bundle.dla import calibration_cache, dla_fallbacks
from keras_quant.emit.bundle.proof import PROBE_NAME, SAMPLES, EngineProof, prove_engine
from keras_quant.emit.bundle.texts import (
    bench_script,
    build_flags,
    build_script,
    counted,
    prove_script,
    readme,
)
from keras_quant.emit.onnx_tensorrt.emission import shift_codes
from keras_quant.emit.onnx_tensorrt.emit import OPSET, emit_nodes
from keras_quant.emit.onnx_tensorrt.floats import for_dla, for_half
from keras_quant.emit.onnx_tensorrt.half import half_typed
from keras_quant.graph.ir import Graph
from keras_quant.json_codec import to_json
from keras_quant.preprocessing import Preprocessing, describe
from keras_quant.targets.tensorrt import VERSIONS, Plan, TensorRTOptions, plan
from keras_quant.version import __version__

FORMAT_VERSION = 1
_DEFAULTS = TensorRTOptions()
MODEL_NAME, MANIFEST_NAME = "model.onnx", "manifest.json"
HALF_NAME = "model.fp16.onnx"
MAX_SAMPLES = 16  # each is one start of trtexec, which takes seconds on a small board

_REWRITES: dict[str, Callable[[Graph], Graph]] = {
    "int8": lambda graph: graph,
    "fp16": for_half,
    "dla": for_dla,
}

_MEANINGS = {
    MODEL_NAME: "the model, ONNX opset 13",
    MANIFEST_NAME: "names, shapes, scheme, versions, and the SHA-256 of every file",
    "build.sh": "builds the engine, and lets it answer the samples",
    "prove.sh": "builds an engine that gives the codes of every layer, and lets it answer",
    HALF_NAME: "the same model with types of fp16, of which build.sh builds the engine",
    PROBE_NAME: "the same model with the codes of every layer as outputs, for prove.sh",
    "bench.sh": "measures the engine: throughput, latency, layers, power",
    "compare.py": "compares the engine's answers, and the codes of every layer, with the model's",
    "labels.txt": "names of the classes, in the order of the outputs",
    "samples/": "inputs, the pixels that they were made of, and what the model answers to them "
    "(.npy; .bin is what trtexec reads)",
    "calibration.cache": "the scale of each tensor, for the DLA",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bundle:
    """What is to lie in a folder.

    Attributes:
        plan: for which version, board and precision, and why.
        shifted: tensors of unsigned 8-bit codes, which are stored with a shift.
        fallbacks: layers that the GPU runs in place of the DLA, with the reason.
        files: name within the folder to content; the manifest comes last.
    """

    plan: Plan
    shifted: tuple[str, ...]
    fallbacks: tuple[str, ...]
    files: Mapping[str, bytes]


def written_graph(
    graph: Graph,
    inputs: Mapping[str, np.ndarray],
    preprocessing: Preprocessing | None = None,
    *,
    options: TensorRTOptions,
) -> Graph:
    """Gives the graph that the bundle's file is of: of floats where there is no int8.

    It takes what the given graph takes, whatever pixels become in front of it.
    """
    return _REWRITES[plan(options).precision](graph)


def make_bundle(
    graph: Graph,
    *,
    model: bytes,
    samples: Mapping[str, np.ndarray],
    options: TensorRTOptions = _DEFAULTS,
    pixels: Mapping[str, np.ndarray] | None = None,
    preprocessing: Preprocessing | None = None,
    labels: Sequence[str] = (),
    scheme: str = "",
) -> Bundle:
    """Makes a folder's files: a model, and all that a board needs to build and measure it.

    Args:
        graph: a realized graph.
        model: the .onnx file that was emitted from `written_graph` with these options.
        samples: inputs by name, float32 (images, *shape); the first MAX_SAMPLES are taken.
        options: version, board and DLA; they decide whether the file has Q/DQ.
        pixels: the images that the samples were made of, uint8 (images, *shape) by input.
        preprocessing: what became of them; None for nothing known.
        labels: names of the classes, in the order of the outputs.
        scheme: what the manifest says of how the model was quantized.
    Raises:
        EmitError: the file cannot say the graph exactly.
        UsageError: the options do not go together.
        GraphError: a sample is missing or of another shape.
    """
    planned, written = plan(options), written_graph(graph, samples, options=options)
    samples = {name: np.asarray(samples[name][:MAX_SAMPLES], np.float32) for name in samples}
    expected = expected_answers(graph, written, planned, samples)
    fallbacks = dla_fallbacks(written) if planned.precision == "dla" else ()
    shifted = _shifted(written) if planned.precision == "int8" else ()
    files: dict[str, bytes] = {MODEL_NAME: model}
    if planned.typed_half:
        files[HALF_NAME] = half_typed(model)
    elif planned.precision == "dla":
        files["calibration.cache"] = _cache(graph, written, options).encode()
    if labels:
        files["labels.txt"] = "".join(f"{label}\n" for label in labels).encode()
    proof = prove_engine(written, samples, options) if planned.precision == "int8" else None
    files |= _sample_files(samples, expected, pixels or {})
    files |= _scripts(written, planned, samples, proof) | dict(proof.files if proof else {})
    notes = _notes(shifted, fallbacks, in_fp16=rounds_in_fp16(written, planned))
    files["README.md"] = _readme(written, planned, files, expected, notes, preprocessing).encode()
    manifest = _manifest(written, planned, files, scheme, preprocessing) | {"notes": notes}
    manifest["proof"] = proof.manifest if proof else None
    files[MANIFEST_NAME] = f"{to_json(manifest)}\n".encode()
    return Bundle(plan=planned, shifted=shifted, fallbacks=fallbacks, files=files)


def _shifted(graph: Graph) -> tuple[str, ...]:
    tensors = graph.tensors.values()
    return tuple(tensor.name for tensor in tensors if shift_codes(tensor.qparams))


def _cache(graph: Graph, written: Graph, options: TensorRTOptions) -> str:
    header = VERSIONS[plan(options).version].calibration_header
    assert header is not None, options
    return calibration_cache(graph, emit_nodes(written, options), header=header)


def _sample_files(
    samples: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    pixels: Mapping[str, np.ndarray],
) -> dict[str, bytes]:
    files = {_pixels_path(name): _npy(array[:MAX_SAMPLES]) for name, array in pixels.items()}
    files |= {_sample_path(name): _npy(array) for name, array in samples.items()}
    files |= {_expected_path(name): _npy(array) for name, array in expected.items()}
    for name, array in samples.items():
        for index, image in enumerate(array):
            files[_raw_path(name, index)] = image.tobytes()
    return files


def _scripts(
    graph: Graph, planned: Plan, samples: Mapping[str, np.ndarray], proof: EngineProof | None
) -> dict[str, bytes]:
    shapes = {name: graph.tensors[name].shape for name in graph.inputs}
    raw = [_raw_path(name, "$sample") for name in shapes]
    count = len(next(iter(samples.values())))
    model = HALF_NAME if planned.typed_half else MODEL_NAME
    build = build_script(planned, model=model, shapes=shapes, files=raw, samples=count)
    proven = {}
    if proof is not None:
        count = min(count, SAMPLES)
        script = prove_script(planned, shapes=shapes, files=raw, samples=count)
        proven = {"prove.sh": script.encode()}
    return {
        "build.sh": build.encode(),
        **proven,
        "bench.sh": bench_script(planned, shapes=shapes).encode(),
        "compare.py": Path(compare.__file__).read_bytes(),
    }


def _notes(shifted: Sequence[str], fallbacks: Sequence[str], *, in_fp16: bool) -> list[str]:
    notes = []
    if in_fp16:
        notes.append(
            "Activations are rounded to their few codes, as in training: Mul, Round, Clip and Mul "
            "behind each layer, which TensorRT runs as one kernel. A value that fp16 moves across "
            "a tie becomes the next code, so that answers differ now and then."
        )
    if shifted:
        notes.append(
            "Unsigned 8-bit codes, 0 to 255, do not fit int8 with zero point 0, the only one that "
            f"TensorRT takes. So the codes of {counted(len(shifted), 'tensor')} are stored less "
            "a shift, which biases make up for. Where such a tensor is padded, that is a layer "
            "of its own. Signed codes, and unsigned ones of 7 bits, need neither."
        )
    if fallbacks:
        lines = "".join(f"\n- {line}" for line in fallbacks)
        notes.append(f"The DLA does not take all of the model. On the GPU run:\n{lines}")
    return notes


def _readme(
    graph: Graph,
    planned: Plan,
    files: Mapping[str, bytes],
    expected: Mapping[str, np.ndarray],
    notes: Sequence[str],
    preprocessing: Preprocessing | None,
) -> str:
    becomes = f"; of pixels it is {describe(preprocessing)}" if preprocessing else ""
    tensors = [
        _row(graph, name, f"input, channels last, as Keras takes it{becomes}")
        for name in graph.inputs
    ]
    tensors += [_row(graph, name, "output, as Keras gives it") for name in graph.outputs]
    present = {name.split("/")[0] + "/" * ("/" in name) for name in (*files, MANIFEST_NAME)}
    return readme(
        planned,
        name=graph.name,
        tolerance=allowed_difference(graph, planned),
        samples=len(next(iter(expected.values()))),
        tensors=tensors,
        files={name: text for name, text in _MEANINGS.items() if name in present},
        notes=notes,
    )


def _row(graph: Graph, name: str, meaning: str) -> str:
    shape = "x".join(map(str, (1, *graph.tensors[name].shape)))
    return f"| {name} | {shape} float32 | {meaning} |"


def _manifest(
    graph: Graph,
    planned: Plan,
    files: Mapping[str, bytes],
    scheme: str,
    preprocessing: Preprocessing | None,
) -> dict[str, object]:
    def tensor(name: str, **more: str) -> dict[str, object]:
        shape = [1, *graph.tensors[name].shape]
        return {"name": name, "shape": shape, "dtype": "float32", **more}

    return {
        "format": FORMAT_VERSION,
        "model": graph.name,
        "scheme": scheme,
        "tensorrt": planned.version,
        "board": planned.board,
        "precision": planned.precision,
        "reason": planned.reason,
        "opset": OPSET,
        "build_flags": build_flags(planned),
        "tolerance": allowed_difference(graph, planned),
        "inputs": [
            tensor(name, samples=_sample_path(name), **_with_pixels(name, files))
            for name in graph.inputs
        ],
        "preprocess": None if preprocessing is None else asdict(preprocessing),
        "outputs": [tensor(name, expected=_expected_path(name)) for name in graph.outputs],
        "versions": {
            "keras_quant": __version__,
            **{package: version(package) for package in ("numpy", "onnx")},
        },
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _sample_path(name: str) -> str:
    return f"samples/{_safe(name)}.npy"


def _expected_path(name: str) -> str:
    return f"samples/{_safe(name)}.expected.npy"


def _pixels_path(name: str) -> str:
    return f"samples/{_safe(name)}.pixels.npy"


def _with_pixels(name: str, files: Mapping[str, bytes]) -> dict[str, str]:
    path = _pixels_path(name)
    return {"pixels": path} if path in files else {}


def _raw_path(name: str, index: int | str) -> str:
    return f"samples/{_safe(name)}.{index}.bin"


def _safe(name: str) -> str:
    """A tensor's name as that of a file."""
    return re.sub(r"[^\w.-]", "_", name)
