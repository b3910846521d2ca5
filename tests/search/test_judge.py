"""What models' answers are worth beside those of the first."""

from __future__ import annotations

import numpy as np
import pytest

from keras_quant.data import Dataset, Split
from keras_quant.preprocessing import UNIT
from keras_quant.search.judge import Judge


def test_a_variational_autoencoder_is_judged_by_its_elbo() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (3, 2, 2, 1)).astype(np.uint8)
    split = Split(x=x, y=np.zeros(3, np.int32))
    data = Dataset(
        name="toy+elbo",
        train=split,
        validation=split,
        test=split,
        class_names=("a",),
        source="toy",
        preprocessing=UNIT,
        elbo=True,
    )
    mean, logarithm = rng.normal(size=(2, 3, 5)).astype(np.float32)
    logits = rng.normal(size=(3, 2, 2, 1)).astype(np.float32)
    found = Judge(data, split, lambda reals: (mean, logarithm, logits))
    p, bit = x / 255, 1 / (1 + np.exp(-logits.astype(np.float64)))
    likelihood = (p * np.log(bit) + (1 - p) * np.log(1 - bit)).sum(axis=(1, 2, 3))
    divergence = (mean**2 + np.exp(logarithm) - 1 - logarithm).sum(axis=1) / 2
    assert found.metric == "ELBO"
    assert found.baseline.score == pytest.approx((likelihood - divergence).mean(), rel=1e-6)
    assert found.baseline.loss == pytest.approx(-found.baseline.score)
