"""What a sweep consists of: its points, what each starts from, and the command that makes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_quant.errors import UsageError
from keras_quant.methods import METHODS, load_method
from keras_quant.runs.index import POST_TRAINING
from keras_quant.schemes.bits import parse_bits, scheme_from_bits
from keras_quant.schemes.scheme import is_float

FLOAT = "float"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSettings:
    """What `kq sweep` is asked for.

    Attributes:
        model: a name of the zoo, or "FILE.py:FUNCTION".
        model_options: KEY=VALUE texts, for the zoo's model.
        dataset: a name, a .npz file or an image folder.
        preprocess: see `TrainSettings`; "" means what `kq train` takes by itself.
        bits: as of `kq train --bits`.
        methods: names of METHODS, and POST_TRAINING for `kq quantize`.
        seeds: of each, a float run and all points.
        float_epochs: of the float runs.
        epochs: of each trained point.
        progressive: narrow widths start from the next wider one of their method; else all start
            from the float run.
        float_options: further arguments of `kq train` for the float runs.
        train_options: likewise for the others.
        jobs: points at a time; each gets its share of the cores.
    """

    model: str = "cnn"
    model_options: tuple[str, ...] = ()
    dataset: str = "digits"
    preprocess: str = ""
    bits: tuple[str, ...] = ("2", "3", "4", "8")
    methods: tuple[str, ...] = ("qkeras",)
    seeds: tuple[int, ...] = (0,)
    float_epochs: int = 20
    epochs: int = 10
    progressive: bool = True
    float_options: tuple[str, ...] = ()
    train_options: tuple[str, ...] = ()
    jobs: int = 1

    def check(self) -> None:
        """Reports everything that is wrong; loads no method.

        Raises:
            UsageError: values that are out of range, or not known.
            SchemeError: bits that cannot be read.
        """
        problems = [
            f"{option} is {value}; 1 or more is allowed"
            for option, value in (
                ("--epochs", self.epochs),
                ("--float-epochs", self.float_epochs),
                ("--jobs", self.jobs),
            )
            if value < 1
        ]
        for option, values in (
            ("--bits", self.bits),
            ("--methods", self.methods),
            ("--seeds", self.seeds),
        ):
            if not values or len(set(values)) < len(values):
                problems.append(f"{option} is {','.join(map(str, values))!r}; each once is needed")
        for option, given in (("--float", self.float_options), ("--train", self.train_options)):
            if any("multiworker" in word for word in given):
                problems.append(
                    f"{option}: a sweep starts one process a point, so that --strategy multiworker "
                    "would wait for the others; mirrored, or --engine ray, is for several devices"
                )
        if problems:
            raise UsageError("; ".join(problems))
        for bits in self.bits:
            if is_float(scheme_from_bits(bits)):
                raise UsageError(f"--bits {bits}: the float run is made anyway; leave it out")
        unknown = [name for name in self.methods if name not in (*METHODS, POST_TRAINING)]
        if unknown:
            known = ", ".join((*METHODS, POST_TRAINING))
            raise UsageError(f"--methods {unknown[0]}: methods are {known}")

    def load_methods(self) -> None:
        """Loads all methods, and TensorFlow with them: a point would fail for want of one.

        Raises:
            MissingDependencyError: a package that one needs is not installed.
        """
        for method in self.methods:
            if method != POST_TRAINING:
                load_method(method)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One run of a sweep.

    Attributes:
        name: of its folder, within that of the sweep.
        parent: name of the point whose weights it starts from; None for a float run.
        arguments: of kq, but for where the run goes and whether it is resumed.
        trains: whether it is made by `kq train`.
    """

    name: str
    parent: str | None
    arguments: tuple[str, ...]
    trains: bool = True


def points_of(settings: SweepSettings, folder: Path) -> tuple[Point, ...]:
    """Lists the points of a sweep; each comes behind its parent."""
    return tuple(point for seed in settings.seeds for point in _of_seed(settings, folder, seed))


def _of_seed(settings: SweepSettings, folder: Path, seed: int) -> Iterator[Point]:
    ending = f"-seed{seed}" if len(settings.seeds) > 1 else ""
    base = f"{FLOAT}{ending}"
    common = _common(settings, seed)
    epochs = ("--method", FLOAT, "--epochs", str(settings.float_epochs))
    float_run = ("train", *common, *epochs, *settings.float_options)
    yield Point(name=base, parent=None, arguments=float_run)
    for method in settings.methods:
        made: list[tuple[str, str]] = []
        for bits in sorted(settings.bits, key=_width, reverse=True):
            scheme = scheme_from_bits(bits).name
            name = f"{method}-{scheme}{ending}"
            if method == POST_TRAINING:
                given = ("quantize", str(folder / base), "--bits", bits)
                yield Point(name=name, parent=base, arguments=given, trains=False)
                continue
            parent = _wider(bits, made, base) if settings.progressive else base
            made.append((bits, name))
            tuned = (
                *("--method", method, "--bits", bits, "--epochs", str(settings.epochs)),
                *("--from", str(folder / parent), *settings.train_options),
            )
            yield Point(name=name, parent=parent, arguments=("train", *common, *tuned))


def _common(settings: SweepSettings, seed: int) -> tuple[str, ...]:
    """Arguments of all trainings."""
    options = [text for option in settings.model_options for text in ("--option", option)]
    becomes = ["--preprocess", settings.preprocess] if settings.preprocess else []
    return (
        *("--model", settings.model, *options, "--dataset", settings.dataset, *becomes),
        *("--seed", str(seed)),
    )


def _widths(bits: str) -> tuple[int, int]:
    weight, activation = parse_bits(bits)
    assert weight is not None and activation is not None  # as scheme_from_bits has checked
    return weight.bits, activation.bits


def _width(bits: str) -> tuple[int, tuple[int, int]]:
    """By which widths are ordered: both together, then weights."""
    return sum(_widths(bits)), _widths(bits)


def _wider(bits: str, made: Sequence[tuple[str, str]], base: str) -> str:
    """The narrowest point so far that is as wide in both; the float run where there is none."""
    weight, activation = _widths(bits)
    wider = [
        name
        for other, name in made
        if _widths(other)[0] >= weight and _widths(other)[1] >= activation
    ]
    return wider[-1] if wider else base
