"""Timing one image through all files of each network, in turn, as `kq bench` does."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from interleaved import timing
from networks import CASES, Case
from padded_nets import PADDED_NETS
from results import Result, argument_parser, publish

from keras_quant.bench.measure import Settings, measure
from keras_quant.bench.records import Measurement
from keras_quant.jobs.candidates import candidate
from keras_quant.tf import keras
from keras_quant.zoo import build

Samples = Mapping[str, np.ndarray]
"""By file, the median of each round in seconds, (loads * rounds,)."""


def measure_networks(
    description: str,
    title: str,
    *,
    runtime: str,
    make_files: Callable[[keras.Model, np.ndarray], dict[str, bytes]],
    ratios: Callable[[Case, Samples], list[Result]],
) -> None:
    """Measures the networks that are asked for, and prints.

    Args:
        description: of the benchmark, for --help.
        title: of the table.
        runtime: that runs the files, of `bench.runtimes.RUNTIMES`.
        make_files: from a float model and uint8 images to calibrate on to the files to compare,
            in the order of the table.
        ratios: compares the samples of a network's files.
    """
    parser = argument_parser(description)
    parser.add_argument("--model", help="only this one of the networks")
    arguments = parser.parse_args()
    results = []
    for case in CASES:
        if arguments.model not in (None, case.model):
            continue
        shape = (case.size, case.size, 3)
        source = _build(case.model, shape, case.classes)
        images = np.random.default_rng(0).integers(0, 256, (case.images, *shape), np.uint8)
        measured = _measure_files(make_files(source, images), runtime, case)
        samples = {name: _round_medians(one) for name, one in measured.items()}
        found = [timing(name, samples[name], peer=_what(one)) for name, one in measured.items()]
        where = f"{case.model} {case.size}x{case.size}"
        results += [
            replace(result, figure=f"{where}: {result.figure}")
            for result in [*found, *ratios(case, samples)]
        ]
    publish(title, results, arguments.json)


def _build(model: str, shape: tuple[int, int, int], classes: int) -> keras.Model:
    if model in PADDED_NETS:
        return PADDED_NETS[model](shape, classes)
    return build(model, shape, classes)


def _measure_files(files: Mapping[str, bytes], runtime: str, case: Case) -> dict[str, Measurement]:
    with tempfile.TemporaryDirectory() as folder:
        candidates = []
        for place, (name, content) in enumerate(files.items()):
            path = Path(folder) / f"{place}{'.tflite' if runtime == 'litert' else '.onnx'}"
            path.write_bytes(content)
            candidates.append(candidate(path, runtime, name=name))
        found, _ = measure(candidates, Settings(duration_s=case.seconds))
    return {one.name: one for one in found}


def _round_medians(one: Measurement) -> np.ndarray:
    return np.array([np.median(times) / 1e9 for load in one.samples() for times in load])


def _what(one: Measurement) -> str:
    """The file's size, and the kernels that it ran on."""
    return f"{one.size_bytes / 1e3:,.1f} kB, {'; '.join(one.kernels)}"
