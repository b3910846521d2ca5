"""From what was typed behind `kq train` to settings; knows no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_quant.errors import UsageError
from keras_quant.methods import DEFAULT_METHOD
from keras_quant.schemes.bits import scheme_from_bits, with_overrides
from keras_quant.schemes.file import load_scheme
from keras_quant.schemes.scheme import Scheme, is_float
from keras_quant.training.optimizer_settings import OptimizerSettings

if TYPE_CHECKING:
    from keras_quant.jobs.train_settings import TrainSettings

DEFAULT_BITS = "4"
# Options that are fields of TrainSettings as they are.
_FIELDS = (
    *("model", "dataset", "validation_fraction", "epochs", "batch_size", "seed"),
    *("augment", "patience", "precision", "parent", "distill", "tensorboard"),
    *("preprocess", "threads"),
)


def settings_from(options: Mapping[str, Any]) -> TrainSettings:
    """Builds settings from the options of `kq train`, by their names.

    Raises:
        UsageError: options that contradict each other, or cannot be read.
        SchemeError: bits or a scheme that cannot be read.
    """
    from keras_quant.jobs.train_settings import TrainSettings

    scheme = choose_scheme(
        bits=options["bits"],
        scheme=options["scheme"],
        overrides=options["overrides"],
        method=options["method"],
        first_last=options["first_last"],
    )
    return TrainSettings(
        scheme=scheme,
        method=DEFAULT_METHOD if is_float(scheme) else options["method"],
        model_options=parse_options(options["model_options"]),
        optimizer=OptimizerSettings(
            name=options["optimizer"],
            learning_rate=options["learning_rate"],
            weight_decay=options["weight_decay"],
            schedule=options["schedule"],
            warmup_epochs=options["warmup"],
        ),
        loss_weights=parse_weights(options["loss_weights"]),
        **{name: options[name] for name in _FIELDS},
    )


def choose_scheme(
    *,
    bits: str | None,
    scheme: str | None,
    overrides: Sequence[str],
    method: str = DEFAULT_METHOD,
    first_last: str | None = None,
) -> Scheme:
    """The scheme that --bits, --first-last, --scheme, --set and --method ask for together.

    Raises:
        UsageError: they contradict each other.
        SchemeError: they cannot be read.
    """
    if bits is not None and scheme is not None:
        raise UsageError("--bits and --scheme both name bits: give one of them")
    if first_last is not None and (scheme is not None or method == "float"):
        raise UsageError(
            "--first-last goes with --bits; a scheme says it itself, in rules that match @first "
            "and @last, and float has no bits"
        )
    if method == "float":
        if bits is not None or scheme is not None or overrides:
            raise UsageError("--method float has no bits: leave out --bits, --scheme and --set")
        return load_scheme("float")
    if scheme:
        base = load_scheme(scheme)
    else:
        base = scheme_from_bits(bits or DEFAULT_BITS, ends=first_last or "8")
    return with_overrides(base, overrides)


def parse_weights(text: str | None) -> tuple[float, ...]:
    """Reads "0.3,1"; () where nothing was given.

    Raises:
        UsageError: a part is no number.
    """
    try:
        return tuple(float(part) for part in text.split(",")) if text is not None else ()
    except ValueError as error:
        raise UsageError(f"--loss-weights {text!r}: write numbers, as in 0.3,1") from error


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


def run_path(options: Mapping[str, Any], settings: TrainSettings) -> Path:
    """The folder of the run: --out / --name, or a name made of dataset, model and scheme.

    Raises:
        UsageError: the name is not that of a folder below --out.
    """
    name = options["name"]
    if name is None:
        model = settings.model.rpartition(":")[0] or settings.model
        parts = (Path(settings.dataset).stem, Path(model).stem, settings.scheme.name)
        name = "-".join(parts)
    return plain_path(options["out"], name)


def plain_path(out: Path, name: str) -> Path:
    """The folder of a run.

    Raises:
        UsageError: the name is not that of a folder below --out.
    """
    if Path(name).name != name or name in ("", ".", ".."):
        raise UsageError(f"--name {name!r}: give a plain name; the folder is chosen with --out")
    return Path(out) / name
