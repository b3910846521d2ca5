"""From what was typed behind `kq train` to settings; knows no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from keras_quant import methods
from keras_quant.errors import SchemeError, UsageError
from keras_quant.methods import DEFAULT_METHOD, NESTED_METHOD
from keras_quant.runs import records
from keras_quant.schemes.bits import freed, parse_bits, scheme_from_bits, with_overrides
from keras_quant.schemes.file import load_scheme
from keras_quant.schemes.scheme import Scheme, is_float
from keras_quant.training.optimizer_settings import OptimizerSettings

if TYPE_CHECKING:
    from keras_quant.jobs.nested import Width
    from keras_quant.jobs.train_settings import TrainSettings

DEFAULT_MODEL, DEFAULT_DATASET = "cnn", "digits"
DEFAULT_BITS = "4"
DEFAULT_FRACTION = 0.1
# Options that are fields of TrainSettings as they are.
_FIELDS = (
    *("epochs", "batch_size", "seed"),
    *("augment", "patience", "precision", "parent", "tensorboard", "trust"),
    *(
        "preprocess",
        "threads",
        "accumulate",
        "freeze_oscillations",
        "keep_clusters",
        "keep_zeros",
        "reestimate_norms",
        "self_distill",
        "orthogonal",
        "bootstrap",
        "worker",
        "worker_timeout_seconds",
    ),
)
DEFAULT_SHARE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was typed behind `kq train`.

    Attributes:
        settings: of the run, or of all runs.
        path: the run's folder, or that of the run which trains all widths.
        stages: of --progressive the scheme and the folder of each run; () without it.
        widths: of --nested and --slim, the widest first; () without them.
    """

    settings: TrainSettings
    path: Path
    stages: tuple[tuple[Scheme, Path], ...]
    widths: tuple[Width, ...]


def asked_from(options: Mapping[str, Any]) -> Asked:
    """Reads the options of the `kq train` whose context is the current one.

    Raises:
        UsageError, SchemeError, RunError: see `settings_from`, `schemes_of_widths`,
            `parse_shares` and `run_path`.
    """
    source = click.get_current_context().get_parameter_source("method")
    if (options["nested"] or options["slim"]) and source is ParameterSource.DEFAULT:
        options = {**options, "method": NESTED_METHOD}
    schemes = schemes_of_widths(options, "progressive")
    bits, shares = schemes_of_widths(options, "nested"), parse_shares(options)
    settings = settings_from(options)
    widths: tuple[Width, ...] = ()
    if bits or shares:
        from keras_quant.jobs.nested import widths_of_bits, widths_of_channels

        widths = widths_of_bits(bits) or widths_of_channels(settings.scheme, shares)
    return Asked(
        settings=settings,
        path=run_path(options, settings),
        stages=tuple((each, run_path(options, settings, stage=each)) for each in schemes),
        widths=widths,
    )


def settings_from(options: Mapping[str, Any]) -> TrainSettings:
    """Builds settings from the options of `kq train`, by their names.

    Raises:
        UsageError: options that contradict each other, or cannot be read.
        SchemeError: bits or a scheme that cannot be read.
        RunError: the run of --from has no record that can be read.
    """
    from keras_quant.jobs.train_settings import TrainSettings

    teachers, share = parse_distill(options["distill"], options["distill_share"])
    widths = options["progressive"] or options["nested"]
    trained = _model_and_dataset(options)
    scheme = choose_scheme(
        bits=widths.split(",")[0] if widths else options["bits"],
        scheme=options["scheme"],
        overrides=options["overrides"],
        method=options["method"],
        first_last=options["first_last"],
        sums=options["sums"],
    )
    return TrainSettings(
        scheme=scheme,
        method=DEFAULT_METHOD if is_float(scheme) else options["method"],
        optimizer=OptimizerSettings(
            name=options["optimizer"],
            learning_rate=options["learning_rate"],
            weight_decay=options["weight_decay"],
            schedule=options["schedule"],
            warmup_epochs=options["warmup"],
        ),
        # Shares rise, and widths are given the widest first.
        loss_weights=parse_weights(options["loss_weights"])[:: -1 if options["slim"] else 1],
        strategy=options["strategy"] or "",
        workers=parse_workers(options["workers"]),
        distill=share,
        teachers=teachers,
        **trained,
        **_split(options, model=trained["model"], dataset=trained["dataset"]),
        **{name: options[name] for name in _FIELDS},
    )


