"""Members of an ensemble, trained one after the other, a run each.

- independent: each from other first weights, with images in another order (Lakshminarayanan et al.,
  "Simple and scalable predictive uncertainty estimation using deep ensembles", 2017).
- bagging: likewise, and each on images of its own, drawn with replacement (Breiman, "Bagging
  predictors", 1996).
- snapshot: one training whose learning rate falls and begins anew, and a member where it has fallen
  (Huang et al., "Snapshot ensembles: train 1, get M for free", 2017, eq. 2). Here each cycle is a
  run from the weights of the last; so the optimizer's moments begin anew, too.

All members are validated on the same images, those that the first run's seed chooses, so that what
is fitted to them (`anytime.controller`) was seen by no member.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from keras_quant.errors import RunError, UsageError, close_names
from keras_quant.jobs.train import train_unfinished
from keras_quant.jobs.train_settings import TrainSettings, check
from keras_quant.runs import records
from keras_quant.runs.progress import Progress

KINDS = ("independent", "bagging", "snapshot")


def train_ensemble(
    kind: str,
    settings: TrainSettings,
    path: Path,
    *,
    members: int,
    command: tuple[str, ...] = (),
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress,
) -> list[Path]:
    """Trains, exports and proves each member.

    Args:
        kind: one of KINDS.
        settings: of each member; of snapshots the epochs are those of all together.
        path: members are path-1, path-2, ...
        resume: members that are finished are kept, and one that was stopped goes on.
    Returns: the runs.
    Raises:
        UsageError: no such kind, too few members, or fewer epochs than snapshots.
        RunError: a member is there already, and neither overwrite nor resume is given.
        KerasQuantError: see `train`.
    """
    planned = list(member_settings(kind, settings, path, members=members))
    for _, each in planned:
        check(each)
    taken = [str(run) for run, _ in planned if (run / records.FILE_NAME).exists()]
    if taken and not (overwrite or resume):
        raise RunError(
            f"{', '.join(taken)}: there already. Give --name NAME for others, --overwrite to "
            "replace them, or --resume to go on"
        )
    runs: list[Path] = []
    for run, each in planned:
        progress.say(f"member {len(runs) + 1} of {members}: {run}")
        train_unfinished(
            each, run, command=command, overwrite=overwrite, resume=resume, progress=progress
        )
        runs.append(run)
    return runs


def member_settings(
    kind: str, settings: TrainSettings, path: Path, *, members: int
) -> Iterator[tuple[Path, TrainSettings]]:
    """The folder and the settings of each member.

    Raises:
        UsageError: see `train_ensemble`.
    """
    _check(kind, settings, members)
    parent = settings.parent
    for number in range(members):
        run = path.with_name(f"{path.name}-{number + 1}")
        each = dataclasses.replace(
            settings,
            seed=settings.seed + number,
            split_seed=settings.chooses_validation,
            bootstrap=settings.bootstrap or kind == "bagging",
        )
        if kind == "snapshot":
            epochs = settings.epochs // members + (number < settings.epochs % members)
            # Else the snapshot before would be the teacher, as it is the parent.
            teacher = settings.teacher or (settings.parent if settings.distill else None)
            each = dataclasses.replace(each, parent=parent, epochs=epochs, teacher=teacher)
            parent = run
        yield run, each


def _check(kind: str, settings: TrainSettings, members: int) -> None:
    problems = []
    if kind not in KINDS:
        names = close_names(kind, KINDS)
        problems.append(f"ensemble {kind!r} is not known{names}; known are {', '.join(KINDS)}")
    if members < 2:
        problems.append(f"--members is {members}; 2 or more are allowed")
    if kind == "snapshot" and settings.epochs < members:
        problems.append(
            f"--epochs is {settings.epochs} for {members} snapshots; each needs one at least"
        )
    if kind == "snapshot" and settings.optimizer.schedule != "cosine":
        problems.append(
            f"--schedule is {settings.optimizer.schedule}; of snapshots the learning rate falls "
            "as a cosine in each cycle"
        )
    if kind == "snapshot" and settings.is_file:
        problems.append(
            "snapshots start from the weights of the one before: give a model of the zoo or "
            "FILE.py:FUNCTION, with --from RUN for first weights"
        )
    if problems:
        raise UsageError("; ".join(problems))
