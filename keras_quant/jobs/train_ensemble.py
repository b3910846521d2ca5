"""Members of an ensemble, a run each.

One after the other:

- independent: each from other first weights, with images in another order (Lakshminarayanan et al.,
  "Simple and scalable predictive uncertainty estimation using deep ensembles", 2017).
- bagging: likewise, and each on images of its own, drawn with replacement (Breiman, "Bagging
  predictors", 1996).
- snapshot: one training whose learning rate falls and begins anew, and a member where it has fallen
  (Huang et al., "Snapshot ensembles: train 1, get M for free", 2017, eq. 2). Here each cycle is a
  run from the weights of the last; so the optimizer's moments begin anew, too.
- fast-geometric: likewise, from a trained run, and the learning rate rises and falls in each cycle
  (Garipov et al., "Loss surfaces, mode connectivity, and fast ensembling of DNNs", 2018, section
  4). There the first cycle begins at its peak; here each is whole.
- boosting: each learns what the sum of those before it leaves of the labels (Friedman 2001), see
  `training.boosting`.

At once, see `train_together`: fusion and soft-boosting.

All members are validated on the same images, those that the first run's split seed chooses, so that
what is fitted to them (`anytime.controller`) was seen by no member; nor by a parent, whose split
they have (`jobs.validation`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_quant.errors import RunError, UsageError, close_names
from keras_quant.jobs.begin import now
from keras_quant.jobs.train import train_unfinished
from keras_quant.jobs.train_settings import TOGETHER, TrainSettings, check
from keras_quant.jobs.train_together import train_together
from keras_quant.runs import ensembles, records
from keras_quant.runs.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A way to train members.

    Attributes:
        schedule: the learning rate's, where the kind needs one; "" for any.
        chained: each member starts from the weights of the one before, and --epochs are those of
            all together.
        boosted: members learn what others leave; their logits are summed.
        combination: what the members' answers become together, one of `ensembles.COMBINATIONS`.
    """

    schedule: str = ""
    chained: bool = False
    boosted: bool = False
    combination: str = "mean"


KINDS = {
    "independent": Kind(),
    "bagging": Kind(),
    "snapshot": Kind(schedule="cosine", chained=True),
    "fast-geometric": Kind(schedule="triangle", chained=True),
    "fusion": Kind(combination="logits"),
    "boosting": Kind(boosted=True, combination="sum"),
    "soft-boosting": Kind(boosted=True, combination="sum"),
}


def train_ensemble(
    kind: str,
    settings: Sequence[TrainSettings],
    path: Path,
    *,
    command: tuple[str, ...] = (),
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress,
) -> Path:
    """Trains, exports and proves each member, and writes down how they are one net.

    Args:
        kind: one of KINDS.
        settings: of each member, which differ in model and scheme alone; of a chained kind the
            epochs are those of all together.
        path: the ensemble's folder; members are path-1, path-2, ... beside it.
        resume: members that are finished are kept, and one that was stopped goes on.
    Returns: the ensemble's folder, see `runs.ensembles`.
    Raises:
        UsageError: no such kind, too few members, or settings that do not go with it.
        RunError: a member, or the ensemble, is there already, and neither overwrite nor resume is
            given.
        KerasQuantError: see `train`.
    """
    planned = list(member_settings(kind, settings, path))
    for _, each in planned:
        check(each)
    _check_free([run for run, _ in planned], path, again=overwrite or resume)
    if kind in TOGETHER:
        train_together(
            planned, command=command, overwrite=overwrite, resume=resume, progress=progress
        )
    else:
        for number, (run, each) in enumerate(planned, start=1):
            progress.say(f"member {number} of {len(planned)}: {run}")
            train_unfinished(
                each, run, command=command, overwrite=overwrite, resume=resume, progress=progress
            )
    ensembles.save(
        path,
        [run for run, _ in planned],
        kind=kind,
        combination=KINDS[kind].combination,
        weights=[each.shrinkage if KINDS[kind].boosted else 1.0 for _, each in planned],
        created=now(),
    )
    return path


