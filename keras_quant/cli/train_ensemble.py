"""kq anytime train-ensemble: members of an ensemble, a run each, and what they are together."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from keras_quant.cli.ensembles import print_ensemble
from keras_quant.cli.output import json_option, print_json
from keras_quant.cli.train import train as train_command


@click.command("train-ensemble", context_settings={"ignore_unknown_options": True})
@click.argument("kind")
@click.option("--members", type=int, default=5, show_default=True, help="How many.")
@click.argument("training", metavar="[OPTION OF KQ TRAIN]...", nargs=-1, type=click.UNPROCESSED)
@json_option
def train_ensemble(kind: str, members: int, training: Sequence[str], as_json: bool) -> None:
    """Train the members of an ensemble, export and prove each, and judge all as one net.

    KIND is independent (other first weights), bagging (other images too, drawn with replacement),
    or snapshot (one training whose learning rate begins anew for each member; --epochs are those
    of all together). Members are the runs NAME-1, NAME-2, ...; they share validation images.

    \b
    Examples:
      kq anytime train-ensemble bagging --members 5 --model lenet5 --dataset cifar10 --bits 4
      kq anytime train-ensemble snapshot --members 5 --bits 4 --epochs 50 --name snapshots --resume
    """
    from keras_quant.cli.train_options import run_path, settings_from
    from keras_quant.errors import UsageError
    from keras_quant.jobs.ensembles import ensemble
    from keras_quant.jobs.train_ensemble import train_ensemble as job
    from keras_quant.runs.progress import Progress

    options = _options(training)
    for option in ("progressive", "nested", "slim"):
        if options[option]:
            raise UsageError(f"--{option} trains several runs by itself: give --bits")
    settings = settings_from(options)
    if settings.strategy == "multiworker":
        raise UsageError(
            "--strategy multiworker: members are trained one after the other, which workers cannot "
            "follow; mirrored is for several devices of this machine"
        )
    runs = job(
        kind,
        settings,
        run_path(options, settings),
        members=members,
        command=tuple(sys.argv),
        overwrite=options["overwrite"],
        resume=options["resume"],
        progress=Progress(),
    )
    done = ensemble(runs, progress=Progress())
    if as_json:
        print_json(done)
        return
    print_ensemble(done)


def _options(training: Sequence[str]) -> dict[str, Any]:
    """What is said behind KIND, as `kq train` understands it."""
    with train_command.make_context("kq train", list(training)) as context:
        return {name: value for name, value in context.params.items() if name != "as_json"}
