"""What it costs that `kq evaluate` and `kq check` open files in a child process.

Whole processes, started anew each time, in turn with the same command that opens the file itself:
resnet20 on random images, as many as CIFAR-10 has, and resnet50 on 100 of 224x224x3, 8 bits,
calibrated on random images, as TFLite and as ONNX; and checks of both for TensorRT, with NVIDIA's
builder where it is installed. Time is CPU time of all of a command's processes, which others on
the machine disturb less; wall time stands beside it. Memory is the most that they held together
at a time, each page that they share counted once (PSS, proc(5)), looked at every 20 ms.

Goal: at most 1.15 times the CPU time and the memory.
"""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from interleaved import paired_ratio
from results import Result, argument_parser, publish

GOAL = 1.15
SAMPLE_SECONDS = 0.02
# name of the zoo: input shape, classes, images to train and to test
NETS = {
    "resnet20": ((32, 32, 3), 10, 50_000, 10_000),
    "resnet50": ((224, 224, 3), 1000, 1000, 100),
}
CALIBRATION_IMAGES = 4

KQ = "from keras_quant.cli.main import main; main()"
# The same commands, with what runs in the child called here.
IN_PROCESS = """
import importlib
from keras_quant.runners import child, serve

class Here(child.Child):
    def __init__(self, file, limits):
        self._file, self.close = file, lambda: None
        self._runners = []

    def ask(self, request, arrays=None, *, seconds=None):
        return serve._answer(self._runners, arrays or {}, **request, file=str(self._file))

child.Child = Here
child.BATCH_BYTES = 2**40
"""


def main() -> None:
    """Measures and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nets", nargs="*", default=list(NETS), help="of " + ", ".join(NETS))
    arguments = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for net in arguments.nets:
            place = Path(folder) / net
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                process.submit(write_files, place, net).result()
            for title, words in commands(place).items():
                results += compare(f"{title} {net}", words, arguments.rounds)
    publish("files opened in a child process", results, arguments.json)


def write_files(folder: Path, net: str) -> None:
    """Writes a net's files, and images for it."""
    from quantized import fake_quantized

    from keras_quant.lower import lower_exactly
    from keras_quant.proof.formats import FORMATS
    from keras_quant.zoo import build

    shape, classes, _, _ = NETS[net]
    images = write_images(folder / "data.npz", net)
    model = fake_quantized(build(net, shape, classes), "w8a8", images[:CALIBRATION_IMAGES])
    graph = lower_exactly(model).graph
    for form in FORMATS.values():
        path = folder / form.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(form.definition.emit(graph))


def write_images(file: Path, net: str) -> np.ndarray:
    """Writes random images, of all classes in turn; gives those to test."""
    shape, classes, *counts = NETS[net]
    arrays = {}
    for split, count in zip(("train", "test"), counts, strict=True):
        random = np.random.default_rng(count)
        arrays[f"x_{split}"] = random.integers(0, 256, (count, *shape), np.uint8)
        arrays[f"y_{split}"] = np.arange(count) % classes
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **arrays)
    return arrays["x_test"]


def commands(folder: Path) -> dict[str, list[str]]:
    """The commands to measure, by what they do."""
    options = ["--dataset", str(folder / "data.npz"), "--preprocess", "unit"]
    return {
        "evaluate TFLite": ["evaluate", str(folder / "model.tflite"), *options],
        "evaluate ONNX": ["evaluate", str(folder / "model.onnx"), *options],
        "check": ["check", str(folder / "tensorrt" / "model.onnx")],
    }


def compare(title: str, words: Sequence[str], rounds: int) -> list[Result]:
    """Runs a command with and without a child in turn; the first round does not count."""
    here, apart = f"{title}, in one process", f"{title}, in a child"
    code = {here: IN_PROCESS + KQ, apart: KQ}
    figures = ("wall", "CPU", "memory")
    samples = {figure: {name: np.empty(rounds) for name in code} for figure in figures}
    for number in range(-1, rounds):
        for name, program in code.items():
            found = execute([sys.executable, "-c", program, *words])
            for figure, value in zip(figures, found, strict=True):
                if number >= 0:
                    samples[figure][name][number] = value
    wall, cpu, memory = samples.values()
    results = [
        replace(paired_ratio(wall, apart, here), figure=f"{title}: wall time"),
        replace(paired_ratio(cpu, apart, here, at_most=GOAL), figure=f"{title}: CPU time"),
        replace(paired_ratio(memory, apart, here, at_most=GOAL), figure=f"{title}: memory"),
    ]
    units = (("s", 1.0), ("s", 1.0), ("MB", 1e-6))
    return [
        replace(
            result, peer=" / ".join(f"{np.median(found[n]) * k:.2f} {u}" for n in (apart, here))
        )
        for result, found, (u, k) in zip(results, (wall, cpu, memory), units, strict=True)
    ]


def execute(words: Sequence[str]) -> tuple[float, float, float]:
    """Runs a command to its end.

    Returns: seconds, CPU seconds of it and its children, the most bytes that they held.
    Raises:
        subprocess.CalledProcessError: it failed.
    """
    most, started, before = 0, time.perf_counter(), cpu_seconds()
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, sum(map(held_bytes, family(process.pid))))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SAMPLE_SECONDS)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)
    return time.perf_counter() - started, cpu_seconds() - before, most


def cpu_seconds() -> float:
    """Of all children that have ended, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def family(pid: int) -> list[int]:
    """A process and all below it."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            # PID (NAME) STATE PARENT ..., see proc(5); a name may hold anything
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for above in found:
        found += [child for child, parent in parents.items() if parent == above]
    return found


def held_bytes(pid: int) -> int:
    """What a process holds: its share of pages that others hold too, and the rest whole."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    main()
