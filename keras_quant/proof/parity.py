"""Proves that exported files answer as the reference does.

Two things are compared over all images given: the codes of every quantized tensor, from a
probe (a second file, emitted from the same graph, that gives all of them), and the outputs
of the file itself. Images come batch by batch, each goes to one of several threads, and none
is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np

from keras_quant.errors import DataError
from keras_quant.graph.ir import Graph
from keras_quant.graph.pointwise import POINTWISE
from keras_quant.graph.reference import bind_reference, images_at_once
from keras_quant.model.metrics import Metrics, Scores
from keras_quant.proof.distance import LOGIT_TOLERANCE
from keras_quant.proof.formats import Format
from keras_quant.proof.tally import RMS_TOLERANCE, Arrays, OutputTally, Tally
from keras_quant.proof.threads import one_blas_thread, thread_count
from keras_quant.proof.trial import Trial, call_witness

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
class OutputParity:
    """What comparing one output found.

    Attributes:
        name: of the output.
        difference: largest |file - reference|, each image's divided by max(1, its largest
            |reference|).
        top1_agreement: share of images whose largest value is the reference's; None for other
            than vectors of several values.
        keras_difference: largest |file - Keras|; None where Keras' answers were not given.
        keras_relative: root mean square of file - Keras, as a share of Keras'; None likewise.
        keras_top1_agreement: as top1_agreement, with Keras; None likewise.
    """

    name: str
    difference: float
    top1_agreement: float | None
    keras_difference: float | None
    keras_relative: float | None
    keras_top1_agreement: float | None


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
        outputs: what was found about each output, in the graph's order.
        tolerance: the largest difference of an output that counts as none, see distance.
        rms_tolerance: the largest root mean square where more images differ, see tally.
        kernels: what computed the file's outputs.
        probe_kernels: what computed the codes compared; () where the graph has no codes.
        versions: package name to version.
        seconds: how long the file and its probe took, in all threads; the reference's time is not
            in it.
        failures: what keeps the file from passing, see `tally.Tally.problems`.
        passed: whether nothing does.
    """

    images: int
    codes_compared: int
    codes_different: int
    codes_tolerance: float
    layers: tuple[LayerParity, ...]
    first_different: str | None
    outputs: tuple[OutputParity, ...]
    tolerance: float
    rms_tolerance: float
    kernels: tuple[str, ...]
    probe_kernels: tuple[str, ...]
    versions: Mapping[str, str]
    seconds: float
    failures: tuple[str, ...]
    passed: bool

    @property
    def difference(self) -> float:
        """The largest difference of an output."""
        return float(np.max([output.difference for output in self.outputs]))

    @property
    def top1_agreement(self) -> float | None:
        """The least agreement of an output with the reference; None where none is a vector."""
        return _least(output.top1_agreement for output in self.outputs)

    @property
    def keras_top1_agreement(self) -> float | None:
        """The least agreement of an output with Keras; None likewise, or not compared."""
        return _least(output.keras_top1_agreement for output in self.outputs)


def prove(
    graph: Graph,
    form: Format,
    content: bytes,
    inputs: Arrays,
    *,
    keras: Arrays | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
) -> Parity:
    """Compares one file with the graph that it was emitted from, see `Proof`."""
    files = [(form, content)]
    (parity,) = prove_all(graph, files, inputs, keras=keras, batch_size=batch_size, threads=threads)
    return parity


def prove_all(
    graph: Graph,
    files: Sequence[tuple[Format, bytes]],
    inputs: Arrays,
    *,
    keras: Arrays | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
) -> list[Parity]:
    """Compares files with the graph that they were emitted from, on images that are all there.

    Returns: what was found, in the order of files.
    Raises: as `Proof` does.
    """
    proof = Proof(graph, files, batch_size=batch_size, threads=threads)
    proof.add(inputs, keras=keras)
    return proof.verdicts()


