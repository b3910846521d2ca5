"""One model on several devices, or in several processes, which train it together (tf.distribute).

Each replica computes the gradients of its share of every batch; their sum moves all copies of the
weights alike. So a training of N replicas is that of one, up to the order of float sums: batches,
their order and the schedule are the same, statistics of batch norms are those of the whole batch,
and what is reported are means over it.

What layers draw at random differs: TensorFlow mixes a replica's number into what it draws.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_quant.data.pipeline import PREFETCHED
from keras_quant.errors import RunError, UsageError
from keras_quant.model.topology import layers_by_name
from keras_quant.tf import keras, tf
from keras_quant.training.rendezvous import Cluster

_TELLING = ("aborted by", "unhealthy", "GRPC error")  # words of TensorFlow for a lost worker


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replicas:
    """Where a model is trained.

    Attributes:
        cluster: the processes; None where it is this one alone.
    """

    strategy: Any
    cluster: Cluster | None = None

    @property
    def count(self) -> int:
        """Replicas, of all processes."""
        return int(self.strategy.num_replicas_in_sync)

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run."""
        return self.cluster is None or self.cluster.is_chief


def mirrored() -> Replicas:
    """All devices of this process: its GPUs, or where there are none its logical CPUs.

    Raises:
        UsageError: there is only one.
    """
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        raise UsageError(
            f"--strategy mirrored needs two GPUs or more, and TensorFlow finds {devices[0].name} "
            "here: leave --strategy out"
        )
    return Replicas(strategy=tf.distribute.MirroredStrategy([each.name for each in devices]))


def multiworker(cluster: Cluster) -> Replicas:
    """All devices of several processes, which have met, see `rendezvous.meet`.

    Raises:
        UsageError: TensorFlow has computed something in this process already.
        RunError: TensorFlow cannot connect them.
    """
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.workers)}),
        task_type="worker",
        task_id=cluster.worker,
        rpc_layer="grpc",
    )
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except RuntimeError as error:
        raise UsageError(
            "--strategy multiworker: TensorFlow is at work in this process already; start each "
            "worker as a process of its own"
        ) from error
    except tf.errors.OpError as error:
        raise RunError(f"TensorFlow cannot connect the workers: {reason(error)}") from error
    return Replicas(strategy=strategy, cluster=cluster)


