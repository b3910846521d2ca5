"""What a comparison of two files says, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keras_quant.bench.statistics import Interval, Rounds, paired_ratio, unpaired_ratio

FASTER, SLOWER, NO_DIFFERENCE = "faster", "slower", "no difference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether one file is faster than another.

    Attributes:
        name, other: the files, as the table calls them.
        ratio: of the time that `name` takes to that of `other`: below 1 it is faster.
        word: FASTER, SLOWER or NO_DIFFERENCE: whether the interval leaves out 1, and on which side.
        paired: whether the two were timed in turn.
    """

    name: str
    other: str
    ratio: Interval
    word: str
    paired: bool = True

    def exceeds(self, share: float) -> bool:
        """Whether the file is slower, by more than a share of the other one's time."""
        return self.word == SLOWER and self.ratio.value > 1 + share

    def text(self) -> str:
        """The verdict as a sentence."""
        low, high = self.ratio.low, self.ratio.high
        if self.word == NO_DIFFERENCE:
            return f"no difference: {self.name} takes {_times(self.ratio)} the time of {self.other}"
        if self.word == FASTER:
            speed = Interval(value=1 / self.ratio.value, low=1 / high, high=1 / low)
            return f"{self.name} is faster than {self.other}: {_times(speed)} as fast"
        return f"{self.name} is slower than {self.other}: it takes {_times(self.ratio)} the time"


def compare(
    name: str,
    other: str,
    *,
    loads: Sequence[Rounds],
    other_loads: Sequence[Rounds],
    paired: bool = True,
) -> Verdict:
    """Compares the samples of two files.

    Args:
        paired: whether they were timed in turn, with as many loads and rounds.
    """
    ratio = (paired_ratio if paired else unpaired_ratio)(loads, other_loads)
    return Verdict(name=name, other=other, ratio=ratio, word=_word(ratio), paired=paired)


def _word(ratio: Interval) -> str:
    if ratio.high < 1:
        return FASTER
    return SLOWER if ratio.low > 1 else NO_DIFFERENCE


def _times(ratio: Interval) -> str:
    return f"{ratio.value:.3f} times ({ratio.low:.3f} to {ratio.high:.3f})"
