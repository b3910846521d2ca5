"""How sure an answer is, and at which exit that is enough."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from keras_quant.errors import close_names

NEVER = 2.0
"""A threshold that no answer reaches: sureness is 1 at most."""

_SMALLEST_SHARE = np.float32(1e-30)  # a softmax may round to 0, which has no logarithm


def as_logits(shares: np.ndarray) -> np.ndarray:
    """The logarithms of probabilities, (..., classes): logits that have the same softmax."""
    return np.asarray(np.log(np.maximum(shares, _SMALLEST_SHARE)))


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Gives the softmax of (..., classes) logits, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    softmax: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return softmax


def _by_entropy(shares: np.ndarray) -> np.ndarray:
    # BranchyNet, Teerapittayanon et al. 2016, section III: there an image exits where the entropy
    # is below a threshold; divided by that of equal shares and taken from 1, it is a sureness.
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    by_entropy: np.ndarray = 1 + (shares * logs).sum(-1) / np.log(shares.shape[-1])
    return by_entropy


def _by_margin(shares: np.ndarray) -> np.ndarray:
    top = np.partition(shares, -2, axis=-1)[..., -2:]
    margin: np.ndarray = top[..., 1] - top[..., 0]
    return margin


def _by_maximum(shares: np.ndarray) -> np.ndarray:
    # As MSDNet has it, Huang et al. 2018.
    maximum: np.ndarray = shares.max(axis=-1)
    return maximum


RULES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "entropy": _by_entropy,
    "max": _by_maximum,
    "margin": _by_margin,
}
"""What measures how sure an answer is: of (..., classes) probabilities, 0 to 1."""


SPARSITY_RULES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "zeros": lambda zeros: zeros,
    "activity": lambda zeros: 1 - zeros,
}
"""What measures how easy an image is by the share of zeros, (...), in what a stage hands on.

zeros: the more of them the easier; activity: the fewer. They cost nothing, and which of them tells
anything is found out on validation images.
"""


def unknown_rule(name: str, known: Collection[str] = tuple(RULES)) -> list[str]:
    """What is wrong with `--rule NAME`: nothing where it is known."""
    if name in known:
        return []
    return [f"--rule {name!r} is not known{close_names(name, known)}; rules are {', '.join(known)}"]


def sureness(logits: np.ndarray, rule: str) -> np.ndarray:
    """How sure answers are.

    Args:
        logits: (..., classes), of two classes or more.
        rule: a key of RULES.
    Returns: float64 (...), from 0, all classes alike, to 1. An answer that holds NaN is not sure
        at all: 0.
    """
    measured = RULES[rule](probabilities(logits))
    within: np.ndarray = np.fmax(np.minimum(measured, 1.0), 0.0)  # of NaN and 0 it gives 0
    return within


def ease(logits: np.ndarray, zeros: np.ndarray | None, rule: str) -> np.ndarray:
    """How easy images are, by the answers to them or by what was handed on.

    Args:
        logits: (..., classes).
        zeros: (...), share of zeros in what was handed on; None where nothing was.
        rule: a key of RULES or SPARSITY_RULES; where nothing was handed on, these give the entropy
            of the answer.
    Returns: float64 (...), 0 to 1.
    """
    if rule not in SPARSITY_RULES:
        return sureness(logits, rule)
    return sureness(logits, "entropy") if zeros is None else SPARSITY_RULES[rule](zeros)


def exits_taken(sure: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The exit at which each image ends: the first whose answer is as sure as its threshold.

    Args:
        sure: (exits, images), see `sureness`; of the last exit it does not count.
        thresholds: (exits - 1,), of all exits but the last, where all remaining images end.
    Returns: int (images,), from 0 on.
    """
    enough = sure[:-1] >= np.asarray(thresholds)[:, None]
    last = np.ones((1, sure.shape[1]), bool)
    taken: np.ndarray = np.concatenate([enough, last]).argmax(axis=0)
    return taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What comes of images that end at exits of their own.

    Attributes:
        images: how many.
        accuracy: share of them that is answered rightly.
        mean_cost: of an image, in the unit of the exits' costs.
        exit_shares: share of the images that ends at each exit.
    """

    images: int
    accuracy: float
    mean_cost: float
    exit_shares: tuple[float, ...]


def outcome(correct: np.ndarray, taken: np.ndarray, costs: np.ndarray) -> Outcome:
    """Sums up what comes of exits.

    Args:
        correct: bool (exits, images), whether an exit's answer is right.
        taken: int (images,), see `exits_taken`.
        costs: (exits,), of all that is computed up to an exit.
    """
    images = correct.shape[1]
    counts = np.bincount(taken, minlength=len(correct))
    return Outcome(
        images=images,
        accuracy=float(correct[taken, np.arange(images)].mean()),
        mean_cost=float(counts @ np.asarray(costs, np.float64) / images),
        exit_shares=tuple(float(share) for share in counts / images),
    )
