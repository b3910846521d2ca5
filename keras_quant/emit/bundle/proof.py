"""What an engine is proven with: a second file that gives the codes of every layer, and the codes.

In an engine of it these tensors are outputs, so that nothing is fused across them that would keep
them out of memory; each layer is then compared, and not the last alone.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_quant.emit.onnx_tensorrt.emission import stored_shift
from keras_quant.emit.onnx_tensorrt.emit import emit_onnx_tensorrt
from keras_quant.emit.onnx_tensorrt.limits import codes_tolerance
from keras_quant.graph.ir import Graph
from keras_quant.graph.reference import run_reference
from keras_quant.targets.tensorrt import TensorRTOptions

PROBE_NAME, CODES_NAME = "probe.onnx", "samples/codes.npz"
SAMPLES = 2
"""Each is a start of trtexec, which writes all codes as text: some 40 MB of a resnet50."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EngineProof:
    """What a bundle carries for it.

    Attributes:
        files: name within the folder to content.
        manifest: of the samples, the tolerance and the layers, with a SHA-256 of each tensor's
            codes, as compare.py reads it.
    """

    files: Mapping[str, bytes]
    manifest: Mapping[str, object]


def prove_engine(
    written: Graph, samples: Mapping[str, np.ndarray], options: TensorRTOptions
) -> EngineProof | None:
    """Makes the probe of a file of codes, and computes the codes that it has to give.

    Args:
        written: that the file is of.
        samples: inputs by name, float32 (images, *shape); the first SAMPLES are taken.
        options: of the file.
    Returns: None for a graph without codes.
    """
    layers = {
        node.output: node.name for node in written.nodes if written.tensors[node.output].qparams
    }
    if not layers:
        return None
    outputs = tuple(dict.fromkeys((*layers, *written.outputs)))
    taken = {name: array[:SAMPLES] for name, array in samples.items()}
    kept = run_reference(written, taken, keep=layers)
    stored = {
        name: (codes.astype(np.int16) + stored_shift(written.tensors[name].grid)).astype(np.int8)
        for name, codes in kept.items()
    }
    stream = io.BytesIO()
    # By place: names of tensors are not those of files.
    arrays: dict[str, Any] = {f"codes{place}": stored[n] for place, n in enumerate(layers)}
    np.savez_compressed(stream, **arrays)
    content = emit_onnx_tensorrt(written, outputs=outputs, options=options, codes_as_floats=True)
    entries = [
        {
            "tensor": name,
            "layer": layer,
            "codes": f"codes{place}",
            "sha256": hashlib.sha256(stored[name].tobytes()).hexdigest(),
        }
        for place, (name, layer) in enumerate(layers.items())
    ]
    return EngineProof(
        files={PROBE_NAME: content, CODES_NAME: stream.getvalue()},
        manifest={
            "samples": len(next(iter(taken.values()))),
            "codes": CODES_NAME,
            "tolerance": codes_tolerance(written, options=options),
            "layers": entries,
        },
    )
