"""Proves that an exported file answers as the reference does.

Two things are compared over all images given: the codes of every quantized tensor, from a
probe (a second file, emitted from the same graph, that gives all of them), and the outputs
of the file itself.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keras_quant.emit.tflite import emit_tflite
from keras_quant.emit.tflite_emission import stored_offset
from keras_quant.errors import DataError, ModelError
from keras_quant.graph.ir import Graph
from keras_quant.graph.reference import iterate_reference
from keras_quant.runners.litert import LiteRTRunner

Arrays = Mapping[str, np.ndarray]

LOGIT_TOLERANCE = 2e-5
"""Largest difference of float outputs, in units of an image's largest (at least 1).

A head sums in float32, whose error grows with the terms and not with their sum.
"""

KERAS_TOLERANCE = 1e-3
"""Largest share of images, rounded up, whose top-1 may differ from Keras' own.

Keras computes in float32 what the graph computes in integers: at 5 bits and more, values
within its rounding error of a half may fall to the next code. Measured: no image in 10,000.
"""

FLOAT_CODE_TOLERANCE = 1e-3
"""Largest share of codes that may differ where a graph rounds floats to codes on its way.

A layer kept in float sums in another order than the reference does, and a value within that
error of a half falls to the next code. Measured: 1e-4 behind a first layer with float input.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """What comparing a file with the reference found.

    Attributes:
        images: how many images were compared.
        codes_compared: codes of all quantized tensors, over all images.
        codes_different: how many of them are not the reference's.
        codes_tolerance: largest share of them allowed: 0, or FLOAT_CODE_TOLERANCE where layers
            are kept in float in front of codes.
        first_different: the first node, in the graph's order, that gave such a code.
        logit_difference: largest |file - reference| of float outputs, each image's divided by
            max(1, its largest |reference|).
        tolerance: the largest logit_difference allowed.
        top1_agreement: share of images whose largest output is the reference's.
        keras_logit_difference: largest |file - Keras|, reported and not judged; None where
            Keras' answers were not given.
        keras_top1_agreement: as top1_agreement, with Keras; None likewise.
        kernels: what computed the file's outputs.
        probe_kernels: what computed the codes compared; () where the graph has no codes.
        versions: package name to version.
        seconds: how long the comparison took.
        passed: no more codes differ than allowed, and top-1 agrees with Keras within
            KERAS_TOLERANCE. Where no code may differ, logits are within tolerance too, and top-1
            agrees with the reference on every image; elsewhere it does within KERAS_TOLERANCE.
    """

    images: int
    codes_compared: int
    codes_different: int
    codes_tolerance: float
    first_different: str | None
    logit_difference: float
    tolerance: float
    top1_agreement: float
    keras_logit_difference: float | None
    keras_top1_agreement: float | None
    kernels: tuple[str, ...]
    probe_kernels: tuple[str, ...]
    versions: Mapping[str, str]
    seconds: float
    passed: bool


def prove_tflite(
    graph: Graph,
    model: bytes | Path,
    inputs: Arrays,
    *,
    keras_logits: np.ndarray | None = None,
    batch_size: int | None = None,
    on_images: Callable[[int], None] = lambda images: None,
) -> Parity:
    """Compares a .tflite file with the graph that it was emitted from.

    Args:
        graph: the realized graph.
        model: the file's bytes, or its path.
        inputs: by name, float32 (images, *shape), at least one image.
        keras_logits: float (images, *shape of the graph's first output), what the Keras
            model answers.
        batch_size: images at a time; None means as many as the reference runs fast.
        on_images: told after each batch how many images are compared.
    Raises:
        ModelError: the file cannot be loaded, or has other outputs than the graph.
        GraphError: the inputs are not the graph's.
        DataError: there are no images, or not as many keras_logits.
    """
    _check_images(graph, inputs, keras_logits)
    started = time.perf_counter()
    codes = [node.output for node in graph.nodes if graph.tensors[node.output].qparams]
    keep = [*codes, *graph.outputs]
    file = LiteRTRunner(model)
    probe = LiteRTRunner(emit_tflite(graph, outputs=codes)) if codes else None
    tolerance = codes_tolerance(graph)
    tally = _Tally()
    for expected in iterate_reference(graph, inputs, keep=keep, batch_size=batch_size):
        now = slice(tally.images, tally.images + len(expected[graph.outputs[0]]))
        batch = {name: np.asarray(inputs[name][now], np.float32) for name in graph.inputs}
        answers = _answers(graph, file, batch, {name: expected[name] for name in graph.outputs})
        if probe is not None:
            wanted = {name: expected[name] for name in codes}
            tally.add_codes(wanted, _answers(graph, probe, batch, wanted))
        keras = None if keras_logits is None else keras_logits[now]
        tally.add_outputs(graph, expected, answers, keras)
        tally.images = now.stop
        on_images(tally.images)
    return Parity(
        images=tally.images,
        codes_compared=tally.codes_compared,
        codes_different=tally.different.total(),
        codes_tolerance=tolerance,
        first_different=next((n.name for n in graph.nodes if tally.different[n.output]), None),
        logit_difference=tally.logit_difference,
        tolerance=LOGIT_TOLERANCE,
        top1_agreement=tally.top1 / tally.images,
        keras_logit_difference=None if keras_logits is None else tally.keras_difference,
        keras_top1_agreement=None if keras_logits is None else tally.keras_top1 / tally.images,
        kernels=file.info.kernels,
        probe_kernels=() if probe is None else probe.info.kernels,
        versions={**file.info.versions, "numpy": np.__version__},
        seconds=time.perf_counter() - started,
        passed=tally.is_clean(tolerance, with_keras=keras_logits is not None),
    )


