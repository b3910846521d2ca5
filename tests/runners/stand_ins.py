"""What stands in for runtimes that crash, hang or take all memory; run in child processes."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_quant.errors import LoweringError
from keras_quant.runners import Inference, RunnerInfo
from keras_quant.targets.report import Finding, RulesReport

MEGABYTE = 10**6


@dataclass(frozen=True)
class Returned:
    file: str
    number: int


def returns(file: Path, *, number: int) -> Returned:
    print("what a library prints")
    return Returned(file=str(file), number=number)


def crashes(file: Path) -> None:
    os.write(2, b"a parser's last words\n")
    os.kill(os.getpid(), signal.SIGSEGV)


def exits(file: Path) -> None:
    os._exit(3)


def hangs(file: Path) -> None:
    time.sleep(3600)


def takes_memory(file: Path) -> None:
    kept = []
    while True:
        kept.append(bytearray(os.urandom(MEGABYTE)))


def refuses(file: Path) -> None:
    raise LoweringError(f"{file.name}: refused")


def fails(file: Path) -> None:
    raise ZeroDivisionError("by zero")


def leaves_a_file(file: Path) -> None:
    import tempfile

    (Path(tempfile.mkdtemp()) / "left").touch()
    crashes(file)


def check_file(file: Path, **options: object) -> RulesReport:
    finding = Finding(
        rule="opset", effect="rejected", node="", op="", what="found", remedy="mend", source="here"
    )
    return RulesReport(findings=(finding,))


build_file = crashes


class Rows:
    """Answers each image with how many came with it, once more for each row that it adds."""

    added = 0
    batch: int | None = None

    def __init__(self, file: Path) -> None:
        self.info = RunnerInfo(name="rows", kernels=("none",), versions={})
        self.inputs = ("x",)

    def prepare(self, inputs: dict[str, np.ndarray]) -> Inference:
        return lambda: self.run(inputs)

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        images = len(inputs["x"])
        return {"rows": np.full(images + self.added, images, np.int16)}


class BatchesOfFour(Rows):
    batch = 4


class OneRowTooMany(Rows):
    added = 1


class DiesOfItsFirstBatch(Rows):
    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        os.abort()
