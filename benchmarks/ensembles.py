"""What ensembles of LeNet-5 on CIFAR-10 reach, of members at 4 bits, beside one net.

python benchmarks/ensembles.py --out runs/ensembles                        # 6 members, 6 epochs
python benchmarks/ensembles.py --members 10 --epochs 100 --out runs/full   # as published

Members are trained by `kq anytime train-ensemble`, each exported as TFLite and proven, and judged
as `kq anytime ensemble` does. Snapshots and fast geometric members take as many epochs together as
one of the others alone; the latter start from the float net, which is trained as one independent
member. One more net at the same bits learns what the independent members answer together.

The peer is Ensemble-PyTorch: 10 members in float, 100 epochs. It has no figure of soft boosting, of
fast geometric members and of a distilled net here. Its voting is the mean of probabilities.

Finished runs in --out are reused, and a run that was stopped goes on.

Goals, of 10 members at full scale: no less than published; and at any scale, of as many 4-bit
members as the bytes of the float net hold, 2 points more than that net: of the kind that is the
best on the validation images.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from results import Result, argument_parser, publish
from trainings import file_accuracy, finished_run

from keras_quant.anytime.ensembles import combine
from keras_quant.jobs.ensembles import Ensemble, ensemble, logits_of
from keras_quant.jobs.paths import dataset_of
from keras_quant.jobs.train_ensemble import KINDS, train_ensemble
from keras_quant.jobs.train_settings import TrainSettings
from keras_quant.runs import RunFolder
from keras_quant.runs.progress import Progress
from keras_quant.schemes.bits import scheme_from_bits
from keras_quant.schemes.file import load_scheme

PUBLISHED = {
    "independent": ("voting", 78.48),
    "bagging": ("bagging", 77.30),
    "snapshot": ("snapshot", 71.01),
    "fusion": ("fusion", 79.01),
    "boosting": ("boosting", 79.09),
}
AS_PUBLISHED = 10
SHARE = 0.9  # of the ensemble's answers in the loss of the net that learns them


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """As many members of a kind as the bytes of the float net hold; accuracies in %."""

    kind: str
    members: int
    validation: float
    test: float


def main() -> None:
    """Trains what is missing, judges, and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("--members", type=int, default=6, help="of each ensemble")
    parser.add_argument("--epochs", type=int, default=6, help="of a member; of all snapshots")
    parser.add_argument("--bits", default="4", help="of the members")
    kinds = (*KINDS, "distilled")
    parser.add_argument("--kinds", nargs="+", choices=kinds, default=kinds, help="of these alone")
    parser.add_argument("--shrinkage", type=float, default=1.0, help="of boosted members")
    parser.add_argument("--dataset", default="cifar10", help="name or path")
    parser.add_argument("--model", default="lenet5", help="name of the zoo")
    parser.add_argument("--out", type=Path, help="folder of the runs; without it, a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        results = _results(given, given.out or Path(temporary))
    title = f"{given.dataset}, {given.model}, {given.members} members at {given.bits} bits"
    publish(f"{title}, {given.epochs} epochs", results, given.json)


def _results(given: Any, folder: Path) -> list[Result]:
    settings = TrainSettings(
        scheme=scheme_from_bits(given.bits),
        model=given.model,
        dataset=given.dataset,
        epochs=given.epochs,
        threads=1,
    )
    single = folder / "float"
    score = file_accuracy(finished_run(replace(settings, scheme=load_scheme("float")), single))
    size = RunFolder(single).tflite.stat().st_size
    results = [
        Result(figure="accuracy, one float net", value=score, unit="%", peer=f"{size / 1e3:.1f} kB")
    ]
    fitting = []
    for kind in (kind for kind in given.kinds if kind in KINDS):
        runs = _trained(kind, settings, folder, single, given)
        done = ensemble([runs], progress=Progress())
        results += _judged(kind, done, given)
        fitting.append(_fitting(kind, done, size))
    if "distilled" in given.kinds:
        results.append(_distilled(settings, folder, single, given))
    if not fitting:
        return results
    best = max(fitting, key=lambda one: one.validation)
    results.append(
        Result(
            figure="gain over the float net, no more bytes",
            value=best.test - score,
            unit="points",
            at_least=2.0,
            peer=f"{best.members} members, {best.kind}; validation {best.validation:.2f} %",
        )
    )
    return results


def _trained(kind: str, settings: TrainSettings, folder: Path, single: Path, given: Any) -> Path:
    changes: dict[str, Any] = {"shrinkage": given.shrinkage} if KINDS[kind].boosted else {}
    if kind == "fast-geometric":
        changes["parent"] = single
    each = [replace(settings, **changes)] * given.members
    return train_ensemble(kind, each, folder / kind, resume=True, progress=Progress())


def _judged(kind: str, done: Ensemble, given: Any) -> list[Result]:
    each = ", ".join(f"{100 * one.accuracy:.2f}" for one in done.members)
    as_published = given.members == AS_PUBLISHED and given.model == "lenet5"
    name, published = PUBLISHED.get(kind, ("", None))
    measures = ", ".join(f"{key} {value:.3f}" for key, value in done.diversity.items() if value)
    return [
        Result(
            figure=f"accuracy, {kind}, {done.combination}",
            value=100 * done.accuracies[done.combination],
            unit="%",
            at_least=published if as_published else None,
            peer=f"{name} {published:.2f} %, published" if published else "",
        ),
        Result(
            figure=f"accuracy, {kind}, vote",
            value=100 * done.accuracies["vote"],
            unit="%",
            peer=f"members {each} %; {done.size_bytes / 1e3:.1f} kB",
        ),
        Result(
            figure=f"disagreement, {kind}", value=100 * done.disagreement, unit="%", peer=measures
        ),
    ]


def _fitting(kind: str, done: Ensemble, size_bytes: int) -> Fitting:
    """What as many members as the float file's bytes hold are worth together."""
    sizes = np.cumsum([member.size_bytes for member in done.members])
    members = done.members[: max(1, int(np.sum(sizes <= size_bytes)))]
    data = dataset_of(members[0].run, None)
    weights = [member.weight for member in members]
    accuracies = []
    for split in (data.validation, data.test):
        logits = [logits_of(one.file, data, split, Progress()) for one in members]
        answers = combine(np.stack(logits), done.combination, weights).argmax(axis=-1)
        accuracies.append(100 * float(np.mean(answers == split.y)))
    return Fitting(kind=kind, members=len(members), validation=accuracies[0], test=accuracies[1])


def _distilled(settings: TrainSettings, folder: Path, single: Path, given: Any) -> Result:
    """One net of the members' bits that learns what the independent ones answer together."""
    run = folder / "distilled"
    teacher = _trained("independent", settings, folder, single, given)
    student = replace(settings, distill=SHARE, teachers=(teacher,))
    score = file_accuracy(finished_run(student, run))
    size = RunFolder(run).tflite.stat().st_size
    return Result(
        figure="accuracy, distilled into one", value=score, unit="%", peer=f"{size / 1e3:.1f} kB"
    )


if __name__ == "__main__":
    main()
