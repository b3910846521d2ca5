"""Datasets: what is known by name, loading with checks, and batches for training.

`keras_quant.data.pipeline` is the only module here that needs TensorFlow.
"""

from __future__ import annotations

from keras_quant.data.catalog import DATASETS, DatasetInfo, is_available
from keras_quant.data.dataset import Dataset, Split
from keras_quant.data.load import load_dataset

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetInfo",
    "Split",
    "is_available",
    "load_dataset",
]
