"""kq anytime train-ensemble: members of an ensemble, a run each, and what they are together."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_quant.cli.ensembles import print_ensemble
from keras_quant.cli.output import json_option, note, print_json
from keras_quant.cli.train import train as train_command

if TYPE_CHECKING:
    from keras_quant.jobs.train_settings import TrainSettings


@click.command("train-ensemble", context_settings={"ignore_unknown_options": True})
@click.option("--members", type=int, default=5, show_default=True, help="How many.")
@click.option(
    "--shrinkage",
    type=float,
    default=1.0,
    show_default=True,
    help="Of each boosted member in the sum, above 0, to 1.",
)
@click.argument(
    "words", metavar="KIND [OPTION OF KQ TRAIN]...", nargs=-1, type=click.UNPROCESSED, required=True
)
@json_option
def train_ensemble(members: int, shrinkage: float, words: Sequence[str], as_json: bool) -> None:
    """Train the members of an ensemble, export and prove each, and judge all as one net.

    \b
    KIND is
      independent     other first weights, and another order of the images
      bagging         likewise, each on images drawn with replacement
      snapshot        one training whose learning rate begins anew for each member
      fast-geometric  likewise, around a trained net (--from RUN), with short cycles
      fusion          all at once, by the loss of the mean of their logits
      boosting        each learns what the sum of those before it leaves
      soft-boosting   likewise, all at once

    Of snapshot and fast-geometric --epochs are those of all members together. Members are the runs
    NAME-1, NAME-2, ... with the same validation images; NAME/ensemble.json says how they are one
    net. --model and --bits may name several, as in --bits 4,8, which members take in turn.

    \b
    Examples:
      kq anytime train-ensemble bagging --members 5 --model lenet5 --dataset cifar10 --bits 4
      kq anytime train-ensemble boosting --shrinkage 0.5 --bits 4 --name boosted
      kq anytime train-ensemble snapshot --members 5 --bits 4 --epochs 50 --name snapshots --resume
    """
    from keras_quant.errors import UsageError
    from keras_quant.jobs.ensembles import ensemble
    from keras_quant.jobs.train_ensemble import KINDS
    from keras_quant.jobs.train_ensemble import train_ensemble as job
    from keras_quant.runs.progress import Progress

    kind, options, typed = _options(words)
    for option in ("progressive", "nested", "slim"):
        if options[option]:
            raise UsageError(f"--{option} trains several runs by itself: give --bits")
    wanted = KINDS[kind].schedule if kind in KINDS else ""
    if wanted and "schedule" in typed and options["schedule"] != wanted:
        raise UsageError(
            f"--schedule {options['schedule']}: of {kind} members the learning rate is a {wanted} "
            "in each cycle; leave it out"
        )
    if members < 2:
        raise UsageError(f"--members is {members}; 2 or more are allowed")
    if options["strategy"] == "multiworker":
        raise UsageError(
            "--strategy multiworker: members are trained one after the other, which workers cannot "
            "follow; mirrored is for several devices of this machine"
        )
    settings = _settings(options, members=members, shrinkage=shrinkage)
    folder = job(
        kind,
        settings,
        _folder(options, settings[0], kind),
        command=tuple(sys.argv),
        overwrite=options["overwrite"],
        resume=options["resume"],
        progress=Progress(),
    )
    done = ensemble([folder], progress=Progress())
    if as_json:
        print_json(done)
        return
    print_ensemble(done)
    note(f"wrote {folder / 'ensemble.json'}")
    note(f"again: kq anytime ensemble {folder}; distilled into one: kq train --distill {folder}")


def _options(words: Sequence[str]) -> tuple[str, dict[str, Any], set[str]]:
    """Reads KIND and what is said before and behind it, as `kq train` understands it.

    Returns: KIND, the options by name, and the names of those that were typed.
    """
    params = [click.Argument(["kind"]), *train_command.params]
    command = click.Command("kq anytime train-ensemble", params=params)
    with command.make_context(command.name, list(words)) as context:
        options = {name: value for name, value in context.params.items() if name != "as_json"}
        typed = {
            name
            for name in options
            if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        }
    return options.pop("kind"), options, typed


def _settings(options: dict[str, Any], *, members: int, shrinkage: float) -> list[TrainSettings]:
    """The settings of each member; several models and bits are taken in turn."""
    from dataclasses import replace

    from keras_quant.cli.train_options import settings_from

    models, bits = _several(options["model"]), _several(options["bits"])
    return [
        replace(
            settings_from(
                options | {"model": models[place % len(models)], "bits": bits[place % len(bits)]}
            ),
            shrinkage=shrinkage,
        )
        for place in range(members)
    ]


def _several(text: str | None) -> list[str | None]:
    """What stands between commas; a path that is there is one."""
    if text is None or Path(text).exists():
        return [text]
    return [part.strip() for part in text.split(",")]


def _folder(options: dict[str, Any], first: TrainSettings, kind: str) -> Path:
    """The ensemble's folder: --out / --name, or a name made of dataset, model, scheme and kind."""
    from keras_quant.cli.train_options import run_path

    path = run_path(options, first)
    return path if options["name"] is not None else path.with_name(f"{path.name}-{kind}")
