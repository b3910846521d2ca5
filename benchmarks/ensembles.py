"""What ensembles of LeNet-5 on CIFAR-10 reach, of members at 4 bits, beside one net.

python benchmarks/ensembles.py --out runs/ensembles                        # 4 members, 6 epochs
python benchmarks/ensembles.py --members 10 --epochs 100 --out runs/full   # as published

Members are trained as `kq anytime train-ensemble` does: independent, bagging and snapshot, each
exported as TFLite and proven; snapshots take as many epochs together as one of the others alone.
They are judged by `kq anytime ensemble`. The float net is trained as one independent member.
Finished runs in --out are reused, and a run that was stopped goes on.

The peer is Ensemble-PyTorch: 10 members in float, 100 epochs. Its fusion trains all members as one
net, whose loss is that of their mean; here they are trained apart.

Goals, of 10 members at full scale: no less than published; and at any scale 4-bit members that
take no more bytes than the float net, as many of the independent ones as fit: 2 points more than
that net.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from results import Result, argument_parser, publish
from trainings import file_accuracy, finished_run

from keras_quant.jobs.ensembles import Ensemble, ensemble
from keras_quant.jobs.train_ensemble import KINDS, member_settings
from keras_quant.jobs.train_settings import TrainSettings
from keras_quant.runs import RunFolder, records
from keras_quant.runs.progress import Progress
from keras_quant.schemes.bits import scheme_from_bits
from keras_quant.schemes.file import load_scheme

PUBLISHED = {
    ("independent", "mean"): ("fusion", 79.01),
    ("independent", "vote"): ("voting", 78.48),
    ("bagging", "mean"): ("bagging", 77.30),
    ("snapshot", "mean"): ("snapshot", 71.01),
}
AS_PUBLISHED = 10


def main() -> None:
    """Trains what is missing, judges, and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("--members", type=int, default=4, help="of each ensemble")
    parser.add_argument("--epochs", type=int, default=6, help="of a member; of all snapshots")
    parser.add_argument("--bits", default="4", help="of the members")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of these alone")
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
    for kind in given.kinds:
        runs = _trained(kind, settings, folder, given.members)
        results += _judged(kind, ensemble(runs, progress=Progress()), given)
        if kind == "independent":
            results.append(_no_larger(runs, size, score))
    return results


def _trained(kind: str, settings: TrainSettings, folder: Path, members: int) -> list[Path]:
    runs = []
    for run, each in member_settings(kind, settings, folder / kind, members=members):
        finished_run(each, run)
        runs.append(run)
    return runs


def _judged(kind: str, done: Ensemble, given: Any) -> list[Result]:
    each = ", ".join(f"{100 * one.accuracy:.2f}" for one in done.members)
    as_published = given.members == AS_PUBLISHED and given.model == "lenet5"
    results = []
    for fusion in ("mean", "vote"):
        name, published = PUBLISHED.get((kind, fusion), ("", None))
        results.append(
            Result(
                figure=f"accuracy, {kind}, {fusion}",
                value=100 * done.accuracies[fusion],
                unit="%",
                at_least=published if as_published else None,
                peer=f"{name} {published:.2f} %, published" if published else "",
            )
        )
    results.append(
        Result(
            figure=f"disagreement, {kind}",
            value=100 * done.disagreement,
            unit="%",
            peer=f"members {each} %; {done.size_bytes / 1e3:.1f} kB",
        )
    )
    return results


def _no_larger(runs: Sequence[Path], size_bytes: int, score: float) -> Result:
    """What as many members as the float file's bytes hold gain over it."""
    fitting: list[Path] = []
    total = 0
    for run in runs:
        total += RunFolder(run).tflite.stat().st_size
        if total > size_bytes:
            break
        fitting.append(run)
    if len(fitting) < 2:
        value = file_accuracy(records.load(fitting[0])) if fitting else 0.0
    else:
        value = 100 * ensemble(fitting, progress=Progress()).accuracies["mean"]
    return Result(
        figure="gain over the float net, no more bytes",
        value=value - score,
        unit="points",
        at_least=2.0,
        peer=f"{len(fitting)} members",
    )


if __name__ == "__main__":
    main()
