"""The gate: a lowered model in some formats, tried against its reference and against Keras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_quant.graph.ir import Graph
from keras_quant.graph.passes.pixels import takes_pixels
from keras_quant.lower import Snap
from keras_quant.proof.evidence import Batch, Evidence
from keras_quant.proof.formats import Format
from keras_quant.proof.formats.definition import Card
from keras_quant.proof.keras_answers import KerasAnswers, KerasTally, Values, metrics_by_name
from keras_quant.proof.parity import Parity, Proof
from keras_quant.runs.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Proven:
    """Files that were tried, and are not written yet.

    Attributes:
        snap: the lowered model.
        evidence: what they were tried on.
        contents: their bytes, by format.
        parities: what was found, by format.
        scores: what their answers are worth, by format.
        keras: what the model answers.
        best: int (images,), the class that the model's last classifier gives each image; empty
            without one.
    """

    snap: Snap
    evidence: Evidence
    contents: Mapping[Format, bytes]
    parities: Mapping[Format, Parity]
    scores: Mapping[Format, Values]
    keras: KerasAnswers
    best: np.ndarray


def prove_formats(
    snap: Snap, formats: Sequence[Format], evidence: Evidence, *, progress: Progress
) -> Proven:
    """Emits a model in some formats, and compares the files with its reference and with Keras.

    Raises:
        EmitError: a target cannot compute the graph exactly, or not as fast as it should.
    """
    graphs = {form: rewritten(snap.graph, form, evidence) for form in formats}
    contents = {form: _emitted(graphs[form], form, evidence) for form in formats}
    proofs = {
        graph: _Part.start(snap.graph, graph, contents, graphs, evidence)
        for graph in dict.fromkeys(graphs.values())
    }
    keras = KerasTally.start(snap, evidence)
    count, done = len(evidence.images), 0
    names = ", ".join(form.file_name for form in formats)
    progress.say(f"proving {names} on {count:,} test images")
    with progress.bar("proving", count) as show:
        for batch in evidence.batches():
            keras.add(batch)
            for part in proofs.values():
                part.add(batch)
            done += len(batch.images)
            show(done, "")
    found = {form: out for part in proofs.values() for form, out in part.found().items()}
    return Proven(
        snap=snap,
        evidence=evidence,
        contents=contents,
        parities={form: found[form][0] for form in formats},
        scores={form: found[form][1] for form in formats},
        keras=keras.answers(),
        best=np.array(keras.best, np.int64),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    """The proof of the files of one graph."""

    graph: Graph
    forms: tuple[Format, ...]
    evidence: Evidence
    proof: Proof

    @classmethod
    def start(
        cls,
        model_graph: Graph,
        graph: Graph,
        contents: Mapping[Format, bytes],
        graphs: Mapping[Format, Graph],
        evidence: Evidence,
    ) -> _Part:
        forms = tuple(form for form in graphs if graphs[form] is graph)
        proof = Proof(
            graph,
            [(form, contents[form]) for form in forms],
            judge_keras=graph is model_graph or _takes_but_pixels(graph),
            metrics=metrics_by_name(graph, evidence),
        )
        return cls(graph=graph, forms=forms, evidence=evidence, proof=proof)

    def add(self, batch: Batch) -> None:
        outputs = self.graph.outputs
        self.proof.add(
            self.evidence.inputs(self.graph, batch.images),
            keras=dict(zip(outputs, batch.keras, strict=True)),
            targets=dict(zip(outputs, batch.targets, strict=True)),
        )

    def found(self) -> dict[Format, tuple[Parity, Values]]:
        found = zip(self.proof.verdicts(), self.proof.scores(), strict=True)
        return dict(zip(self.forms, found, strict=True))


def rewritten(graph: Graph, form: Format, evidence: Evidence) -> Graph:
    """The graph that a format's file is of; the given one itself in most cases."""
    rewrite = form.definition.rewrite
    if rewrite is None:
        return graph
    calibration = evidence.inputs(graph, evidence.calibration)
    return rewrite(graph, calibration, evidence.preprocessing)


def _emitted(graph: Graph, form: Format, evidence: Evidence) -> bytes:
    definition = form.definition
    card = Card(
        name=graph.name, labels=evidence.labels_of_first, preprocessing=evidence.taken_by(graph)
    )
    content = definition.emit(graph, card=card)
    if definition.check is not None:
        definition.check(graph, content)
    return content


def _takes_but_pixels(graph: Graph) -> bool:
    """Whether nothing but the input of the model's graph was changed."""
    answers = [graph.tensors[name].qparams for name in graph.outputs]
    return takes_pixels(graph) and answers == [None] * len(answers)
