"""Downloads what is needed to run on other processors: qemu-user, and an aarch64 Python.

All goes into one folder; nothing is installed into the system, and no rights are needed. qemu
and Python are Debian's packages, and the runtimes are the versions that are installed here, from
the package index. qemu 10, because ONNX Runtime's newer aarch64 wheels crash under 7.2.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from emulated_processors import PYTHON, Cache

from keras_quant.errors import UsageError
from keras_quant.runs.progress import Progress

_SOURCE = "http://deb.debian.org/debian trixie main"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_QEMU = "qemu-user:amd64"
_ARM_PACKAGES = tuple(
    f"{name}:arm64" for name in (f"{PYTHON}-minimal", f"lib{PYTHON}-stdlib", "libstdc++6")
)
_RUNTIMES = ("onnxruntime", "ai-edge-litert", "onnx")
_PLATFORMS = tuple(
    f"{tag}_aarch64"
    for tag in ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
)


def set_up(cache: Cache, progress: Progress) -> None:
    """Downloads what the cache does not hold yet.

    Raises:
        UsageError: this machine cannot do it, or a download failed; says what to do.
    """
    check_machine()
    if not cache.qemu.exists():
        progress.say(f"downloading qemu-user into {cache.root}")
        _unpack(_packages(cache, [_QEMU]), cache.qemu)
    if not cache.system.exists():
        progress.say(f"downloading {PYTHON} for aarch64 into {cache.root}")
        _unpack(_packages(cache, _ARM_PACKAGES), cache.system)
    if not cache.site_packages.exists():
        wheels = [f"{name}=={version(name)}" for name in _RUNTIMES]
        progress.say(f"downloading {', '.join(wheels)} for aarch64 into {cache.root}")
        _install(wheels, cache.site_packages)


def check_machine() -> None:
    """Checks that this machine can set up and run other processors.

    Raises:
        UsageError: lists all that is missing.
    """
    problems = [
        f"{tool} is not found: Debian and Ubuntu have it"
        for tool in ("apt-get", "dpkg")
        if shutil.which(tool) is None
    ]
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        problems.append(
            f"this machine is {platform.system()} on {platform.machine()}; "
            "Linux on x86_64 is supported"
        )
    if not _KEYRING.exists():
        problems.append(f"{_KEYRING} is missing: install the package debian-archive-keyring")
    if problems:
        raise UsageError("; ".join(problems))


def _packages(cache: Cache, names: Sequence[str]) -> list[Path]:
    """Downloads Debian packages with all that they depend on, and gives their paths."""
    root = cache.root / "apt"
    archives = root / "archives"
    shutil.rmtree(archives, ignore_errors=True)
    for folder in (archives / "partial", root / "lists" / "partial"):
        folder.mkdir(parents=True, exist_ok=True)
    (root / "status").touch()  # no package is installed, so each comes with all it depends on
    (root / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {_SOURCE}\n", encoding="utf-8")
    settings = {
        "APT::Architectures": "amd64,arm64",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Dir::State": root,
        "Dir::State::status": root / "status",
        "Dir::Cache": root,
        "Dir::Etc::sourcelist": root / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
    }
    options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
    _run(["apt-get", *options, "update"])
    install = ["install", "--download-only", "--yes", "--no-install-recommends"]
    _run(["apt-get", *options, *install, *names])
    return sorted(archives.glob("*.deb"))


def _unpack(packages: Sequence[Path], folder: Path) -> None:
    partial = _emptied(folder)
    (partial / "usr" / "lib").mkdir(parents=True)
    (partial / "lib").symlink_to("usr/lib")  # where programs look for their loader
    for package in packages:
        _run(["dpkg", "--extract", str(package), str(partial)])
    partial.rename(folder)


def _install(wheels: Sequence[str], folder: Path) -> None:
    partial = _emptied(folder)
    platforms = [part for name in _PLATFORMS for part in ("--platform", name)]
    target = ["--target", str(partial), "--python-version", PYTHON.removeprefix("python")]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:"]
    _run([*pip, *target, *platforms, *wheels])
    partial.rename(folder)


def _emptied(folder: Path) -> Path:
    """Where a folder is filled before it gets its name: one that exists is complete."""
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def _run(arguments: Sequence[str]) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(
            f"{' '.join(arguments)} failed: {done.stderr.strip()[-2000:]}. Mend that (a network, a "
            "package index) and give the option again: what is complete is kept."
        )
