"""What can run files here, by name; a runtime is loaded in the child process that it runs in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from keras_quant.model.suffixes import KERAS_SUFFIXES, is_saved_model

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One input of a file.

    Attributes:
        name: as the file calls it.
        dtype: numpy's name of it.
        shape: without the batch; None for a length that the file leaves open.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a runtime says of a file.

    Attributes:
        kernels: what computes it.
        versions: of the runtime's packages.
        inputs: in the file's order.
        batch: images a call; None where the file leaves that open.
    """

    kernels: tuple[str, ...]
    versions: Mapping[str, str]
    inputs: tuple[Input, ...]
    batch: int | None = None


class Opened(Protocol):
    """A file that a runtime has loaded."""

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> Callable[[], object]:
        """Takes a batch by input, and gives what computes it, as often as it is called."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Something that runs files.

    Attributes:
        suffixes: of the files that it takes.
        module: with `describe(file) -> Description`, and `prepare(file, threads=N)`, which imports
            and checks what is needed, and gives what loads the file: `() -> Opened`; and, where
            `profiles`, `profile(file, arrays, threads=N, runs=N) -> (Operator, ...)`.
        settings: keywords that its functions take too.
    """

    suffixes: tuple[str, ...]
    module: str
    profiles: bool = True
    settings: Mapping[str, str] = field(default_factory=dict)


RUNTIMES = {
    "litert": Runtime(suffixes=(".tflite",), module="keras_quant.bench.in_litert"),
    "onnxruntime": Runtime(suffixes=(".onnx",), module="keras_quant.bench.in_onnxruntime"),
    "keras": Runtime(suffixes=KERAS_SUFFIXES, module="keras_quant.bench.in_keras", profiles=False),
    **{
        f"litert-compiled{'' if kernels == 'xnnpack' else f'-{kernels}'}": Runtime(
            suffixes=(".tflite",),
            module="keras_quant.bench.in_litert_compiled",
            profiles=False,
            settings={"kernels": kernels},
        )
        for kernels in ("xnnpack", "builtin", "reference")
    },
}
"""By name; what takes a file by default comes before what is asked for."""


def runtime_of(file: Path) -> str | None:
    """The name of the runtime that takes a file or SavedModel folder; None where none does."""
    return next(iter(runtimes_of(file)), None)


def runtimes_of(file: Path) -> tuple[str, ...]:
    """The names of all that take a file or SavedModel folder, the default first."""
    if is_saved_model(file):
        return ("keras",)
    suffix = file.suffix.lower()
    return tuple(name for name, known in RUNTIMES.items() if suffix in known.suffixes)
