"""Few bits by way of more: one run a width, each from the weights of the last.

Zhuang et al., "Towards Effective Low-bitwidth Convolutional Neural Networks" (2018): progressive
quantization. Li et al., "Additive Powers-of-Two Quantization" (2020), lower bits likewise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from keras_quant.jobs.train import TrainResult, check_schemes, train_unfinished
from keras_quant.jobs.train_settings import TrainSettings
from keras_quant.runs.progress import Progress
from keras_quant.schemes.scheme import Scheme


def train_progressively(
    settings: TrainSettings,
    stages: Sequence[tuple[Scheme, Path]],
    *,
    command: tuple[str, ...] = (),
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress,
) -> list[TrainResult]:
    """Trains a run for each scheme, in order, from the weights of the one before.

    A teacher stays the same: the parent of the first, where none is named.

    Args:
        settings: of all runs, but for the scheme.
        stages: the scheme and the folder of each run.
        resume: runs that are finished are kept, and one that was stopped goes on.
    Returns: the results of those runs that were trained now.
    Raises: as `train`; what a later scheme would be refused for, before the first is trained.
    """
    first = Path(settings.model) if settings.is_file else None
    own = settings.parent or first
    teachers = settings.teachers or ((own,) if settings.distill and own else ())
    check_schemes(settings, [scheme for scheme, _ in stages[1:]])  # the first is checked by `train`
    results: list[TrainResult] = []
    parent = settings.parent
    for scheme, path in stages:
        each = dataclasses.replace(settings, scheme=scheme, parent=parent, teachers=teachers)
        progress.say(f"{scheme.name}: {path}")
        result = train_unfinished(
            each, path, command=command, overwrite=overwrite, resume=resume, progress=progress
        )
        results += [result] if result else []
        parent = path
    return results
