"""The gate for stages: each file beside its part of the graph, and all one after the other.

Each stage is proven as a whole file is, on the codes that the reference hands to it. The files are
run as a chain too, each on what the last one gave, to the byte; handed codes and answers are
compared with the reference of the whole graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from keras_quant.emit.tflite.options import TFLiteOptions
from keras_quant.graph.costs.cost import cost
from keras_quant.graph.ir import Graph
from keras_quant.graph.passes.stages import REALS, Stage, cut
from keras_quant.graph.reference import bind_reference
from keras_quant.graph.store import pack_graph
from keras_quant.lower import Snap
from keras_quant.proof.evidence import Batch, Evidence
from keras_quant.proof.formats import Format
from keras_quant.proof.formats.definition import Card, FormatDef
from keras_quant.proof.gate import Proven, rewritten
from keras_quant.proof.keras_answers import KerasTally, Values
from keras_quant.proof.parity import Parity, Proof, codes_tolerance
from keras_quant.proof.record import digest
from keras_quant.proof.tally import Arrays, Tally
from keras_quant.qparams import QParams, dequantize
from keras_quant.runners import Runner
from keras_quant.runs.progress import Progress
from keras_quant.runs.stages import Chain, Port, StagedFormat, StageFile


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StagesProven:
    """Stages that were tried, and are not written yet.

    Attributes:
        proven: their files, as of one model in as many formats as there are stages in all.
        formats: by the name of the format, what is recorded of its stages.
    """

    proven: Proven
    formats: Mapping[str, StagedFormat]


def stage_format(form: Format, number: int) -> Format:
    """What a stage is written as; number: from 1 on."""
    options = form.options
    if number > 1 and isinstance(options, TFLiteOptions):
        options = replace(options, input="float")  # pixels go to the first alone; codes stay codes
    return replace(
        form,
        name=f"{form.name}-stage{number}",
        stem=f"stage{number}",
        define=partial(_define, form.define),
        options=options,
    )


def _define(define: Callable[[Any], FormatDef], options: Any) -> FormatDef:
    """A format's, for a graph that was rewritten before it was cut."""
    return replace(define(options), rewrite=None, package=None)