def _model_and_dataset(options: Mapping[str, Any]) -> dict[str, Any]:
    """What is trained, on what: as given, else as the run of --from had it."""
    given_options, given_exits = (
        parse_options(options["model_options"]),
        parse_exits(options["exits"]),
    )
    model, dataset = options["model"], options["dataset"]
    if options["parent"] is not None and (model is None or dataset is None):
        parent = records.load(options["parent"])
        dataset = dataset or parent.dataset.name
        if model is None:
            model = parent.model.name
            given_options = {**parent.model.options, **given_options}
            given_exits = given_exits or tuple(parent.model.exits)
    return {
        "model": model or DEFAULT_MODEL,
        "model_options": given_options,
        "exits": given_exits,
        "dataset": dataset or DEFAULT_DATASET,
    }


def _split(options: Mapping[str, Any], *, model: str, dataset: str) -> dict[str, Any]:
    """How validation images are chosen: as given, else as the run behind it chose them."""
    from keras_quant.jobs.validation import has_images_of, run_behind

    seed, fraction = options["split_seed"], options["validation_fraction"]
    behind = run_behind(model, options["parent"]) if None in (seed, fraction) else None
    if behind is not None and has_images_of(behind, dataset):
        fraction = behind.dataset.validation_fraction if fraction is None else fraction
        if seed is None and behind.split_seed != options["seed"]:
            seed = behind.split_seed
    return {
        "split_seed": seed,
        "validation_fraction": DEFAULT_FRACTION if fraction is None else fraction,
    }


def choose_scheme(
    *,
    bits: str | None,
    scheme: str | None,
    overrides: Sequence[str],
    method: str = DEFAULT_METHOD,
    first_last: str | None = None,
    sums: str | None = None,
) -> Scheme:
    """The scheme that --bits, --first-last, --sums, --scheme, --set and --method ask for together.

    Raises:
        UsageError: they contradict each other.
        SchemeError: they cannot be read.
    """
    if bits is not None and scheme is not None:
        raise UsageError("--bits and --scheme both name bits: give one of them")
    for option, value, rules in (
        ("--first-last", first_last, "rules that match @first and @last"),
        ("--sums", sums, "a rule that matches type:Add"),
    ):
        if value is not None and (scheme is not None or method == "float"):
            raise UsageError(
                f"{option} goes with --bits; a scheme says it itself, in {rules}, and float has no "
                "bits"
            )
    if method == "float":
        if bits is not None or scheme is not None or overrides:
            raise UsageError("--method float has no bits: leave out --bits, --scheme and --set")
        return load_scheme("float")
    if scheme:
        return with_overrides(load_scheme(scheme), overrides)
    given = bits or methods.DEFAULT_BITS.get(method, DEFAULT_BITS)
    chosen = with_overrides(scheme_from_bits(given, ends=first_last or "8", sums=sums), overrides)
    return freed(chosen) if method in methods.WITH_ZERO_POINTS else chosen


def schemes_of_widths(options: Mapping[str, Any], option: str) -> list[Scheme]:
    """The schemes of --progressive or --nested, in order; none where it is not given.

    Args:
        option: "progressive" or "nested".
    Raises:
        UsageError: it is given with other bits, or widths rise.
        SchemeError: a width cannot be read.
    """
    if not options[option]:
        return []
    if options["bits"] is not None or options["scheme"] is not None:
        raise UsageError(f"--{option} names bits itself: leave out --bits and --scheme")
    if options["progressive"] and options["nested"]:
        raise UsageError(
            "--progressive trains widths one after the other, and --nested all at once: give one "
            "of them"
        )
    if options["method"] == "float":
        raise UsageError(f"--method float has no bits: leave out --{option}")
    if options["progressive"] and options["strategy"] == "multiworker":
        raise UsageError(
            "--progressive trains one run after the other, which workers cannot follow: give each "
            "width a command of its own, --from the last"
        )
    texts = options[option].split(",")
    check_falling(texts, option)
    return [
        choose_scheme(
            bits=text,
            scheme=None,
            overrides=options["overrides"],
            method=options["method"],
            first_last=options["first_last"],
            sums=options["sums"],
        )
        for text in texts
    ]


def check_falling(texts: Sequence[str], option: str) -> None:
    """Checks widths such as "4", "w3a3", "2".

    Raises:
        UsageError: there are fewer than two, or one is not fewer bits than the one before.
        SchemeError: one cannot be read.
    """
    given = f"--{option} {','.join(texts)}"
    if len(texts) < 2:
        raise UsageError(f"{given}: give two widths or more, as in 4,3,2; --bits takes one")
    bits = [_both_bits(text, option) for text in texts]
    for before, after, text in zip(bits, bits[1:], texts[1:], strict=False):
        if after == before or any(b > a for a, b in zip(before, after, strict=True)):
            raise UsageError(
                f"{given}: {text} is not fewer bits than what comes before it; widths fall, as in "
                "4,3,2"
            )


