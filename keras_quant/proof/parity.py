"""Proves that exported files answer as the reference does.

Two things are compared over all images given: the codes of every quantized tensor, from a
probe (a second file, emitted from the same graph, that gives all of them), and the outputs
of the file itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_quant.errors import DataError, ModelError
from keras_quant.graph.ir import Graph
from keras_quant.graph.reference import iterate_reference
from keras_quant.proof.formats import Format
from keras_quant.proof.tally import LOGIT_TOLERANCE, Arrays, Tally
from keras_quant.qparams import QParams
from keras_quant.runners import Runner

FLOAT_CODE_TOLERANCE = 1e-3
"""Largest share of codes that may differ where a graph rounds floats to codes on its way.

A layer kept in float sums in another order than the reference does, and a value within that
error of a half falls to the next code. Measured: 1e-4 behind a first layer with float input.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerParity:
    """What comparing the codes of one layer found.

    Attributes:
        node: name of the node that gives them.
        codes_compared: its codes, over all images.
        codes_different: how many of them are not the reference's.
    """

    node: str
    codes_compared: int
    codes_different: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """What comparing a file with the reference found.

    Attributes:
        images: how many images were compared.
        codes_compared: codes of all quantized tensors, over all images.
        codes_different: how many of them are not the reference's.
        codes_tolerance: largest share of them allowed: 0; FLOAT_CODE_TOLERANCE where layers are
            kept in float in front of codes; or what the format declares.
        layers: the same layer by layer, in the graph's order.
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
        seconds: how long the file and its probe took; the reference's time is not in it.
        passed: no more codes differ than allowed, and top-1 agrees with Keras within
            KERAS_TOLERANCE. Where no code may differ, logits are within tolerance too, and top-1
            agrees with the reference on every image; elsewhere it does within KERAS_TOLERANCE.
    """

    images: int
    codes_compared: int
    codes_different: int
    codes_tolerance: float
    layers: tuple[LayerParity, ...]
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


def prove(
    graph: Graph,
    form: Format,
    content: bytes,
    inputs: Arrays,
    *,
    keras_logits: np.ndarray | None = None,
    batch_size: int | None = None,
    on_images: Callable[[int], None] = lambda images: None,
) -> Parity:
    """Compares one file with the graph that it was emitted from, see `prove_all`."""
    (parity,) = prove_all(
        graph,
        [(form, content)],
        inputs,
        keras_logits=keras_logits,
        batch_size=batch_size,
        on_images=on_images,
    )
    return parity


def prove_all(
    graph: Graph,
    files: Sequence[tuple[Format, bytes]],
    inputs: Arrays,
    *,
    keras_logits: np.ndarray | None = None,
    judge_keras: bool = True,
    batch_size: int | None = None,
    on_images: Callable[[int], None] = lambda images: None,
) -> list[Parity]:
    """Compares files with the graph that they were emitted from; the reference runs once.

    Args:
        graph: the realized graph.
        files: each file's format and its bytes.
        inputs: by name, float32 (images, *shape), at least one image.
        keras_logits: float (images, *shape of the graph's first output), what the Keras
            model answers.
        judge_keras: False only reports the agreement with Keras, for a graph that was made to
            answer otherwise than the model does.
        batch_size: images at a time; None means as many as the reference runs fast.
        on_images: told after each batch how many images are compared.
    Returns: what was found, in the order of files.
    Raises:
        ModelError: a file cannot be loaded, or has other outputs than the graph.
        GraphError: the inputs are not the graph's.
        DataError: there are no images, or not as many keras_logits.
    """
    _check_images(graph, inputs, keras_logits)
    codes = [node.output for node in graph.nodes if graph.tensors[node.output].qparams]
    trials = [_Trial.start(graph, form, content, codes) for form, content in files]
    images = 0
    for expected in iterate_reference(
        graph, inputs, keep=[*codes, *graph.outputs], batch_size=batch_size
    ):
        now = slice(images, images + len(expected[graph.outputs[0]]))
        batch = {name: np.asarray(inputs[name][now], np.float32) for name in graph.inputs}
        keras = None if keras_logits is None else keras_logits[now]
        for trial in trials:
            trial.compare(batch, expected, keras)
        images = now.stop
        on_images(images)
    with_keras = keras_logits is not None
    return [trial.verdict(with_keras=with_keras, judge_keras=judge_keras) for trial in trials]