class Proof:
    """Files that are compared with the graph that they were emitted from; the reference runs once.

    Images are added in any number of parts, and only counts are kept.
    """

    def __init__(
        self,
        graph: Graph,
        files: Sequence[tuple[Format, bytes]],
        *,
        judge_keras: bool = True,
        by_keras: Collection[str] | None = None,
        metrics: Metrics | None = None,
        batch_size: int | None = None,
        threads: int | None = None,
    ) -> None:
        """Loads the files.

        Args:
            graph: the realized graph.
            files: each file's format and its bytes.
            judge_keras: False only reports how far Keras' answers are, for a graph that was made
                to answer otherwise than the model does.
            by_keras: names of the outputs that Keras answers; None means all of them.
            metrics: what outputs are judged by, by name; those without are not.
            batch_size: images at a time; None means as many as the reference runs fast.
            threads: how many batches at a time; None means as many as the machine runs well.
        Raises:
            ModelError: a file cannot be loaded.
        """
        self._graph, self._judge_keras = graph, judge_keras
        self._by_keras = tuple(n for n in graph.outputs if by_keras is None or n in by_keras)
        self._forms = [form for form, _ in files]
        self._witnesses = [
            call_witness(graph, form, content, metrics or {}) for form, content in files
        ]
        codes = self._witnesses[0].codes if files else ()
        self._reference = bind_reference(graph, keep=[*codes, *graph.outputs])
        self._batch_size = batch_size or images_at_once(graph)
        self._threads = threads or thread_count()
        self._benches: list[list[Trial]] = []
        self._tallies = [Tally(scores=Scores(metrics=metrics or {})) for _ in files]

    def add(
        self,
        inputs: Arrays,
        *,
        keras: Arrays | None = None,
        targets: Arrays | None = None,
    ) -> None:
        """Compares the answers to some images.

        Args:
            inputs: by name, (images, *shape), at least one image: float32, or codes where the
                graph's input has them.
            keras: by output, float (images, *shape), what the Keras model answers; None for not to
                be compared.
            targets: by output that is judged, what its metrics take.
        Raises:
            ModelError: a file has other outputs than the graph, or cannot be computed.
            GraphError: the inputs are not the graph's.
            DataError: there are no images, or not as many of Keras' answers.
        """
        images = _count_images(self._graph, self._by_keras, inputs, keras)
        starts = range(0, images, self._batch_size)
        while len(self._benches) < min(self._threads, len(starts)):
            self._benches.append([Trial(witness) for witness in self._witnesses])
        free: SimpleQueue[list[Trial]] = SimpleQueue()
        for bench in self._benches:
            free.put(bench)

        def compare(start: int) -> list[Tally]:
            rows = slice(start, start + self._batch_size)
            bench = free.get()
            try:
                return self._compare(
                    bench,
                    _rows(inputs, rows),
                    None if keras is None else _rows(keras, rows),
                    _rows(targets or {}, rows),
                )
            finally:
                free.put(bench)

        with one_blas_thread(), ThreadPoolExecutor(len(self._benches)) as pool:
            waiting = [pool.submit(compare, start) for start in starts]
            try:
                for batch in waiting:
                    for total, tally in zip(self._tallies, batch.result(), strict=True):
                        total.merge(tally)
            finally:  # an error, or Ctrl-C, does not wait for the other batches
                pool.shutdown(cancel_futures=True)

    def verdicts(self) -> list[Parity]:
        """Sums up what was found, in the order of the files."""
        return [
            self._verdict(form, trial, tally)
            for form, trial, tally in zip(self._forms, self._benches[0], self._tallies, strict=True)
        ]

    def scores(self) -> list[dict[str, dict[str, float]]]:
        """What the files' answers are worth: of each file, by output and metric."""
        return [tally.scores.means() for tally in self._tallies]

    def _compare(
        self, bench: list[Trial], inputs: Arrays, keras: Arrays | None, targets: Arrays
    ) -> list[Tally]:
        """Compares the answers to one batch."""
        expected = self._reference(inputs)
        return [trial.compare(inputs, expected, keras=keras, targets=targets) for trial in bench]

    def _verdict(self, form: Format, trial: Trial, tally: Tally) -> Parity:
        graph, declared = self._graph, form.definition.tolerance
        tolerance = max(declared(graph) if declared else 0.0, codes_tolerance(graph))
        failures = tuple(tally.problems(tolerance, judge_keras=self._judge_keras))
        info = trial.info
        return Parity(
            images=tally.images,
            codes_compared=tally.compared.total(),
            codes_different=tally.different.total(),
            codes_tolerance=tolerance,
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
            outputs=tuple(_output(name, tally.outputs[name]) for name in graph.outputs),
            tolerance=LOGIT_TOLERANCE,
            rms_tolerance=RMS_TOLERANCE,
            kernels=info.kernels,
            probe_kernels=trial.probe_kernels,
            versions={**info.versions, "numpy": np.__version__},
            seconds=tally.seconds,
            failures=failures,
            passed=not failures,
        )


def codes_tolerance(graph: Graph) -> float:
    """0, or FLOAT_CODE_TOLERANCE where a computed float is rounded to codes, or meets a step."""
    rounded = {node.inputs[0] for node in graph.nodes if node.op == "quantize"}
    steps = any(
        node.op == "pointwise" and POINTWISE[node.attrs["function"]].jumps for node in graph.nodes
    )
    return FLOAT_CODE_TOLERANCE if steps or rounded - set(graph.inputs) else 0.0


def _output(name: str, tally: OutputTally) -> OutputParity:
    reference, keras = tally.reference, tally.keras
    return OutputParity(
        name=name,
        difference=reference.scaled,
        top1_agreement=reference.agreement,
        keras_difference=None if keras is None else keras.largest,
        keras_relative=None if keras is None else keras.relative,
        keras_top1_agreement=None if keras is None else keras.agreement,
    )


def _least(shares: Iterable[float | None]) -> float | None:
    return min((share for share in shares if share is not None), default=None)


def _rows(arrays: Arrays, rows: slice) -> Arrays:
    return {name: array[rows] for name, array in arrays.items()}


def _count_images(
    graph: Graph, by_keras: Sequence[str], inputs: Arrays, keras: Arrays | None
) -> int:
    images = min((len(array) for array in inputs.values()), default=0)
    if images == 0:
        raise DataError("there are no images to compare. Give at least one.")
    given = {} if keras is None else {name: array.shape for name, array in keras.items()}
    problems = [
        f"Keras' answers at output {name} are {given.get(name, 'missing')}; {shape} is needed"
        for name in by_keras
        if given.get(name) != (shape := (images, *graph.tensors[name].shape))
    ]
    if problems and keras is not None:
        raise DataError("; ".join(problems))
    return images
