"""Learns the layer that makes the scores of several views one answer: CC of DDNN.

In DDNN, Teerapittayanon et al. 2017, section III.C, this linear layer is trained with the net. Here
the net is done, and its files are proven; so the layer is learned on what these files answer, which
is multinomial logistic regression, a convex problem.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from keras_quant.anytime.views import Concat, Layer
from keras_quant.errors import DataError
from keras_quant.runs.concat import ConcatRecord, LayerRecord

INVERSE_STRENGTH = 1.0
"""scikit-learn's C, and its default: so much the sum of losses counts beside half the sum of
squared weights, where scores were divided by their standard deviation."""

MOST_STEPS = 2000
"""Of L-BFGS; some hundred are usual."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learned:
    """A layer, and whether its optimum was reached within MOST_STEPS."""

    layer: Layer
    converged: bool


def learn(scores: np.ndarray, labels: np.ndarray) -> Learned:
    """Learns the layer of an exit.

    Args:
        scores: float32 (views, things, classes), what the exit answers.
        labels: int (things,), class numbers, in which each class occurs.
    Raises:
        DataError: scores are not finite.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    views, things, classes = scores.shape
    if not np.isfinite(scores).all():
        raise DataError("its scores are not all finite, and nothing can be learned from such")
    inputs = np.moveaxis(scores, 0, 1).reshape(things, -1).astype(np.float64)
    spread = float(inputs.std()) or 1.0
    model = LogisticRegression(C=INVERSE_STRENGTH, max_iter=MOST_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is returned
        model.fit(inputs / spread, labels)
    weights, bias = model.coef_ / spread, model.intercept_
    if classes == 2:  # one row, of the second class; the first has 0
        weights, bias = np.vstack([0 * weights, weights]), np.append(0, bias)
    layer = Layer(
        weights=weights.T.reshape(views, classes, classes).astype(np.float32),
        bias=bias.astype(np.float32),
    )
    return Learned(layer=layer, converged=bool(model.n_iter_.max() < MOST_STEPS))


def recorded(layer: Layer) -> LayerRecord:
    """A layer as a record keeps it."""
    rows = layer.weights.reshape(-1, layer.weights.shape[-1])
    return LayerRecord(
        weights=tuple(tuple(row) for row in rows.tolist()), bias=tuple(layer.bias.tolist())
    )


def concat_of(record: ConcatRecord) -> Concat:
    """The layers of a record."""
    shape = (record.views, record.classes, record.classes)
    return Concat(
        layers=tuple(
            Layer(
                weights=np.array(one.weights, np.float32).reshape(shape),
                bias=np.array(one.bias, np.float32),
            )
            for one in record.layers
        )
    )