def _both_bits(text: str, option: str) -> tuple[int, int]:
    weight, activation = parse_bits(text)
    if weight is None or activation is None:
        raise SchemeError(f"--{option}: {text!r} names only one of weights and activations")
    return weight.bits, activation.bits


def parse_shares(options: Mapping[str, Any]) -> tuple[float, ...]:
    """Reads what stands behind --slim, "0.25,0.5,1"; () where nothing was given.

    Raises:
        UsageError: a part is no share, shares do not rise to 1, or another option makes several
            runs.
    """
    text = options["slim"]
    if text is None:
        return ()
    given = f"--slim {text}"
    if options["nested"] or options["progressive"]:
        other = "--nested" if options["nested"] else "--progressive"
        raise UsageError(f"{given} and {other} both make several runs: give one of them")
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{given}: write shares of the channels, as in 0.25,0.5,1") from error
    rise = all(0 < less < more for less, more in zip(shares, shares[1:], strict=False))
    if len(shares) < 2 or not rise or shares[-1] != 1:
        raise UsageError(f"{given}: give two shares or more, that rise to 1, as in 0.25,0.5,1")
    return shares


def parse_distill(text: str | None, share: float | None) -> tuple[tuple[Path, ...], float]:
    """Reads what stands behind --distill: a share of the parent's answers, or teachers.

    Returns: the teachers, none for the parent; and the share of their answers.
    Raises:
        UsageError: --distill-share without a teacher.
    """
    try:
        own = float(text) if text is not None else 0.0
    except ValueError:
        names = [str(text)] if Path(str(text)).exists() else str(text).split(",")
        return tuple(map(Path, names)), DEFAULT_SHARE if share is None else share
    if share is not None:
        raise UsageError(
            "--distill-share goes with a teacher that --distill names; of the parent's answers "
            "--distill gives the share itself, as in --distill 0.9"
        )
    return (), own


def parse_weights(text: str | None) -> tuple[float, ...]:
    """Reads "0.3,1"; () where nothing was given.

    Raises:
        UsageError: a part is no number.
    """
    try:
        return tuple(float(part) for part in text.split(",")) if text is not None else ()
    except ValueError as error:
        raise UsageError(f"--loss-weights {text!r}: write numbers, as in 0.3,1") from error


def parse_exits(text: str | None) -> tuple[str, ...]:
    """Reads "pool1,relu2"; () where nothing was given.

    Raises:
        UsageError: a name is empty.
    """
    names = () if text is None else tuple(part.strip() for part in text.split(","))
    if "" in names:
        raise UsageError(f"--exits {text!r}: write names of layers, as in pool1,relu2")
    return names


def parse_workers(text: str | None) -> tuple[str, ...]:
    """Reads "a:2222,b:2222"; () where nothing was given. What an address is, is checked later."""
    return () if text is None else tuple(part.strip() for part in text.split(","))


def parse_options(texts: Sequence[str]) -> dict[str, int | float | str]:
    """Reads KEY=VALUE texts; values are whole numbers, numbers or words.

    Raises:
        UsageError: a text is not KEY=VALUE.
    """
    options: dict[str, int | float | str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise UsageError(f"--option {text!r}: write KEY=VALUE, as in alpha=0.5")
        options[key] = _number(value)
    return options


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def run_path(
    options: Mapping[str, Any], settings: TrainSettings, *, stage: Scheme | None = None
) -> Path:
    """The folder of the run: --out / --name, or a name made of dataset, model and scheme.

    Args:
        stage: of several runs the scheme of this one, which a name is followed by.

    Raises:
        UsageError: the name is not that of a folder below --out.
    """
    name, scheme = options["name"], stage or settings.scheme
    if name is not None and stage is not None:
        name = f"{name}-{stage.name}"
    if name is None:
        model = settings.model.rpartition(":")[0] or settings.model
        bits = "nested" if options["nested"] else scheme.name
        bits += "-slim" if options["slim"] else ""
        name = "-".join((dataset_stem(settings.dataset), Path(model).stem, bits))
    return plain_path(options["out"], name)


def dataset_stem(name: str) -> str:
    """What folders call a dataset: a path's last part without a suffix, and what is behind a +."""
    base, _, asked = name.rpartition("+")
    if base and asked.isalnum():  # else the + is within a path
        return f"{Path(base).stem}+{asked}"
    return Path(name).stem


def plain_path(out: Path, name: str) -> Path:
    """The folder of a run.

    Raises:
        UsageError: the name is not that of a folder below --out.
    """
    if Path(name).name != name or name in ("", ".", ".."):
        raise UsageError(f"--name {name!r}: give a plain name; the folder is chosen with --out")
    return Path(out) / name
