"""Pictures of records: functions that return a matplotlib Figure and touch no file or style."""

from __future__ import annotations

from keras_quant.plots.accuracy import accuracy_against_size

__all__ = ["accuracy_against_size"]