def codes_tolerance(graph: Graph) -> float:
    """0, or FLOAT_CODE_TOLERANCE where a computed float is rounded to codes."""
    rounded = {node.inputs[0] for node in graph.nodes if node.op == "quantize"}
    return FLOAT_CODE_TOLERANCE if rounded - set(graph.inputs) else 0.0


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What the batches compared so far came to."""

    images: int = 0
    codes_compared: int = 0
    different: Counter[str] = field(default_factory=Counter)
    logit_difference: float = 0.0
    top1: int = 0
    keras_difference: float = 0.0
    keras_top1: int = 0

    def is_clean(self, codes_tolerance: float, *, with_keras: bool) -> bool:
        allowed = math.ceil(KERAS_TOLERANCE * self.images)
        if with_keras and self.images - self.keras_top1 > allowed:
            return False
        if codes_tolerance:
            few = self.different.total() <= codes_tolerance * self.codes_compared
            return few and self.images - self.top1 <= allowed
        exact = self.different.total() == 0 and self.top1 == self.images
        return exact and self.logit_difference <= LOGIT_TOLERANCE

    def add_codes(self, expected: Arrays, found: Arrays) -> None:
        for name, codes in expected.items():
            self.codes_compared += codes.size
            self.different[name] += int(np.count_nonzero(codes != found[name]))

    def add_outputs(
        self, graph: Graph, expected: Arrays, found: Arrays, keras: np.ndarray | None
    ) -> None:
        for name in graph.outputs:
            if graph.tensors[name].qparams is None:
                size = np.abs(expected[name]).max(axis=-1, keepdims=True)
                difference = (found[name] - expected[name]) / np.maximum(1, size)
                self.logit_difference = _largest(self.logit_difference, difference)
            else:
                self.add_codes({name: expected[name]}, found)
        logits = graph.outputs[0]
        self.top1 += _agreeing(found[logits], expected[logits])
        if keras is not None:
            self.keras_difference = _largest(self.keras_difference, found[logits] - keras)
            self.keras_top1 += _agreeing(found[logits], keras)


def _largest(so_far: float, difference: np.ndarray) -> float:
    """The larger magnitude; NaN stays, so that it cannot pass."""
    return float(np.maximum(so_far, np.abs(difference).max(initial=0)))


def _agreeing(found: np.ndarray, expected: np.ndarray) -> int:
    """How many images have their largest value at the same place; at each pixel, of a map."""
    same = found.argmax(-1) == expected.argmax(-1)
    return int(np.count_nonzero(same.reshape(len(same), -1).all(axis=1)))


def _answers(graph: Graph, runner: LiteRTRunner, batch: Arrays, expected: Arrays) -> Arrays:
    """A file's outputs, with codes as the graph has them."""
    stored = runner.run(batch)
    for name, array in expected.items():
        given = stored[name].shape if name in stored else "missing"
        if given != array.shape:
            raise ModelError(
                f"output {name!r} of the file is {given}; the graph gives {array.shape}. "
                "Compare a file with the graph that it was emitted from."
            )
    qparams = {name: graph.tensors[name].qparams for name in expected}
    return {
        name: stored[name] if q is None else stored[name].astype(np.int32) - stored_offset(q)
        for name, q in qparams.items()
    }


def _check_images(graph: Graph, inputs: Arrays, keras_logits: np.ndarray | None) -> None:
    images = min((len(array) for array in inputs.values()), default=0)
    if images == 0:
        raise DataError("there are no images to compare. Give at least one.")
    shape = (images, *graph.tensors[graph.outputs[0]].shape)
    if keras_logits is not None and keras_logits.shape != shape:
        raise DataError(f"keras_logits is {keras_logits.shape}; {shape} is needed.")