def member_settings(
    kind: str, settings: Sequence[TrainSettings], path: Path
) -> Iterator[tuple[Path, TrainSettings]]:
    """The folder and the settings of each member.

    Args:
        settings: see `train_ensemble`.
    Raises:
        UsageError: see `train_ensemble`.
    """
    _check(kind, settings)
    chained = KINDS[kind].chained
    first, runs = settings[0], members_of(path, len(settings))
    for number, (run, given) in enumerate(zip(runs, settings, strict=True)):
        each = dataclasses.replace(
            given,
            seed=first.seed + number,
            split_seed=first.chooses_validation,
            bootstrap=given.bootstrap or kind == "bagging",
            boosts=runs[:number] if kind == "boosting" else None,
            together=kind if kind in TOGETHER else "",
            members=runs if kind in TOGETHER else (),
        )
        if chained:
            epochs = first.epochs // len(runs) + (number < first.epochs % len(runs))
            # Else the member before would be the teacher, as it is the parent.
            own = (first.parent,) if first.distill and first.parent else ()
            each = dataclasses.replace(
                each,
                parent=runs[number - 1] if number else first.parent,
                epochs=epochs,
                teachers=first.teachers or own,
                optimizer=dataclasses.replace(first.optimizer, schedule=KINDS[kind].schedule),
            )
        yield run, each


def members_of(path: Path, count: int) -> tuple[Path, ...]:
    """Where the members of an ensemble's folder lie."""
    return tuple(path.with_name(f"{path.name}-{number + 1}") for number in range(count))


def _check_free(runs: Sequence[Path], path: Path, *, again: bool) -> None:
    if (path / records.FILE_NAME).exists():
        raise RunError(f"{path}: is a run; give the ensemble another name, with --name NAME")
    taken = [str(run) for run in runs if (run / records.FILE_NAME).exists()]
    taken += [str(path)] if ensembles.is_ensemble(path) else []
    if taken and not again:
        raise RunError(
            f"{', '.join(taken)}: there already. Give --name NAME for others, --overwrite to "
            "replace them, or --resume to go on"
        )


def _check(kind: str, settings: Sequence[TrainSettings]) -> None:
    if kind not in KINDS:
        names = close_names(kind, KINDS)
        raise UsageError(f"ensemble {kind!r} is not known{names}; known are {', '.join(KINDS)}")
    if len(settings) < 2:
        raise UsageError(f"--members is {len(settings)}; 2 or more are allowed")
    first = settings[0]
    problems: list[str] = []
    if KINDS[kind].chained:
        problems += _of_chained(kind, settings)
    if KINDS[kind].boosted:
        options = {
            "--distill": first.distill,
            "--self-distill": first.self_distill,
            "--orthogonal": first.orthogonal,
        }
        given = [option for option, value in options.items() if value]
        if given:
            problems.append(f"{', '.join(given)}: members of {kind} learn what others leave")
    elif first.shrinkage != 1:
        boosted = [name for name, known in KINDS.items() if known.boosted]
        problems.append(f"--shrinkage goes with {' and '.join(boosted)}")
    if kind in TOGETHER and first.precision != "float32":
        problems.append(f"--precision {first.precision} is for members that are trained alone")
    if kind in TOGETHER and first.strategy:
        problems.append(f"--strategy {first.strategy} is for members that are trained alone")
    if kind in TOGETHER and first.bootstrap:
        problems.append("--bootstrap: members that are trained at once see the same images")
    if kind == "fusion" and any(each.has_weights for each in settings):
        problems.append(
            "members of fusion that begin alike stay alike, as each gets the same gradient: give a "
            "model without weights, and leave out --from"
        )
    if problems:
        raise UsageError("; ".join(problems))


def _of_chained(kind: str, settings: Sequence[TrainSettings]) -> Iterator[str]:
    """What a kind whose members start from each other does not take."""
    first = settings[0]
    if first.epochs < len(settings):
        yield f"--epochs is {first.epochs} for {len(settings)} members; each needs one at least"
    if first.optimizer.schedule not in ("cosine", KINDS[kind].schedule):
        yield (
            f"--schedule is {first.optimizer.schedule}; of {kind} the learning rate is a "
            f"{KINDS[kind].schedule} in each cycle"
        )
    if any(each.is_file for each in settings):
        yield (
            "members start from the weights of the one before: give a model of the zoo or "
            "FILE.py:FUNCTION, with --from RUN for first weights"
        )
    if len({each.model for each in settings}) > 1:
        yield "members start from the weights of the one before, so all have one --model"
    if kind == "fast-geometric" and first.parent is None:
        yield "fast-geometric members are found around a trained net: name it with --from RUN"
