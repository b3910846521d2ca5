"""NVIDIA's Jetson boards: which files they run, how fast their GPUs and memories are, by whom told.

The figures and their sources are in boards.yaml; what is computed of them is here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_quant.errors import UsageError, close_names

FILE = Path(__file__).with_name("boards.yaml")
PRECISIONS = ("fp32", "fp16", "int8")
VALUE_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
_TRANSFERS_A_CLOCK = 2  # LPDDR4 and LPDDR5: double data rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a figure is from.

    Attributes:
        recalled: it was written down from knowledge of that page, not read there again.
    """

    text: str
    recalled: bool = False

    def __str__(self) -> str:
        return f"{self.text} (recalled)" if self.recalled else self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A generation of GPUs: multiply-adds of one multiprocessor (SM) a clock.

    Attributes:
        cores: CUDA cores of an SM.
        cuda: by "fp32", "fp16" and "int8", what its CUDA cores do.
        tensor: by "tf32", "fp16" and "int8", what its tensor cores do, without sparsity.
        sources: by "cores", "cuda.fp32", ...
    """

    cores: int
    cuda: Mapping[str, int]
    tensor: Mapping[str, int]
    sources: Mapping[str, Source]

    def matrix_rate(self, precision: str) -> int:
        """Multiply-adds an SM and clock of a product of matrices.

        fp32 uses TF32 where the tensor cores have it, as TensorRT does unless it is told not to.
        """
        on_tensor_cores = self.tensor.get("tf32" if precision == "fp32" else precision)
        return on_tensor_cores or self.value_rate(precision)

    def value_rate(self, precision: str) -> int:
        """Multiply-adds an SM and clock of the CUDA cores."""
        return self.cuda.get(precision, self.cuda["fp32"])


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerMode:
    """What nvpmodel sets.

    Attributes:
        also: modes that differ in the processor's cores and clocks alone.
        sms: multiprocessors that are not gated.
        gpu_mhz, memory_mhz: highest clocks.
    """

    name: str
    sms: int
    gpu_mhz: float
    memory_mhz: float
    source: Source
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JetPack:
    """A release of JetPack for a board.

    Attributes:
        tensorrt: the version that comes with it.
        file: the key of `tensorrt.VERSIONS` that files are written for.
    """

    release: str
    tensorrt: str
    file: str
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A Jetson module.

    Attributes:
        gpu: generation of its GPU.
        compute_capability: as CUDA names it, "8.7".
        int8: whether TensorRT's int8 kernels run on its GPU.
        sms: multiprocessors (SMs) that the fastest mode has.
        memory_bits: width of its memory's bus.
        dla_cores: deep learning accelerators beside the GPU.
        jetpacks: the first is the one to expect.
        modes: the fastest first.
        sources: by the name of a figure.
    """

    title: str
    gpu: str
    generation: Generation
    compute_capability: str
    int8: bool
    sms: int
    tensor_cores: int
    memory_bits: int
    dla_cores: int
    jetpacks: tuple[JetPack, ...]
    modes: tuple[PowerMode, ...]
    sources: Mapping[str, Source]

    @property
    def tensorrt(self) -> tuple[str, ...]:
        """Keys of `tensorrt.VERSIONS` that its JetPacks bring; the first is the one to expect."""
        return tuple(dict.fromkeys(jetpack.file for jetpack in self.jetpacks))

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those of PRECISIONS that TensorRT has kernels for."""
        return PRECISIONS if self.int8 else PRECISIONS[:2]

    def peak_tops(self, mode: PowerMode, precision: str) -> float:
        """Dense peak of products of matrices: 10^12 operations a second, two a multiply-add."""
        return 2e-6 * mode.sms * mode.gpu_mhz * self.generation.matrix_rate(precision)

    def bandwidth_gb_s(self, mode: PowerMode) -> float:
        """Peak of the memory, in 10^9 bytes a second."""
        return 1e-3 * mode.memory_mhz * _TRANSFERS_A_CLOCK * self.memory_bits / 8


def find_board(name: str) -> Board:
    """A board by its name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in BOARDS:
        raise UsageError(
            f"board {name!r} is not known{close_names(name, BOARDS)}; known are {', '.join(BOARDS)}"
        )
    return BOARDS[name]


def find_mode(board: str, name: str | None) -> PowerMode:
    """A power mode of a board by the name that nvpmodel has for it, with or without "MODE_".

    Args:
        name: in any case; None means the fastest.
    Raises:
        UsageError: there is no such board, or the board has no mode of that name.
    """
    modes = find_board(board).modes
    if name is None:
        return modes[0]
    for mode in modes:
        if _plain_name(name) in map(_plain_name, (mode.name, *mode.also)):
            return mode
    known = [known for mode in modes for known in (mode.name, *mode.also)]
    raise UsageError(
        f"--power-mode {name!r} is none of {board}{close_names(name.upper(), known)}; it has "
        f"{', '.join(known)}"
    )


def _plain_name(name: str) -> str:
    return re.sub(r"^MODE_", "", name.strip().upper())


def _boards() -> dict[str, Board]:
    """Reads boards.yaml, which is part of the package."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    content = yaml.load(FILE.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506
    sources = {
        name: Source(text=one["text"], recalled=one.get("recalled", False))
        for name, one in content["sources"].items()
    }
    generations = {name: _generation(one, sources) for name, one in content["generations"].items()}
    return {name: _board(one, sources, generations) for name, one in content["boards"].items()}


def _generation(content: Mapping[str, Any], sources: Mapping[str, Source]) -> Generation:
    figures = {"cores": content["cores"]}
    for unit in ("cuda", "tensor"):
        figures |= {f"{unit}.{name}": figure for name, figure in content[unit].items()}
    return Generation(
        cores=content["cores"][0],
        cuda={name: value for name, (value, _) in content["cuda"].items()},
        tensor={name: value for name, (value, _) in content["tensor"].items()},
        sources={name: sources[source] for name, (_, source) in figures.items()},
    )


def _board(
    content: Mapping[str, Any],
    sources: Mapping[str, Source],
    generations: Mapping[str, Generation],
) -> Board:
    figures = {name: value for name, value in content.items() if name not in _LISTS}
    return Board(
        title=content["title"],
        generation=generations[content["gpu"][0]],
        jetpacks=tuple(
            JetPack(**{**one, "source": sources[one["source"]]}) for one in content["jetpacks"]
        ),
        modes=tuple(
            PowerMode(
                **{**one, "also": tuple(one.get("also", ())), "source": sources[one["source"]]}
            )
            for one in content["modes"]
        ),
        sources={name: sources[source] for name, (_, source) in figures.items()},
        **{name: value for name, (value, _) in figures.items()},
    )


_LISTS = ("title", "jetpacks", "modes")

BOARDS: dict[str, Board] = _boards()
"""By the name that --board takes."""
