"""Runs as TensorBoard's HParams page shows them: settings beside figures, one session a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from keras_quant.errors import MissingDependencyError, UsageError
from keras_quant.files import atomic_write, make_folder
from keras_quant.runs.index import Run

FILE_NAME = "events.out.tfevents.kq"
"""TensorBoard reads files that have "tfevents" in their names."""

METRICS = (
    *("score", "agreement", "size_bytes", "logical_bytes", "parameters", "macs"),
    *("bit_operations", "energy_nj"),
)
"""Figures of `runs.index.Run` that are shown, where a run has them."""

Setting = str | float

_OPTIMIZER = {
    "optimizer": "name",
    "learning rate": "learning_rate",
    "weight decay": "weight_decay",
}


def write_hparams(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Writes a file for the page and one for each run; files of an earlier export are replaced.

    Args:
        folder: what `tensorboard --logdir` gets.
    Returns: the files.
    Raises:
        UsageError: there is no run.
        MissingDependencyError: tensorboard is not installed.
        FileError: the system refuses.
    """
    if not runs:
        raise UsageError("no run is left to export; kq runs list shows what there is")
    summary = _tensorboard()
    names = {name: None for run in runs for name in _settings(run)}
    metrics = [name for name in METRICS if any(getattr(run, name) is not None for run in runs)]
    page = summary.hparams_config_pb(
        hparams=[summary.HParam(name) for name in names],
        metrics=[summary.Metric(name) for name in metrics],
        time_created_secs=min(map(_seconds, runs)),
    )
    written = [_write(folder / FILE_NAME, [page], min(map(_seconds, runs)))]
    for name, run in zip(_names(runs), runs, strict=True):
        seconds = _seconds(run)
        begin = summary.hparams_pb(_settings(run), trial_id=name, start_time_secs=seconds)
        figures = [_scalar(metric, getattr(run, metric)) for metric in metrics]
        parts = [begin, *(one for one in figures if one is not None), _end(seconds)]
        written.append(_write(folder / name / FILE_NAME, parts, seconds))
    return written


def _tensorboard() -> Any:
    """Its module that makes what the page reads; unlike others it does not load TensorFlow."""
    try:
        from tensorboard.plugins.hparams import summary_v2
    except ImportError as error:
        raise MissingDependencyError(
            f"tensorboard cannot be imported ({error}): pip install 'keras_quant[tensorboard]'"
        ) from error
    return summary_v2


def _settings(run: Run) -> dict[str, Setting]:
    """What a run was made with, flat."""
    record = run.record
    found: dict[str, Setting | None] = {
        "model": record.model.name,
        "dataset": record.dataset.name,
        "method": run.method,
        "scheme": run.scheme,
        "weight bits": run.weight_bits,
        "activation bits": run.activation_bits,
        "seed": record.seed,
    }
    if record.training is not None:
        optimizer = record.training.optimizer
        found |= {"epochs": record.training.epochs, "batch size": record.training.batch_size}
        found |= {
            shown: optimizer[name]
            for shown, name in _OPTIMIZER.items()
            if isinstance(optimizer.get(name), str | int | float)
        }
    return {name: value for name, value in found.items() if value is not None}


def _names(runs: Sequence[Run]) -> list[str]:
    """Of folders: that of the run, with those around it where several have one name."""
    counts = Counter(run.name for run in runs)
    return [
        run.name if counts[run.name] == 1 else "-".join(run.path.resolve().parts[1:])
        for run in runs
    ]


def _seconds(run: Run) -> float:
    return datetime.fromisoformat(run.record.created).timestamp()


def _scalar(name: str, value: float | None) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    if value is None:
        return None
    return Summary(value=[Summary.Value(tag=name, simple_value=value)])


def _end(seconds: float) -> Any:
    """Says that a session has ended; `plugins.hparams.summary` does so too, with TensorFlow."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=seconds)
    value = Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(
            plugin_data_pb2.HParamsPluginData(session_end_info=end)
        ),
        tensor=metadata.NULL_TENSOR,
    )
    return Summary(value=[value])


def _write(path: Path, summaries: Sequence[Any], seconds: float) -> Path:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    make_folder(path.parent)
    with atomic_write(path, "wb") as stream:
        writer = RecordWriter(stream)
        events = [Event(wall_time=seconds, file_version="brain.Event:2")]
        events += [Event(wall_time=seconds, step=0, summary=one) for one in summaries]
        for event in events:
            writer.write(event.SerializeToString())
    return path
