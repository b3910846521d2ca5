"""Starting the replicas that train one run, and what of its folder all their processes get."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from keras_quant.data import Dataset
from keras_quant.errors import KerasQuantError, RunError
from keras_quant.jobs.train_settings import TrainSettings
from keras_quant.runs import RunFolder
from keras_quant.runs.records import RunRecord
from keras_quant.schemes.file import scheme_to_yaml
from keras_quant.training import checkpoint, rendezvous
from keras_quant.training.replicas import (
    Replicas,
    check_divides,
    from_chief,
    mirrored,
    multiworker,
)

# What may differ between workers: where things are on each machine, and what decides over nothing.
_OWN = (
    *("worker", "workers", "worker_timeout_seconds", "threads", "tensorboard", "trust"),
    *("parent", "teachers", "boosts", "members", "scheme"),
)
_REFUSED = "refused"  # the name under which the chief tells why it does not begin

OpenFolder = Callable[[], contextlib.AbstractContextManager[tuple[RunFolder, RunRecord]]]
"""Opens the folder of a run, and gives the record that it was begun with."""


def start_replicas(settings: TrainSettings, dataset: Dataset) -> Replicas | None:
    """Makes the replicas that settings ask for; of several processes it waits for all.

    Comes before TensorFlow computes anything.

    Returns: None where there is one device, and so nothing to share.
    Raises:
        UsageError: there is one device only, addresses that cannot be read, or a batch that is
            not divisible.
        RunError: a worker does not answer in time, or was started with other options.
    """
    if not settings.strategy:
        return None
    if settings.strategy == "mirrored":
        replicas = mirrored()
    else:
        cluster = rendezvous.cluster_of(
            settings.workers, settings.worker, os.environ.get("TF_CONFIG")
        )
        rendezvous.meet(
            cluster, _asked(settings, dataset), timeout_seconds=settings.worker_timeout_seconds
        )
        replicas = multiworker(cluster)
    check_divides(min(settings.batch_size, len(dataset.train)), replicas)
    return replicas


def _asked(settings: TrainSettings, dataset: Dataset) -> dict[str, str]:
    """What all workers have to agree in."""
    fields = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return {name: str(value) for name, value in fields.items() if name not in _OWN} | {
        "scheme": scheme_to_yaml(settings.scheme),
        "training images": f"{len(dataset.train):,} of {dataset.input_shape}",
    }


@contextlib.contextmanager
def shared_folder(
    opened: OpenFolder, record: RunRecord, replicas: Replicas | None
) -> Iterator[tuple[RunFolder, RunRecord]]:
    """Opens the run's folder in the chief, and one that is forgotten in other processes.

    That holds what the chief's does: the statistics of activations and the checkpoint.

    Args:
        opened: opens that of the chief.
        record: of the settings; for other processes.
    Raises:
        RunError: the chief cannot begin, or is gone.
    """
    if replicas is None or replicas.cluster is None:
        with opened() as both:
            yield both
    elif replicas.is_chief:
        with _told(opened, replicas) as (folder, begun):
            names = (folder.statistics.name, checkpoint.FILE_NAME)
            paths = [folder.path / name for name in names]
            from_chief({p.name: p.read_bytes() for p in paths if p.exists()}, replicas)
            yield folder, begun
    else:
        files = from_chief(None, replicas)
        if _REFUSED in files:
            chief = replicas.cluster.named(rendezvous.CHIEF)
            raise RunError(f"{chief} does not begin: {files[_REFUSED].decode()}")
        with tempfile.TemporaryDirectory(prefix="kq-worker-") as name:
            for file, data in files.items():
                (Path(name) / file).write_bytes(data)
            yield RunFolder(Path(name)), record


@contextlib.contextmanager
def _told(opened: OpenFolder, replicas: Replicas) -> Iterator[tuple[RunFolder, RunRecord]]:
    """Opens the chief's folder; where that fails the other processes are told why."""
    with contextlib.ExitStack() as stack:
        try:
            both = stack.enter_context(opened())
        except KerasQuantError as error:
            from_chief({_REFUSED: str(error).encode()}, replicas)
            raise
        yield both
