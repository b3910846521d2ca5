"""Training that leaves clustered weights equal.

Weights of a kernel that begin equal are one number that is trained: Han et al., "Deep Compression"
(2016), section 3; what TF-MOT calls cluster-preserving quantization (CQAT), and with zeros kept as
well (`sparsity`) PCQAT. Each gets the mean of its cluster's gradients, so that momentum, Adam's
averages and weight decay are those of one weight; and after each update the value of the first,
since an optimizer may round a vector's last elements otherwise, and constraints see channels.

What differs: the paper (eq. 3) and TF-MOT add gradients up. By their mean a step is the nearest to
that of free weights which leaves clusters equal, and a learning rate is worth the same; Adam
divides by the number in any case. TF-MOT moves weights from cluster to cluster as it trains; here
each stays in its own.

Codes are rounded from a weight and what its channel shares, so that a channel has no more different
codes than its clusters. Channels have scales of their own: one cluster may have another code in
each, unless the scheme gives kernels one scale (`per_channel: false`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_quant.errors import UsageError
from keras_quant.tf import keras, tf
from keras_quant.training.sparsity import trained_kernels

_TOLD = 10  # kernels in one message


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clustered:
    """A kernel of clusters.

    Attributes:
        layer: the name of the layer that has it.
        variable: what is trained.
        cluster: of each weight, in the variable's order: int32 (weights,), from 0.
        first: of each cluster a weight's place: int32 (clusters,).
    """

    layer: str
    variable: Any
    cluster: np.ndarray
    first: np.ndarray


def clustered_kernels(model: keras.Model) -> list[Clustered]:
    """Finds the trainable kernels of a model that are clustered.

    Those are: weights other than 0 have at most half as many different values as there are. By
    chance float32 weights do not; and pruning alone makes no clusters.

    Args:
        model: as it is before training, quantized or not.
    """
    return [
        _clustered(layer, variable)
        for layer, variable in trained_kernels(model)
        if _is_clustered(variable.numpy())
    ]


def _clustered(layer: str, variable: Any) -> Clustered:
    _, first, cluster = np.unique(variable.numpy(), return_index=True, return_inverse=True)
    return Clustered(
        layer=layer,
        variable=variable,
        cluster=cluster.reshape(-1).astype(np.int32),
        first=first.astype(np.int32),
    )


def _is_clustered(values: np.ndarray) -> bool:
    different, weights = _count(values)
    return 0 < 2 * different <= weights


def _count(values: np.ndarray) -> tuple[int, int]:
    """How many different values there are, and how many, without those that are 0."""
    others = values[values != 0]
    return len(np.unique(others)), others.size


def describe_clusters(model: keras.Model) -> str:
    """Says which kernels are clustered and which are not, with their numbers of values.

    Raises:
        UsageError: none is.
    """
    held, free = [], []
    for layer, variable in trained_kernels(model):
        values = variable.numpy()
        if _is_clustered(values):
            held.append(f"{layer} {len(np.unique(values)):,} of {values.size:,}")
        else:
            different, weights = _count(values)
            free.append(f"{layer} {different:,} of {weights:,}")
    if not held:
        raise UsageError(
            "--keep-clusters: in no kernel have the weights other than 0 half as many different "
            f"values as there are, or fewer: {_listed(free)}. Give a clustered model, such as "
            "TF-MOT's strip_clustering gives, as --model FILE or --from RUN"
        )
    rest = f"; not clustered: {_listed(free)}" if free else ""
    count = f"{len(held)} kernel{'s' if len(held) > 1 else ''}"
    return f"holding the clusters of {count}, values of weights: {_listed(held)}{rest}"


def _listed(texts: Sequence[str]) -> str:
    rest = len(texts) - _TOLD
    return ", ".join(texts[:_TOLD]) + (f" and {rest} more" if rest > 0 else "")


def keep_clusters(optimizer: keras.optimizers.Optimizer, clustered: Sequence[Clustered]) -> None:
    """Lets each update of an optimizer move the weights of a cluster alike."""
    held = {each.variable._unique_id: each for each in clustered}
    apply = optimizer.apply_gradients

    def shared(gradient: tf.Tensor | None, variable: Any) -> tf.Tensor | None:
        each = held.get(variable._unique_id)
        return gradient if gradient is None or each is None else _mean(gradient, each)

    def apply_gradients(grads_and_vars: Any, *given: Any, **named: Any) -> Any:
        done = apply([(shared(g, v), v) for g, v in grads_and_vars], *given, **named)
        for each in clustered:
            flat = tf.reshape(tf.convert_to_tensor(each.variable), [-1])
            each.variable.assign(_spread(tf.gather(flat, each.first), each))
        return done

    optimizer.apply_gradients = apply_gradients


def _mean(gradient: tf.Tensor, each: Clustered) -> tf.Tensor:
    """The mean of each weight's cluster."""
    count = len(each.first)
    members = np.bincount(each.cluster, minlength=count)
    total = tf.math.unsorted_segment_sum(tf.reshape(gradient, [-1]), each.cluster, count)
    return _spread(total / tf.constant(members, total.dtype), each)


def _spread(values: tf.Tensor, each: Clustered) -> tf.Tensor:
    """Clusters' values as those of their weights."""
    return tf.reshape(tf.gather(values, each.cluster), each.variable.shape)
