"""The figures of what was seen."""

from __future__ import annotations

import numpy as np

from keras_quant.explain.overlap import Overlap, overlap
from keras_quant.explain.record import Explained, Maps


def summary(found: Explained) -> dict[str, object]:
    """Figures by name: counts of tensors, accuracies, and how far maps overlap, image by image."""
    kinds = [tensor.kind for tensor in found.header.tensors]
    figures: dict[str, object] = {
        "kernels": kinds.count("weights"),
        "rounded_activations": kinds.count("activations"),
    }
    if found.confusion is not None:
        names = ("accuracy_float", "accuracy_quantized")[-len(found.confusion) :]
        for name, matrix in zip(names, found.confusion, strict=True):
            figures[name] = accuracy(matrix)
    if found.maps is not None:
        overlaps = overlaps_of(found.maps)
        figures["overlap_iou"] = [one.iou for one in overlaps]
        figures["overlap_rank_correlation"] = [one.rank_correlation for one in overlaps]
    return figures


def accuracy(matrix: np.ndarray) -> float:
    """Share of the images on the diagonal of a confusion matrix."""
    return float(np.trace(matrix) / max(1, matrix.sum()))


def overlaps_of(maps: Maps) -> list[Overlap]:
    """How far the maps of the two models overlap, by image."""
    return [overlap(*pair) for pair in zip(maps.of_float, maps.of_quantized, strict=True)]
