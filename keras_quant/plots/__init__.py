"""Pictures of records: functions that return a matplotlib Figure and touch no file or style."""

from __future__ import annotations

from keras_quant.plots.layers import bits_of_layers
from keras_quant.plots.tradeoff import COSTS, pareto, score_against_bits, score_against_cost
from keras_quant.plots.training import training_curves

__all__ = [
    "COSTS",
    "bits_of_layers",
    "pareto",
    "score_against_bits",
    "score_against_cost",
    "training_curves",
]
