"""How much each width of each layer hurts: measured, or guessed by what costs less to know.

Four numbers, by name; the higher the worse. Each is summed over layers when bits are chosen, as if
layers did not know of each other.

measured      what the loss gains; without labels, the squared distance from the float answers
output-error  what the layer's own output is off, squared, as a share of it
entropy       bits a weight that are lost of the entropy of the kernel's codes. EAGL (Bablani et
              al., "Efficient and Effective Methods for Mixed Precision Neural Network
              Quantization", arXiv:2301.13330) takes the entropy of 4-bit codes for what a layer
              gains by having 4 bits in place of 2; ours is the entropy at the widest width of the
              record less that at the width in question, which compares any number of widths.
hessian       mean of the Hessian's eigenvalues times the squared distance that rounding moves the
              kernel by, trace / n * ||Q(W) - W||^2: HAWQ-V2 (Dong et al., "HAWQ-V2: Hessian Aware
              trace-Weighted Quantization of Neural Networks", NeurIPS 2020). The traces are
              Hutchinson's, see `search.hessian`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from keras_quant.search.record import Entry, Sensitivity

Harm = Callable[[Sensitivity, Entry], float | None]


def _measured(record: Sensitivity, entry: Entry) -> float:
    if entry.outcome.loss is None or record.baseline.loss is None:
        return entry.outcome.distance**2
    return entry.outcome.loss - record.baseline.loss


def _output_error(record: Sensitivity, entry: Entry) -> float | None:
    return entry.output_error


def _entropy(record: Sensitivity, entry: Entry) -> float | None:
    widest = record.entry(entry.layer, max(record.settings.bits))
    return None if widest is None else widest.entropy - entry.entropy


def _hessian(record: Sensitivity, entry: Entry) -> float | None:
    trace = (record.traces or {}).get(entry.layer)
    return None if trace is None else trace.value / trace.parameters * entry.squared_error


HARMS: Mapping[str, Harm] = {
    "measured": _measured,
    "output-error": _output_error,
    "entropy": _entropy,
    "hessian": _hessian,
}
"""By name: of a record and one of its entries; None where that was not measured."""

MEASURED = "measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """How well a cheap number ranks what was measured: Spearman's rank correlation, -1 to 1.

    Attributes:
        harm: its name.
        overall: over all layers and widths; None where ranks say nothing, as of one entry.
        by_bits: over the layers, at each width.
    """

    harm: str
    overall: float | None
    by_bits: Mapping[int, float | None]


def correlations(record: Sensitivity) -> tuple[Correlation, ...]:
    """Compares the ranks of each cheap number with those that were measured."""
    found = []
    for name in HARMS:
        if name != MEASURED:
            by_bits = {
                bits: _rank_correlation(record, name, [e for e in record.entries if e.bits == bits])
                for bits in record.settings.bits
            }
            overall = _rank_correlation(record, name, list(record.entries))
            found.append(Correlation(harm=name, overall=overall, by_bits=by_bits))
    return tuple(found)


def _rank_correlation(record: Sensitivity, name: str, entries: list[Entry]) -> float | None:
    from scipy.stats import spearmanr

    pairs = [(HARMS[name](record, entry), _measured(record, entry)) for entry in entries]
    known = np.array([pair for pair in pairs if None not in pair], np.float64)
    if len(known) < 3 or any(len(np.unique(column)) == 1 for column in known.T):
        return None
    value = float(spearmanr(known[:, 0], known[:, 1]).statistic)
    return value if math.isfinite(value) else None