def reason(error: Exception) -> str:
    """The line of what TensorFlow says that tells most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if any(word in line for word in _TELLING)]
    return (telling or lines or [type(error).__name__])[0]


def check_divides(batch_size: int, replicas: Replicas) -> None:
    """Checks that all replicas get equally many images of each batch.

    Raises:
        UsageError: they do not.
    """
    count = replicas.count
    if batch_size % count:
        near = max(count, batch_size // count * count)
        raise UsageError(
            f"--batch-size: {batch_size} images are not divisible among {count} replicas; give "
            f"{near} or {near + count}"
        )


def shares(examples: tf.data.Dataset, batch_size: int, replicas: Replicas) -> Any:
    """Hands each replica its share of every batch, in the batch's order.

    Args:
        examples: whole batches; the same in all processes.
        batch_size: of them.
    """

    def of_this_process(context: Any) -> tf.data.Dataset:
        pipelines, here = context.num_input_pipelines, context.input_pipeline_id
        mine = examples.rebatch(batch_size // pipelines).shard(pipelines, here)
        return mine.rebatch(batch_size // replicas.count).prefetch(PREFETCHED)

    return replicas.strategy.distribute_datasets_from_function(of_this_process)


@contextlib.contextmanager
def together(model: keras.Model, replicas: Replicas) -> Iterator[None]:
    """Lets a compiled model's steps be those of whole batches.

    Args:
        model: made and compiled in the scope of the strategy; its layers are as before afterwards.
    """
    step, function = model.train_step, model.train_function

    def train_step(data: Any) -> dict[str, tf.Tensor]:
        # Keras adds up what replicas report.
        return {name: value / replicas.count for name, value in step(data).items()}

    with contextlib.ExitStack() as stack:
        for layer in layers_by_name(model).values():
            if isinstance(layer, keras.layers.BatchNormalization):
                stack.enter_context(_Norm(layer).of_whole_batches())
        model.train_step, model.train_function = train_step, None
        try:
            yield
        finally:
            del model.train_step
            model.train_function = function


class _Norm:
    """A batch norm whose statistics are those of all replicas."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._corrects = bool(layer.fused)  # the fused kernel's moving variance is Bessel's

    @contextlib.contextmanager
    def of_whole_batches(self) -> Iterator[None]:
        """Replaces what the layer does in training."""
        layer = self._layer
        average, fused = layer._assign_moving_average, layer.fused
        self._average = average
        layer._moments, layer._assign_moving_average = self._moments, self._assign
        layer.fused = False
        try:
            yield
        finally:
            del layer._moments, layer._assign_moving_average
            layer.fused = fused

    def _moments(
        self, inputs: tf.Tensor, axes: Sequence[int], keep_dims: bool, mask: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        assert mask is None, "images have no masks"
        context = tf.distribute.get_replica_context()
        mean = _mean_of_all(tf.reduce_mean(inputs, axes, keepdims=True), context)
        # As tf.nn.moments: what the mean adds to the gradient of the variance comes to 0.
        squares = tf.math.squared_difference(inputs, tf.stop_gradient(mean))
        variance = _mean_of_all(tf.reduce_mean(squares, axes, keepdims=True), context)
        self._samples = context.num_replicas_in_sync * tf.size(inputs) // tf.size(mean)
        if keep_dims:
            return mean, variance
        return tf.squeeze(mean, axes), tf.squeeze(variance, axes)

    def _assign(self, variable: Any, value: tf.Tensor, *rest: Any) -> Any:
        if self._corrects and variable is self._layer.moving_variance:
            samples = tf.cast(self._samples, value.dtype)
            value = value * (samples / tf.maximum(samples - 1, 1))
        return self._average(variable, value, *rest)


def _mean_of_all(value: tf.Tensor, context: Any) -> tf.Tensor:
    total = context.all_reduce(tf.distribute.ReduceOp.SUM, value)
    return total / context.num_replicas_in_sync


def from_chief(files: Mapping[str, bytes] | None, replicas: Replicas) -> Mapping[str, bytes]:
    """Gives all processes what the chief has.

    Args:
        files: of the chief, by name; None in all others.
    Raises:
        RunError: a worker is gone.
    """
    assert (files is not None) == replicas.is_chief
    if replicas.cluster is None:
        return files or {}
    stream = io.BytesIO()
    if files is not None:
        arrays = {name: np.frombuffer(data, np.uint8) for name, data in files.items()}
        np.savez(stream, allow_pickle=False, **arrays)
    sent = stream.getvalue()
    words = np.frombuffer(sent + bytes(-len(sent) % 4), np.int32)
    (count,) = _sum_of_all(np.array([len(words)], np.int32), replicas)
    if files is None:
        words = np.zeros(count, np.int32)
    received = _sum_of_all(words, replicas)
    with np.load(io.BytesIO(received.tobytes()), allow_pickle=False) as found:
        return {name: found[name].tobytes() for name in found.files}


def weights_of_chief(model: keras.Model, replicas: Replicas) -> None:
    """Gives all processes' models the chief's weights, to the last bit."""
    weights = model.get_weights()
    named = {str(place): each.tobytes() for place, each in enumerate(weights)}
    found = from_chief(named if replicas.is_chief else None, replicas)
    model.set_weights(
        [
            np.frombuffer(found[str(place)], each.dtype).reshape(each.shape)
            for place, each in enumerate(weights)
        ]
    )


def _sum_of_all(words: np.ndarray, replicas: Replicas) -> np.ndarray:
    """What the chief has, int32 (count,); of the others count with 0."""
    with lost_workers_named(replicas):
        summed = _summing(replicas)(tf.constant(words))
        return np.asarray(replicas.strategy.experimental_local_results(summed)[0].numpy())


@functools.cache
def _summing(replicas: Replicas) -> Any:
    """The function of TensorFlow that `_sum_of_all` runs."""

    def each(words: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        of_chief = tf.cast(tf.equal(context.replica_id_in_sync_group, 0), words.dtype)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, words * of_chief)

    signature = [tf.TensorSpec((None,), tf.int32)]
    return tf.function(lambda words: replicas.strategy.run(each, args=(words,)), signature)


@contextlib.contextmanager
def lost_workers_named(replicas: Replicas | None) -> Iterator[None]:
    """Says what it means when a worker is gone in the middle.

    Raises:
        RunError: TensorFlow gave up.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if replicas is None or replicas.cluster is None:
            raise
        cluster = replicas.cluster
        others = [cluster.named(k) for k in range(len(cluster.workers)) if k != cluster.worker]
        raise RunError(
            f"one of {', '.join(others)} is gone, or no longer answers ({reason(error)}). "
            "The last whole epoch is in the run's folder: start all workers again with --resume"
        ) from error