def codes_tolerance(graph: Graph) -> float:
    """0, or FLOAT_CODE_TOLERANCE where a computed float is rounded to codes."""
    rounded = {node.inputs[0] for node in graph.nodes if node.op == "quantize"}
    return FLOAT_CODE_TOLERANCE if rounded - set(graph.inputs) else 0.0


@dataclass(slots=True, kw_only=True)
class _Trial:
    """One file, its probe, and what was found about them so far."""

    graph: Graph
    codes: Sequence[str]
    tolerance: float
    file: Runner
    probe: Runner | None
    stored_offset: Callable[[QParams], int]
    tally: Tally
    seconds: float = 0.0

    @classmethod
    def start(cls, graph: Graph, form: Format, content: bytes, codes: Sequence[str]) -> _Trial:
        definition = form.definition
        own = 0.0 if definition.tolerance is None else definition.tolerance(graph)
        return cls(
            graph=graph,
            codes=codes,
            tolerance=max(own, codes_tolerance(graph)),
            file=definition.runner(content),
            probe=definition.runner(definition.emit(graph, outputs=codes)) if codes else None,
            stored_offset=definition.stored_offset,
            tally=Tally(),
        )

    def compare(self, batch: Arrays, expected: Arrays, keras: np.ndarray | None) -> None:
        """Compares the answers to a batch of images."""
        started = time.perf_counter()
        answers = self._answers(self.file, batch, {n: expected[n] for n in self.graph.outputs})
        if self.probe is not None:
            wanted = {name: expected[name] for name in self.codes}
            self.tally.add_codes(wanted, self._answers(self.probe, batch, wanted))
        self.tally.add_outputs(self.graph, expected, answers, keras)
        self.tally.images += len(answers[self.graph.outputs[0]])
        self.seconds += time.perf_counter() - started

    def verdict(self, *, with_keras: bool, judge_keras: bool) -> Parity:
        """Sums up; with_keras says whether Keras' answers were compared."""
        tally, graph, info = self.tally, self.graph, self.file.info
        return Parity(
            images=tally.images,
            codes_compared=tally.compared.total(),
            codes_different=tally.different.total(),
            codes_tolerance=self.tolerance,
            layers=tuple(
                LayerParity(
                    node=node.name,
                    codes_compared=tally.compared[node.output],
                    codes_different=tally.different[node.output],
                )
                for node in graph.nodes
                if node.output in tally.compared
            ),
            first_different=next((n.name for n in graph.nodes if tally.different[n.output]), None),
            logit_difference=tally.logit_difference,
            tolerance=LOGIT_TOLERANCE,
            top1_agreement=tally.top1 / tally.images,
            keras_logit_difference=tally.keras_difference if with_keras else None,
            keras_top1_agreement=tally.keras_top1 / tally.images if with_keras else None,
            kernels=info.kernels,
            probe_kernels=() if self.probe is None else self.probe.info.kernels,
            versions={**info.versions, "numpy": np.__version__},
            seconds=self.seconds,
            passed=tally.is_clean(self.tolerance, with_keras=with_keras and judge_keras),
        )

    def _answers(self, runner: Runner, batch: Arrays, expected: Arrays) -> Arrays:
        """A file's outputs, with codes as the graph has them."""
        stored, answers = runner.run(batch), {}
        for name, array in expected.items():
            given = stored[name].shape if name in stored else "missing"
            if given != array.shape:
                raise ModelError(
                    f"output {name!r} of the file is {given}; the graph gives {array.shape}. "
                    "Compare a file with the graph that it was emitted from."
                )
            qparams = self.graph.tensors[name].qparams
            answers[name] = stored[name]
            if qparams is not None:
                answers[name] = stored[name].astype(np.int32) - self.stored_offset(qparams)
        return answers


def _check_images(graph: Graph, inputs: Arrays, keras_logits: np.ndarray | None) -> None:
    images = min((len(array) for array in inputs.values()), default=0)
    if images == 0:
        raise DataError("there are no images to compare. Give at least one.")
    shape = (images, *graph.tensors[graph.outputs[0]].shape)
    if keras_logits is not None and keras_logits.shape != shape:
        raise DataError(f"keras_logits is {keras_logits.shape}; {shape} is needed.")
