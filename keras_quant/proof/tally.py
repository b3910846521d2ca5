"""Counts how far a file's answers are from the reference's and from Keras', and what is allowed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from keras_quant.model.metrics import Scores
from keras_quant.proof.distance import LOGIT_TOLERANCE, Distance

Arrays = Mapping[str, np.ndarray]

SHARE_TOLERANCE = 1e-3
"""Largest share of images, rounded up, that may be answered otherwise where rounding may differ.

Keras computes in float32 what the graph computes in integers: at 5 bits and more, values
within its rounding error of a half may fall to the next code. Measured: no image in 10,000.
"""

RMS_TOLERANCE = 1e-2
"""Largest root mean square of differences, as a share of the answers', where more images differ.

A share p of codes that are one step off adds noise of variance p to the 1/12 (in steps squared)
that rounding itself adds, so that it is sqrt(12 p) times as far as quantization. Keras had at most
2.2e-5 of the codes otherwise (tests/test_exactness.py), which is 1.6 % of what quantizing changes;
the furthest net of them was 4e-3 off. Convolutions of wrong scales were 0.10 and 0.22 off.
"""


@dataclass(slots=True, kw_only=True)
class OutputTally:
    """How far an output is from the reference's, and from Keras' own; None where not compared."""

    reference: Distance = field(default_factory=Distance)
    keras: Distance | None = None


@dataclass(slots=True, kw_only=True)
class Tally:
    """What the batches compared so far came to.

    Attributes:
        images: how many images were compared.
        compared: codes, by tensor.
        different: those that are not the reference's, by tensor.
        outputs: by name.
        scores: what the answers are worth.
        seconds: how long the file and its probe took.
    """

    images: int = 0
    compared: Counter[str] = field(default_factory=Counter)
    different: Counter[str] = field(default_factory=Counter)
    outputs: dict[str, OutputTally] = field(default_factory=dict)
    scores: Scores = field(default_factory=Scores)
    seconds: float = 0.0

    def add_outputs(self, expected: Arrays, found: Arrays, keras: Arrays | None) -> None:
        """Compares a batch's outputs, all by name and in reals; Keras may answer some of them."""
        for name, answers in found.items():
            tally = self.outputs.setdefault(name, OutputTally())
            tally.reference.add(answers, expected[name])
            if keras is not None and name in keras:
                tally.keras = tally.keras or Distance()
                tally.keras.add(answers, keras[name])

    def merge(self, other: Tally) -> None:
        """Adds what another batch came to."""
        self.images += other.images
        self.compared.update(other.compared)
        self.different.update(other.different)
        self.scores.merge(other.scores)
        self.seconds += other.seconds
        for name, more in other.outputs.items():
            tally = self.outputs.setdefault(name, OutputTally())
            tally.reference.merge(more.reference)
            if more.keras is not None:
                tally.keras = tally.keras or Distance()
                tally.keras.merge(more.keras)

    def problems(self, codes_tolerance: float, *, judge_keras: bool) -> Iterable[str]:
        """Says what keeps the file from passing.

        Args:
            codes_tolerance: the largest share of other codes; 0 asks for the reference's answers
                on every image.
            judge_keras: whether Keras' answers count, where they were compared.
        """
        different, compared = self.different.total(), self.compared.total()
        if different > codes_tolerance * compared:
            yield (
                f"{different:,} of {compared:,} codes differ (a share of {codes_tolerance:g} is "
                "allowed)"
            )
        for name, tally in self.outputs.items():
            if codes_tolerance:
                yield from _nearly(name, "the reference", tally.reference)
            else:
                yield from _exactly(name, tally.reference)
            if judge_keras and tally.keras is not None:
                yield from _nearly(name, "Keras", tally.keras)


def _exactly(name: str, distance: Distance) -> Iterable[str]:
    """What is wrong with an output that has to be the reference's on every image."""
    if not distance.scaled <= LOGIT_TOLERANCE:
        yield (
            f"output {name} is up to {distance.scaled:.2g} from the reference's, in units of an "
            f"image's largest ({LOGIT_TOLERANCE:g} is allowed)"
        )
    allowed = min(distance.torn, math.ceil(SHARE_TOLERANCE * distance.images))
    if distance.ranked - distance.top1 > allowed:
        yield (
            f"top-1 of output {name} is the reference's on {distance.top1:,} of "
            f"{distance.ranked:,} images (all but {allowed:,}, where two values tie, are needed)"
        )


def _nearly(name: str, whose: str, distance: Distance) -> Iterable[str]:
    """What is wrong with an output that may differ where rounding does."""
    allowed = math.ceil(SHARE_TOLERANCE * distance.images)
    far = distance.images - distance.near
    if far > allowed and not distance.relative <= RMS_TOLERANCE:
        yield (
            f"output {name} differs from that of {whose} on {far:,} of {distance.images:,} images, "
            f"by a root mean square of {distance.relative:.2%} of it ({allowed:,} images, or "
            f"{RMS_TOLERANCE:.0%}, are allowed)"
        )
    if distance.ranked - distance.top1 > allowed:
        yield (
            f"top-1 of output {name} is that of {whose} on {distance.top1:,} of "
            f"{distance.ranked:,} images (all but {allowed:,} are needed)"
        )
