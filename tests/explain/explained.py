"""A record that no model made."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_quant.explain.record import Explained, Header, Histogram, Maps, Tensor


def histogram(levels: int = 4) -> Histogram:
    return Histogram(
        edges=np.linspace(-1.0, levels, 7),
        before=np.arange(6, dtype=np.int64),
        levels=np.arange(levels, dtype=np.float64),
        after=np.arange(levels, dtype=np.int64),
    )


def explained(**changes) -> Explained:
    """Two tensors, three classes, and maps of two images, the second of which has an empty one."""
    rng = np.random.default_rng(0)
    maps = Maps(
        images=rng.integers(0, 255, (2, 5, 6, 1)).astype(np.uint8),
        classes=np.array([0, 2]),
        of_float=rng.random((2, 5, 6)).astype(np.float32),
        of_quantized=np.stack([rng.random((5, 6)), np.zeros((5, 6))]).astype(np.float32),
    )
    made = Explained(
        header=Header(
            images=9,
            split="test",
            float_model="models/base",
            class_names=("cat", "dog", "owl"),
            tensors=(
                Tensor(name="conv1", kind="weights", bits=2, unit="scales"),
                Tensor(name="relu1", kind="activations", bits=4, unit="reals"),
            ),
            layer_names=("relu1", "relu1"),
        ),
        histograms=(histogram(), histogram(16)),
        confusion=np.array(
            [[[5, 1, 0], [0, 6, 0], [0, 0, 8]], [[4, 2, 0], [0, 6, 0], [1, 0, 7]]], np.int64
        ),
        maps=maps,
    )
    return dataclasses.replace(made, **changes)
