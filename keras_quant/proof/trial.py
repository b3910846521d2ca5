"""One file on trial: it is run, and so is a probe, which gives all its codes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from keras_quant.errors import ModelError
from keras_quant.graph.ir import Graph
from keras_quant.model.metrics import Metrics, Scores
from keras_quant.proof.formats import Format
from keras_quant.proof.tally import Arrays, Tally
from keras_quant.qparams import QParams, dequantize
from keras_quant.runners import Runner


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Witness:
    """What is run of a file: as often as it is loaded, by threads of its own.

    Attributes:
        graph: that it was emitted from.
        codes: names of the graph's tensors of codes.
        file: the file's bytes.
        probe: those of a file that gives all codes; None where there are none.
        probe_answers: whether the probe gives the file's outputs too, as it computes all of it.
        load: of the runner.
        stored_shift: what is added to codes that are stored.
        code_type: in which codes are given; None where floats are alone.
        metrics: what outputs are judged by, by name.
    """

    graph: Graph
    codes: Sequence[str]
    file: bytes
    probe: bytes | None
    probe_answers: bool
    load: Callable[[bytes], Runner]
    stored_shift: Callable[[QParams], int]
    code_type: type[np.integer] | None = None
    metrics: Metrics = field(default_factory=dict)


def call_witness(graph: Graph, form: Format, content: bytes, metrics: Metrics) -> Witness:
    """Emits a file's probe.

    Args:
        graph: that the file was emitted from.
        content: the file's bytes.
    """
    definition = form.definition
    codes = [node.output for node in graph.nodes if graph.tensors[node.output].qparams]
    probe, probe_answers = None, False
    if codes:
        probe = definition.emit(graph, outputs=tuple(dict.fromkeys((*codes, *graph.outputs))))
        probe_answers = definition.covers is not None and definition.covers(probe, content)
    if codes and not probe_answers:
        probe = definition.emit(graph, outputs=codes)
    return Witness(
        graph=graph,
        codes=codes,
        file=content,
        probe=probe,
        probe_answers=probe_answers,
        load=definition.runner,
        stored_shift=definition.stored_shift,
        code_type=definition.code_type,
        metrics=metrics,
    )


class Trial:
    """A witness with its files loaded; one thread may use it at a time.

    Attributes:
        info: what computes the file.
        probe_kernels: what computes the codes; () where there are none.
    """

    def __init__(self, witness: Witness) -> None:
        """Loads the files.

        Raises:
            ModelError: one cannot be loaded.
        """
        self._witness = witness
        file = witness.load(witness.file)
        self.info = file.info
        self._file = None if witness.probe_answers else file
        self._probe = None if witness.probe is None else witness.load(witness.probe)
        self.probe_kernels = () if self._probe is None else self._probe.info.kernels

    def compare(
        self, batch: Arrays, expected: Arrays, *, keras: Arrays | None, targets: Arrays
    ) -> Tally:
        """Compares the answers to a batch of images.

        Args:
            batch: by input, (images, *shape): float32, or codes where the input has them.
            expected: the reference's, by tensor; of all codes and outputs.
            keras: Keras' answers by output; None for not to be compared.
            targets: what the outputs should be, by those that are judged.
        Returns: what that came to.
        Raises:
            ModelError: the file has other outputs than the graph.
        """
        witness, graph = self._witness, self._witness.graph
        tally = Tally(
            images=len(next(iter(batch.values()))), scores=Scores(metrics=witness.metrics)
        )
        given = {name: self._as_given(name, values) for name, values in batch.items()}
        started = time.perf_counter()
        stored = {} if self._probe is None else self._probe.run(given)
        answers = stored if self._file is None else self._file.run(given)
        tally.seconds = time.perf_counter() - started
        for name in witness.codes:
            self._count(tally, name, stored, expected[name])
        for name in graph.outputs:
            if graph.tensors[name].qparams is not None and answers is not stored:
                self._count(tally, name, answers, expected[name])
        wanted = {name: self._reals(name, expected[name]) for name in graph.outputs}
        reals = {name: self._answer(name, answers, expected[name]) for name in graph.outputs}
        tally.add_outputs(wanted, reals, keras)
        tally.scores.add(reals, targets)
        return tally

    def _as_given(self, name: str, values: np.ndarray) -> np.ndarray:
        """An input as the file takes it."""
        qparams, code_type = self._witness.graph.tensors[name].qparams, self._witness.code_type
        if qparams is None:
            return np.asarray(values, np.float32)
        assert code_type is not None, name
        return _as_stored(values, qparams, self._witness.stored_shift(qparams), np.dtype(code_type))

    def _count(self, tally: Tally, name: str, answers: Arrays, codes: np.ndarray) -> None:
        """Counts codes, as they are stored: no wider type is made of them where they fit."""
        stored = _checked(name, answers, codes)
        qparams = self._witness.graph.tensors[name].grid
        tally.compared[name] += codes.size
        wanted = _as_stored(codes, qparams, self._witness.stored_shift(qparams), stored.dtype)
        tally.different[name] += int(np.count_nonzero(stored != wanted))

    def _answer(self, name: str, answers: Arrays, expected: np.ndarray) -> np.ndarray:
        """An output in reals."""
        stored = _checked(name, answers, expected)
        qparams = self._witness.graph.tensors[name].qparams
        if qparams is None:
            return stored
        codes = stored.astype(np.int32) - self._witness.stored_shift(qparams)
        return self._reals(name, codes)

    def _reals(self, name: str, values: np.ndarray) -> np.ndarray:
        """What codes stand for; floats as they are."""
        qparams = self._witness.graph.tensors[name].qparams
        return values if qparams is None else dequantize(values, qparams)


def _checked(name: str, answers: Arrays, expected: np.ndarray) -> np.ndarray:
    given = answers[name].shape if name in answers else "missing"
    if given != expected.shape:
        raise ModelError(
            f"output {name!r} of the file is {given}; the graph gives {expected.shape}. "
            "Compare a file with the graph that it was emitted from."
        )
    return answers[name]


def _as_stored(codes: np.ndarray, qparams: QParams, shift: int, dtype: np.dtype) -> np.ndarray:
    """Codes as a file has them, in its own dtype; in int32 where that does not hold them."""
    if np.issubdtype(dtype, np.integer):
        info, ends = np.iinfo(dtype), (qparams.qmin + shift, qparams.qmax + shift)
        if info.min <= min(ends) and max(ends) <= info.max:
            # Integers wrap around: on the way the sum may not fit, in the end it does.
            same = codes.view(dtype) if codes.itemsize == dtype.itemsize else codes.astype(dtype)
            return same + np.array(shift).astype(dtype) if shift else same
    return codes.astype(np.int32) + shift
