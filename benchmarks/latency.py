"""Timing one image through all files of each network, in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from interleaved import time_interleaved, timing
from networks import CASES, Case
from padded_nets import PADDED_NETS
from results import Result, argument_parser, publish

from keras_quant.tf import keras
from keras_quant.zoo import build

Samples = Mapping[str, np.ndarray]

# Where a file's weights and buffers come to lie in memory decides over some percent of its time.
LOADS = 10


def measure_networks(
    description: str,
    title: str,
    *,
    make_files: Callable[[keras.Model, np.ndarray], dict[str, bytes]],
    invocation: Callable[[bytes], Callable[[], object]],
    describe: Callable[[bytes], str],
    ratios: Callable[[Case, Samples], list[Result]],
) -> None:
    """Measures the networks that are asked for, and prints.

    Args:
        description: of the benchmark, for --help.
        title: of the table.
        make_files: from a float model and uint8 images to calibrate on to the files to compare,
            in the order of the table.
        invocation: loads a file, and gives what runs it on one image.
        describe: what a file is and runs on.
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
        files = make_files(source, images)
        samples = _time_loads(files, invocation, case)
        found = [timing(name, samples[name], peer=describe(files[name])) for name in files]
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


def _time_loads(
    files: Mapping[str, bytes], invocation: Callable[[bytes], Callable[[], object]], case: Case
) -> Samples:
    """Times files that are loaded again and again, each time in another order."""
    random = np.random.default_rng(0)
    loads = []
    for _ in range(LOADS):
        loaded = {name: invocation(files[name]) for name in random.permutation(list(files))}
        rounds = case.rounds // LOADS
        loads.append(time_interleaved(loaded, rounds=rounds, warmup=2, calls=case.calls))
    return {name: np.concatenate([load[name] for load in loads]) for name in files}
