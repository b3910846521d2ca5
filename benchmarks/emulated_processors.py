"""The processors that qemu-user shows to programs, and how a Python script is started on them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import keras_quant
from keras_quant.errors import UsageError

SET_UP_OPTION = "--set-up"
PYTHON = "python3.13"


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """A processor that programs are shown.

    Attributes:
        name: a key of PROCESSORS, and the name of a model of qemu's (`-cpu help`).
        architecture: x86_64 or aarch64.
        description: what its kernels can use, and where it is found.
    """

    name: str
    architecture: str
    description: str


PROCESSORS = {
    processor.name: processor
    for processor in (
        Processor(
            name="Haswell",
            architecture="x86_64",
            description="AVX2, neither AVX512 nor VNNI: Haswell to Comet Lake, Zen to Zen 3",
        ),
        Processor(
            name="cortex-a53",
            architecture="aarch64",
            description="no dot products: Raspberry Pi 3; Jetson Nano and TX2 likewise",
        ),
        Processor(
            name="cortex-a76",
            architecture="aarch64",
            description="dot products: Raspberry Pi 5; Jetson Orin likewise",
        ),
        Processor(
            name="neoverse-v1",
            architecture="aarch64",
            description="products of 8-bit matrices, and SVE: Graviton 3",
        ),
    )
}
"""Nehalem and older are left out: the runtimes' own wheels do not start there."""


@dataclass(frozen=True, slots=True)
class Cache:
    """The folder that holds what is needed to run on other processors.

    Attributes:
        root: the folder.
    """

    root: Path

    @property
    def qemu(self) -> Path:
        """Debian's qemu-user, unpacked."""
        return self.root / "qemu"

    @property
    def system(self) -> Path:
        """Python and its libraries for aarch64."""
        return self.root / "aarch64"

    @property
    def site_packages(self) -> Path:
        """The runtimes for aarch64."""
        return self.root / "site-packages"


CACHE = Cache(Path.home() / ".cache" / "keras_quant" / "portability")
"""Where it is by default."""


def command(processor: Processor, cache: Cache, script: Path) -> list[str]:
    """What starts a Python script on a processor; see `environment`.

    Raises:
        UsageError: lists all that is not in the cache.
    """
    arm = processor.architecture == "aarch64"
    qemu = cache.qemu / "usr" / "bin" / f"qemu-{processor.architecture}"
    python = cache.system / "usr" / "bin" / PYTHON if arm else Path(sys.executable)
    needed = (qemu, python, cache.site_packages / "numpy") if arm else (qemu,)
    missing = [str(path) for path in needed if not path.exists()]
    if missing:
        raise UsageError(
            f"{processor.name}: missing: {', '.join(missing)}. Give {SET_UP_OPTION} to download "
            f"it into {cache.root}, or the folder that has it as --cache."
        )
    libraries = ["-L", str(cache.system)] if arm else []
    return [str(qemu), "-cpu", processor.name, *libraries, str(python), str(script)]


def environment(processor: Processor, cache: Cache) -> dict[str, str]:
    """The environment of such a process: this one's, and where to find packages."""
    paths = [Path(keras_quant.__file__).parents[1]]
    if processor.architecture == "aarch64":
        paths.append(cache.site_packages)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PYTHONPYCACHEPREFIX": str(cache.root / "pycache"),
        "OPENBLAS_NUM_THREADS": "1",
    }
