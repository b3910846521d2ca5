"""What the model itself answers: as its files do, as it was given, and the float one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from keras_quant.graph.ir import Graph
from keras_quant.lower import Snap
from keras_quant.model.metrics import Metrics, Scores
from keras_quant.model.tasks import RECONSTRUCTION, last_classifier
from keras_quant.pixels import normalize
from keras_quant.proof.distance import Distance
from keras_quant.proof.evidence import Batch, Evidence

Values = Mapping[str, Mapping[str, float]]
"""By output and metric, the mean over all images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputShift:
    """How far an output of another model is from that of the moved model.

    Attributes:
        name: of the output, in the graph.
        difference: largest |other - moved|.
        relative: root mean square of other - moved, as a share of moved.
        top1_agreement: share of images with the same largest value; None for other than vectors.
    """

    name: str
    difference: float
    relative: float
    top1_agreement: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KerasAnswers:
    """What the model itself answers.

    Attributes:
        outputs: names of its outputs in the graph.
        scores: what its answers are worth, with the biases that its files have.
        given_scores: likewise, as it was given; those of `scores` where nothing was moved.
        shifts: how far these two are from each other, by output; () where nothing was moved.
        source_scores: what the float model's answers are worth; none where nobody asked.
        quantization: how far the float model is from the moved one, by output; () likewise.
        input_scores: what noisy images themselves are worth as answers; none of clean ones.
        moved_channels: channels whose bias was moved for this export (see lower.snap).
        largest_shift_steps: the largest such move, in steps of the output.
    """

    outputs: tuple[str, ...]
    scores: Values
    given_scores: Values
    shifts: tuple[OutputShift, ...]
    source_scores: Values
    quantization: tuple[OutputShift, ...]
    input_scores: Values
    moved_channels: int
    largest_shift_steps: float


@dataclass(slots=True, kw_only=True, eq=False)
class KerasTally:
    """What the model answered so far: as it is, as it was given, and in float.

    Attributes:
        best: of each image, the class that its last classifier gives it.
    """

    snap: Snap
    evidence: Evidence
    scores: Scores
    given_scores: Scores
    shifts: dict[str, Distance]
    source_scores: Scores
    quantization: dict[str, Distance]
    input_scores: Scores
    best: list[int] = field(default_factory=list)

    @classmethod
    def start(cls, snap: Snap, evidence: Evidence) -> KerasTally:
        """Begins with no images."""
        metrics = metrics_by_name(snap.graph, evidence)
        names = snap.graph.outputs
        return cls(
            snap=snap,
            evidence=evidence,
            scores=Scores(metrics=metrics),
            given_scores=Scores(metrics=metrics),
            shifts={name: Distance() for name in names if evidence.given},
            source_scores=Scores(metrics=metrics if evidence.source else {}),
            quantization={name: Distance() for name in names if evidence.source},
            input_scores=Scores(metrics=_of_images(names, metrics, evidence)),
        )

    def add(self, batch: Batch) -> None:
        """Adds the answers to some images."""
        outputs, tasks = self.snap.graph.outputs, self.evidence.tasks
        targets = dict(zip(outputs, batch.targets, strict=True))
        moved = dict(zip(outputs, batch.keras, strict=True))
        given = dict(zip(outputs, batch.given or batch.keras, strict=True))
        self.scores.add(moved, targets)
        self.given_scores.add(given, targets)
        for name, distance in self.shifts.items():
            distance.add(given[name], moved[name])
        if self.input_scores.metrics:
            inputs = normalize(batch.images, self.evidence.preprocessing)
            self.input_scores.add(dict.fromkeys(outputs, inputs), targets)
        if batch.source is not None:
            source = dict(zip(outputs, batch.source, strict=True))
            self.source_scores.add(source, targets)
            for name, distance in self.quantization.items():
                distance.add(source[name], moved[name])
        place = last_classifier(tasks)
        if place is not None:
            self.best += batch.keras[place].argmax(axis=-1).tolist()

    def answers(self) -> KerasAnswers:
        """Sums up."""
        return KerasAnswers(
            outputs=self.snap.graph.outputs,
            scores=self.scores.means(),
            given_scores=self.given_scores.means(),
            shifts=_as_shifts(self.shifts),
            source_scores=self.source_scores.means(),
            quantization=_as_shifts(self.quantization),
            input_scores=self.input_scores.means(),
            moved_channels=self.snap.moved,
            largest_shift_steps=self.snap.largest_shift_steps,
        )


def _of_images(outputs: Sequence[str], metrics: Metrics, evidence: Evidence) -> Metrics:
    """Those of outputs that are images, where noise was added to what these are compared with."""
    named = zip(outputs, evidence.tasks, strict=True)
    images = [name for name, task in named if task == RECONSTRUCTION]
    return {name: metrics[name] for name in images if evidence.is_noisy}


def _as_shifts(distances: Mapping[str, Distance]) -> tuple[OutputShift, ...]:
    return tuple(
        OutputShift(
            name=name,
            difference=distance.largest,
            relative=distance.relative,
            top1_agreement=distance.agreement,
        )
        for name, distance in distances.items()
    )


def metrics_by_name(graph: Graph, evidence: Evidence) -> Metrics:
    """What the outputs of a graph are judged by; of a graph of the model, in its outputs' order."""
    named = zip(graph.outputs, evidence.metrics, strict=True)
    return {name: metrics for name, metrics in named if metrics}
