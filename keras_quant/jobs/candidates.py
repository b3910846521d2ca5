"""The files that a user names, as they are to be measured: by which runtime, in which shapes."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from keras_quant.bench.measure import Candidate, Settings, describe
from keras_quant.bench.runtimes import Description, runtimes_of
from keras_quant.emit.bundle.make import MANIFEST_NAME, MODEL_NAME
from keras_quant.errors import UsageError, close_names
from keras_quant.jobs.paths import files_of

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings:
    """What to measure.

    Attributes:
        runtimes: names of RUNTIMES; () for all that take one of the files.
        threads: how many each runtime may use; each number is measured.
        batches: images a call; () for what a file takes, and 1 where it takes any.
        profile: whether to profile the operators of each file, in a run of its own.
        timing: how long, see `measure.Settings`.
        input_shapes: with the batch, by name, of inputs in which a file leaves sizes open.
    """

    runtimes: tuple[str, ...] = ()
    threads: tuple[int, ...] = (1,)
    batches: tuple[int, ...] = ()
    profile: bool = False
    timing: Settings = Settings()
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def find_files(paths: Sequence[Path], runtimes: Sequence[str], say: Say) -> list[tuple[Path, str]]:
    """The files that paths stand for, each with its runtime; or with several, where asked for.

    Args:
        paths: files, runs and bundles.
        runtimes: names of RUNTIMES; none of them for the one that takes a file by default.
        say: is told what is left out.
    Raises:
        UsageError: nothing is left to measure.
    """
    found = []
    for path in paths:
        files = [path / MODEL_NAME] if (path / MANIFEST_NAME).is_file() else files_of(path)
        for file in files:
            able = runtimes_of(file)
            assert able
            chosen = [name for name in able if name in runtimes] if runtimes else [able[0]]
            if not chosen:
                say(f"{file}: left out, {able[0]} runs it")
            elif len(files) > 1 and (file.parent / MANIFEST_NAME).is_file():
                say(f"{file}: left out, it is for TensorRT; give it by itself to run it here")
            else:
                found += [(file, runtime) for runtime in chosen]
    if not found:
        raise UsageError(f"nothing is left to measure with --runtime {','.join(runtimes)}")
    return found


def make_candidates(files: Sequence[tuple[Path, str]], settings: BenchSettings) -> list[Candidate]:
    """Files as they are to be measured, with each number of threads and images.

    Raises:
        ModelError: a runtime refuses its file.
        UsageError: files take other batches or shapes, or leave sizes open; all problems at once.
    """
    described = {(file, runtime): describe(file, runtime) for file, runtime in dict.fromkeys(files)}
    problems = list(_unknown_inputs(settings.input_shapes, list(described.values())))
    several = len(settings.threads) > 1, len(settings.batches) > 1
    runs_of = Counter(file for file, _ in dict.fromkeys(files))
    folder = Path(os.path.commonpath([file.parent for file, _ in files]))
    candidates: list[Candidate] = []
    names = Counter[str]()
    for file, runtime in files:
        description = described[file, runtime]
        problems += _shape_problems(file, description, settings)
        description = _shaped(description, settings.input_shapes)
        problems += _problems(file, description, settings.batches)
        for threads, batch in itertools.product(settings.threads, _batches(description, settings)):
            name = str(file.relative_to(folder)) + f", {runtime}" * (runs_of[file] > 1)
            name += f", {threads} threads" * several[0] + f", batch {batch}" * several[1]
            names[name] += 1
            name = name if names[name] == 1 else f"{name} ({names[name]})"
            candidates.append(_candidate(file, runtime, name, description, threads, batch))
    if problems:
        raise UsageError("\n".join(dict.fromkeys(problems)))
    return candidates


def _batches(description: Description, settings: BenchSettings) -> tuple[int, ...]:
    """The batches to measure a file with: those asked for, else its own or that of its shape."""
    named = [settings.input_shapes.get(one.name) for one in description.inputs]
    given = next((shape[0] for shape in named if shape), None)
    return settings.batches or (description.batch or given or 1,)


def _shaped(description: Description, shapes: Mapping[str, tuple[int, ...]]) -> Description:
    """Fills in the sizes that a file leaves open."""
    inputs = tuple(
        replace(one, shape=shapes[one.name][1:]) if one.name in shapes else one
        for one in description.inputs
    )
    return replace(description, inputs=inputs)


def _unknown_inputs(
    shapes: Mapping[str, tuple[int, ...]], descriptions: Sequence[Description]
) -> Iterator[str]:
    known = dict.fromkeys(one.name for description in descriptions for one in description.inputs)
    for name in shapes:
        if name not in known:
            yield (
                f"--input-shape {name}: no file has such an input{close_names(name, known)}; "
                f"inputs are {', '.join(known)}"
            )


def _shape_problems(file: Path, description: Description, settings: BenchSettings) -> Iterator[str]:
    for one in description.inputs:
        given = settings.input_shapes.get(one.name)
        if given is None:
            continue
        own = (description.batch, *one.shape)
        text = "x".join(map(str, given))
        if len(given) != len(own) or any(
            size not in (None, asked) for size, asked in zip(own, given, strict=True)
        ):
            yield (
                f"{file}: --input-shape {one.name}={text} does not fit its shape "
                f"({', '.join('any' if size is None else str(size) for size in own)})"
            )
        if settings.batches not in ((), (given[0],)):
            yield f"--input-shape {one.name}={text} names a batch, and so does --batch; give one"


def candidate(file: Path, runtime: str, *, name: str) -> Candidate:
    """A file as it is to be measured, with one thread and one image a call.

    Raises:
        ModelError: the runtime refuses it.
        UsageError: it takes another batch, or leaves a size open.
    """
    description = describe(file, runtime)
    if problems := list(_problems(file, description, (1,))):
        raise UsageError("\n".join(problems))
    return _candidate(file, runtime, name, description, 1, 1)


def _candidate(
    file: Path, runtime: str, name: str, description: Description, threads: int, batch: int
) -> Candidate:
    sizes = {
        one.name: (one.dtype, (batch, *(n or 1 for n in one.shape))) for one in description.inputs
    }
    return Candidate(
        name=name,
        file=file,
        runtime=runtime,
        threads=threads,
        batch=batch,
        description=description,
        inputs=sizes,
    )


def _problems(file: Path, description: Description, batches: Sequence[int]) -> Iterator[str]:
    for one in description.inputs:
        if None in one.shape:
            sizes = ", ".join("any" if n is None else str(n) for n in one.shape)
            yield (
                f"{file}: its input {one.name!r} has the shape ({sizes}); times depend on what is "
                f"left open. Say it with --input-shape {one.name}={_filled(one.shape)}, say"
            )
    for batch in batches:
        if description.batch not in (None, batch):
            yield (
                f"{file}: takes {description.batch} images a call, and not {batch}. Leave out "
                "--batch, or write the file for any batch (kq export --batch dynamic)"
            )


def _filled(shape: Sequence[int | None]) -> str:
    """A shape to type, with a batch of 1 and a likely size where one is open."""
    return "x".join(map(str, (1, *(size or 224 for size in shape))))