def prove_stages(
    snap: Snap, formats: Sequence[Format], evidence: Evidence, *, progress: Progress
) -> StagesProven:
    """Cuts a model's graph into stages, emits them in some formats, and proves them.

    Raises:
        GraphError: the graph makes no stages.
        EmitError: a target cannot compute one exactly, or not as fast as it should.
    """
    whole = [_Staged.of(snap, form, evidence) for form in formats]
    keras = KerasTally.start(snap, evidence)
    count, done = len(evidence.images), 0
    names = ", ".join(f"{one.form.name} ({len(one.stages)})" for one in whole)
    progress.say(f"proving stages, {names}, on {count:,} test images")
    with progress.bar("proving", count) as show:
        for batch in evidence.batches():
            keras.add(batch)
            for staged in whole:
                staged.add(batch)
            done += len(batch.images)
            show(done, "")
    found = [trial for staged in whole for trial in staged.found()]
    proven = Proven(
        snap=snap,
        evidence=evidence,
        contents={trial.form: trial.content for trial in found},
        parities={trial.form: trial.parity for trial in found},
        scores={trial.form: trial.scores for trial in found},
        keras=keras.answers(),
        best=np.array(keras.best, np.int64),
    )
    recorded = {form.name: one.record() for form, one in zip(formats, whole, strict=True)}
    return StagesProven(proven=proven, formats=recorded)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Found:
    """What was found about a stage's file."""

    form: Format
    content: bytes
    parity: Parity
    scores: Values


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Staged:
    """The stages of a model in one format, on trial.

    Attributes:
        whole: the graph that they were cut from.
        reference: of that, of all codes that are handed over and all answers.
        tally: what comes of running the files one after the other.
    """

    form: Format
    whole: Graph
    evidence: Evidence
    stages: tuple[Stage, ...]
    forms: tuple[Format, ...]
    contents: tuple[bytes, ...]
    proofs: tuple[Proof, ...]
    runners: tuple[Runner, ...]
    reference: Callable[[Arrays], dict[str, np.ndarray]]
    tally: Tally = field(default_factory=Tally)

    @classmethod
    def of(cls, snap: Snap, form: Format, evidence: Evidence) -> _Staged:
        whole = rewritten(snap.graph, form, evidence)
        stages = cut(whole, codes=form.definition.code_type is not None)
        forms = tuple(stage_format(form, n) for n in range(1, len(stages) + 1))
        contents = tuple(
            _emitted(stage, one, evidence, is_first=one is forms[0])
            for stage, one in zip(stages, forms, strict=True)
        )
        handed = [name.removesuffix(REALS) for stage in stages for name in stage.graph.outputs]
        return cls(
            form=form,
            whole=whole,
            evidence=evidence,
            stages=stages,
            forms=forms,
            contents=contents,
            proofs=tuple(
                _proof(stage, one, content, metrics)
                for stage, one, content, metrics in zip(
                    stages, forms, contents, evidence.metrics, strict=True
                )
            ),
            runners=tuple(form.definition.runner(content) for content in contents),
            reference=bind_reference(whole, keep=handed),
        )

    def add(self, batch: Batch) -> None:
        inputs = self.evidence.inputs(self.whole, batch.images)
        wanted = self.reference(inputs)
        answers = zip(self.stages, self.proofs, batch.keras, batch.targets, strict=True)
        for stage, proof, keras, targets in answers:
            proof.add(
                {name: self._value(name, inputs, wanted) for name in stage.graph.inputs},
                keras={stage.answer: keras},
                targets={stage.answer: targets},
            )
        self._add_chain(inputs, wanted)

    def _value(self, name: str, inputs: Arrays, wanted: Arrays) -> np.ndarray:
        """What the reference hands to a stage."""
        if name in inputs:
            return inputs[name]
        if name in wanted:
            return wanted[name]
        codes = name.removesuffix(REALS)
        return dequantize(wanted[codes], self.whole.tensors[codes].grid)

    def _add_chain(self, inputs: Arrays, wanted: Arrays) -> None:
        """Runs the files, each on what the others gave."""
        known: dict[str, np.ndarray] = dict(inputs)
        for stage, runner in zip(self.stages, self.runners, strict=True):
            known |= runner.run({name: known[name] for name in stage.graph.inputs})
            for name in stage.graph.outputs:
                qparams = stage.graph.tensors[name].qparams
                if qparams is not None:
                    found = known[name].astype(np.int32) - self._shift(qparams)
                    self.tally.compared[name] += found.size
                    self.tally.different[name] += int(np.count_nonzero(found != wanted[name]))
        answers = [stage.answer for stage in self.stages]
        self.tally.images += len(next(iter(inputs.values())))
        self.tally.add_outputs(
            {name: self._reals(name, wanted[name]) for name in answers},
            {name: self._reals(name, self._unshifted(name, known[name])) for name in answers},
            None,
        )

    def _shift(self, qparams: QParams) -> int:
        return self.form.definition.stored_shift(qparams)

    def _unshifted(self, name: str, stored: np.ndarray) -> np.ndarray:
        qparams = self.whole.tensors[name].qparams
        return stored if qparams is None else stored.astype(np.int32) - self._shift(qparams)

    def _reals(self, name: str, values: np.ndarray) -> np.ndarray:
        qparams = self.whole.tensors[name].qparams
        return values if qparams is None else dequantize(values, qparams)

    def found(self) -> list[_Found]:
        """The verdict on each stage; what is wrong with the chain stands at the last."""
        parities = [proof.verdicts()[0] for proof in self.proofs]
        declared = self.form.definition.tolerance
        allowed = max(declared(self.whole) if declared else 0.0, codes_tolerance(self.whole))
        chain = tuple(
            f"one after the other: {line}"
            for line in self.tally.problems(allowed, judge_keras=False)
        )
        last = parities[-1]
        parities[-1] = replace(
            last, failures=(*last.failures, *chain), passed=last.passed and not chain
        )
        return [
            _Found(form=form, content=content, parity=parity, scores=proof.scores()[0])
            for form, content, parity, proof in zip(
                self.forms, self.contents, parities, self.proofs, strict=True
            )
        ]

    def record(self) -> StagedFormat:
        """What is written of the stages."""
        outputs = [one.reference for one in self.tally.outputs.values()]
        agreements = [one.agreement for one in outputs if one.agreement is not None]
        return StagedFormat(
            graph_sha256=digest(pack_graph(self.whole)),
            stages=tuple(
                self._stage_file(stage, form, content)
                for stage, form, content in zip(self.stages, self.forms, self.contents, strict=True)
            ),
            chain=Chain(
                images=self.tally.images,
                codes_handed=self.tally.compared.total(),
                codes_different=self.tally.different.total(),
                difference=float(np.max([one.scaled for one in outputs])),
                top1_agreement=min(agreements, default=1.0),
            ),
        )

    def _stage_file(self, stage: Stage, form: Format, content: bytes) -> StageFile:
        total = cost(stage.graph)
        return StageFile(
            file=form.file_name,
            sha256=digest(content),
            answer=stage.answer,
            inputs=tuple(self._port(stage.graph, name) for name in stage.graph.inputs),
            outputs=tuple(self._port(stage.graph, name) for name in stage.graph.outputs),
            probabilities=_is_softmax(stage),
            macs=total.macs,
            bit_operations=total.bit_operations,
        )

    def _port(self, graph: Graph, name: str) -> Port:
        tensor, code_type = graph.tensors[name], self.form.definition.code_type
        if tensor.qparams is None or code_type is None:
            return Port(name=name, dtype="float32", shape=tensor.shape)
        shift = self._shift(tensor.qparams)
        return Port(
            name=name,
            dtype=np.dtype(code_type).name,
            shape=tensor.shape,
            scale=tensor.qparams.scale,
            zero_point=tensor.qparams.zero_point + shift,
            lowest=tensor.qparams.qmin + shift,
            highest=tensor.qparams.qmax + shift,
        )


def _is_softmax(stage: Stage) -> bool:
    producer = stage.graph.producer(stage.answer)
    return producer is not None and producer.op == "softmax"


def _emitted(stage: Stage, form: Format, evidence: Evidence, *, is_first: bool) -> bytes:
    definition = form.definition
    card = Card(
        name=stage.graph.name,
        labels=evidence.labels_of_first,
        preprocessing=evidence.taken_by(stage.graph) if is_first else None,
    )
    content = definition.emit(stage.graph, card=card)
    if definition.check is not None:
        definition.check(stage.graph, content)
    return content


def _proof(stage: Stage, form: Format, content: bytes, metrics: Mapping[str, Any]) -> Proof:
    return Proof(
        stage.graph,
        [(form, content)],
        judge_keras=stage.graph.tensors[stage.answer].qparams is None,
        by_keras=(stage.answer,),
        metrics={stage.answer: metrics} if metrics else {},
    )
