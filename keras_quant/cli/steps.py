"""What the commands of a recipe would refuse of their words, said before the first one runs.

Each step is read as its command reads it, and held to what that command checks before it loads
anything: options, values, and names of methods, models, datasets and files. What an earlier step
makes need not be there yet; it has to be named as that step names it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_quant.cli.options import MADE_LATER, OutputFile
from keras_quant.errors import KerasQuantError, UsageError, close_names

if TYPE_CHECKING:
    from keras_quant.schemes.scheme import Scheme


@dataclass(slots=True, kw_only=True)
class Made:
    """What earlier steps make.

    Attributes:
        runs: the folder of the recipe's runs.
        paths: runs, files and folders, also those that more is written into.
        is_known: whether nothing else is made.
    """

    runs: Path
    paths: list[Path] = field(default_factory=list)
    is_known: bool = True

    def may_be_there(self, path: Path) -> bool:
        """Whether a path is there, or may be made by an earlier step."""
        made = any(path.is_relative_to(one) for one in self.paths)
        return made or not self.is_known or path.exists()

    def is_later(self, path: Path) -> bool:
        """Whether what is at a path now, if anything, is not what a step will read."""
        made = any(path.is_relative_to(one) for one in self.paths)
        return made or (not path.exists() and path.is_relative_to(self.runs))


Check = Callable[[click.Context, Made], list[Path]]
"""Raises what a command says of its words before it loads anything; gives what it makes."""


def problems_of_steps(steps: Mapping[str, Sequence[str]], runs: Path) -> list[tuple[str, str]]:
    """What is wrong with steps: the name of each, and a problem.

    Args:
        steps: by name, in their order, the words of a command of `recipe_file.COMMANDS`.
        runs: the folder in which the steps make their runs.
    """
    made, found = Made(runs=runs), []
    for name, words in steps.items():
        problems: list[str] = []
        try:
            context = _context(words, runs)
            problems += _missing(context, made)
            check = _CHECKS.get(context.command_path)
            with context.scope(cleanup=False):
                made.paths += check(context, made) if check else _outputs(context)
            made.is_known = made.is_known and check is not None
        except click.exceptions.Exit:
            problems.append("asks for help, and makes nothing; leave that out")
        except (click.UsageError, KerasQuantError) as error:
            problems.append(_worded(error))
            made.is_known = False
        found += [(name, problem) for problem in problems]
    return found


def _context(words: Sequence[str], runs: Path) -> click.Context:
    """Reads words as kq does, but runs nothing."""
    from keras_quant.cli.main import main

    context, rest = click.Context(main), list(words)
    context.meta[MADE_LATER] = runs
    while isinstance(group := context.command, click.Group):
        if not rest:
            names = ", ".join(group.list_commands(context))
            raise click.UsageError(f"one of its commands is needed: {names}", context)
        name, command, rest = group.resolve_command(context, rest)
        assert command is not None  # resolve_command raises where there is none
        if isinstance(command, click.Group):
            context = click.Context(command, parent=context, info_name=name)
        else:
            context = command.make_context(name, rest, parent=context)
    return context


def _worded(error: click.UsageError | KerasQuantError) -> str:
    if isinstance(error, KerasQuantError):
        return str(error)
    command = error.ctx.command_path if error.ctx else ""
    text = f"{command}: {error.format_message()}"
    if isinstance(error, click.NoSuchOption):
        text += f" All are in kq {command} --help."
    return text


def _missing(context: click.Context, made: Made) -> Iterator[str]:
    """What a step reads that no earlier one makes, and that is not there."""
    for param in context.command.params:
        if _writes(param):
            continue
        is_path = isinstance(param.type, click.Path)
        for text in _texts(context.params.get(param.name or "")):
            path = Path(text)
            if (is_path or path.is_relative_to(made.runs)) and not made.may_be_there(path):
                given = param.opts[0] if isinstance(param, click.Option) else context.command_path
                known = [str(one) for one in made.paths]
                yield (
                    f"{given} {text}: is not there, and no earlier step makes it"
                    f"{close_names(text, known)}; made by earlier ones: "
                    f"{', '.join(known) or 'nothing'}"
                )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str | Path):
        yield from (part for part in str(value).split(",") if part)
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _texts(one)


def _writes(param: click.Parameter) -> bool:
    kind = param.type
    return isinstance(kind, OutputFile) or (isinstance(kind, click.Path) and not kind.file_okay)


def _outputs(context: click.Context) -> list[Path]:
    """The files and folders that a step was told to write."""
    values = [
        context.params.get(param.name or "") for param in context.command.params if _writes(param)
    ]
    return [Path(value) for value in values if value is not None]


def _train(context: click.Context, made: Made) -> list[Path]:
    from keras_quant.cli.train_options import asked_from
    from keras_quant.jobs.train import check_starts_elsewhere
    from keras_quant.jobs.train_settings import check

    options, parent = context.params, context.params["parent"]
    unread = parent is not None and made.is_later(parent)
    asked = asked_from({**options, "parent": None} if unread else options)
    widths = tuple(width.name for width in asked.widths)
    settings = dataclasses.replace(asked.settings, parent=parent, nested=widths)
    check(settings)
    for scheme, _ in asked.stages:
        check(dataclasses.replace(settings, scheme=scheme))
    if options["model"] is not None or not unread:
        _check_model(settings.model, settings.model_options, made)
    _check_data(options, made)
    if unread and options["name"] is None and None in (options["model"], options["dataset"]):
        made.is_known = False  # what the run is called, the earlier one says
        return []
    paths = [path for _, path in asked.stages] or [asked.path]
    for path in paths:
        check_starts_elsewhere(settings, path)
    from keras_quant.jobs.nested import width_path

    paths += [width_path(asked.path, width) for width in widths]
    _check_free(paths, options)
    return paths


def _check_model(name: str, options: Mapping[str, Any], made: Made) -> None:
    """Checks the name of a model that is trained. Raises: UsageError: there is none."""
    from keras_quant.model.applications import APPLICATIONS
    from keras_quant.model.suffixes import is_keras_model
    from keras_quant.zoo.construct import check_known

    path = Path(name)
    if name in APPLICATIONS or ":" in name:
        return
    if is_keras_model(path) and not made.may_be_there(path):
        raise UsageError(f"--model {name}: there is no such file, and no earlier step makes it")
    if not is_keras_model(path) and not made.is_later(path):
        check_known(name, options)


def _check_data(options: Mapping[str, Any], made: Made) -> None:
    """Checks --dataset and --preprocess. Raises: UsageError, DataError: they are not known."""
    from keras_quant.data.load import check_known
    from keras_quant.preprocessing import parse_preprocessing

    dataset, preprocess = options.get("dataset"), options.get("preprocess")
    if dataset is not None and not made.is_later(Path(dataset)):
        check_known(dataset)
    if preprocess is not None:
        parse_preprocessing(preprocess)


def _check_free(paths: Sequence[Path], options: Mapping[str, Any]) -> None:
    """Checks that runs can be made. Raises: RunError: another thing is there."""
    from keras_quant.runs import check_free

    for path in paths:
        if not options["resume"]:
            check_free(path, overwrite=options["overwrite"])


def _quantize(context: click.Context, made: Made) -> list[Path]:
    from keras_quant.cli.formats import choose_formats
    from keras_quant.cli.quantize import settings_from
    from keras_quant.jobs.quantize import check, check_source

    choose_formats(context.params["targets"], {})
    settings, path = settings_from(context.params)
    check(settings, path)
    if not made.is_later(settings.giver):
        check_source(settings)
    _check_data(context.params, made)
    _check_free([path], context.params)
    return [path]


def _export(context: click.Context, made: Made) -> list[Path]:
    from keras_quant.cli.export import formats_of

    formats_of(context.params)
    _check_data(context.params, made)
    return [*_outputs(context), context.params["path"]]  # export/ in a run


def _evaluate(context: click.Context, made: Made) -> list[Path]:
    from keras_quant.jobs.evaluate import check_split

    check_split(context.params["split"])
    _check_data(context.params, made)
    return []


def _bench(context: click.Context, made: Made) -> list[Path]:
    from keras_quant.cli.bench import check_together, listed
    from keras_quant.jobs.bench import check_runtimes
    from keras_quant.targets.jetson import find_board, find_mode

    options = context.params
    check_together(options)
    check_runtimes(listed(options["runtimes"]))
    if options["estimated"]:
        find_board(options["board"])
        find_mode(options["board"], options["power_mode"])
    return [*_outputs(context), *options["paths"]]  # bench.json in a run


def _inspect(context: click.Context, made: Made) -> list[Path]:
    from keras_quant.cli.train_options import choose_scheme
    from keras_quant.jobs.inspection import check_target
    from keras_quant.zoo import MODELS

    options, target = context.params, context.params["target"]
    if target not in MODELS and not made.may_be_there(Path(target)):
        raise UsageError(f"{target}: no such run, file or zoo model{close_names(target, MODELS)}")
    bits = {name: options[name] for name in ("bits", "scheme", "overrides")}
    scheme: Scheme | None = choose_scheme(**bits) if any(bits.values()) else None
    check_target(target, scheme=scheme, dataset=options["dataset"])
    _check_data(options, made)
    return []


def _diagnose(context: click.Context, made: Made) -> list[Path]:
    from keras_quant.cli.diagnose import check_no_other_options
    from keras_quant.jobs.diagnose import check
    from keras_quant.model.suffixes import is_keras_model

    options = context.params
    if is_keras_model(options["file"]):
        check_no_other_options()
    else:
        check(options["file"], split=options["split"], images=options["images"])
        _check_data(options, made)
    return _outputs(context)


def _thresholds(context: click.Context, made: Made) -> list[Path]:
    from keras_quant.cli.pictures import check_picture
    from keras_quant.jobs.anytime import Asked, check_asked
    from keras_quant.jobs.ensembles import check_format

    options = context.params
    asked = Asked(**{name: options[name] for name in ("rule", "accuracy", "budget", "cost")})
    if problems := check_asked(asked):
        raise UsageError("; ".join(problems))
    if options["form"] is not None:
        check_format(options["form"])
    check_picture(options["picture"])
    _check_data(options, made)
    return [*_outputs(context), options["run"]]  # exits.json


def _compare(context: click.Context, made: Made) -> list[Path]:
    return []


_CHECKS: dict[str, Check] = {
    "train": _train,
    "quantize": _quantize,
    "export": _export,
    "evaluate": _evaluate,
    "bench": _bench,
    "compare": _compare,
    "inspect": _inspect,
    "diagnose": _diagnose,
    "anytime thresholds": _thresholds,
}
"""Of other commands options alone are read, and what they make besides is not known."""
