"""A net of three stages that needs no runtime, served on real sockets."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from keras_quant.anytime.connection import Address
from keras_quant.anytime.protocol import Ending
from keras_quant.anytime.runner import LoadedStage
from keras_quant.anytime.server import Served, StageServer
from keras_quant.anytime.views import AVERAGE
from keras_quant.runners import RunnerInfo
from keras_quant.runs.stages import Port, StageFile

CLASSES = 3
IMAGE = Port(name="image", dtype="float32", shape=(5,))
CODES = tuple(
    Port(name=f"codes{number}", dtype="int8", shape=(5,), scale=1.0, lowest=-8, highest=7)
    for number in range(2)
)
ANSWERS = tuple(Port(name=f"answer{n}", dtype="float32", shape=(CLASSES,)) for n in range(3))
LOOPBACK = Address(host="127.0.0.1", port=0)
NEVER_EARLY = Ending(rule="max", thresholds=(2.0, 2.0), aggregate=AVERAGE)


class FakeStage:
    """Hands on one more than each value that it takes, and answers with the sums of them."""

    info = RunnerInfo(name="fake", kernels=(), versions={})

    def __init__(self, number: int) -> None:
        self.number, self.waits_for = number, threading.Event()
        self.waits_for.set()

    @property
    def inputs(self) -> tuple[str, ...]:
        return (taken(self.number).name,)

    def prepare(self, inputs: Mapping[str, np.ndarray]) -> Any:
        raise NotImplementedError

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.waits_for.wait(10)
        codes = inputs[taken(self.number).name] + 1
        scores = codes[:, :CLASSES].astype(np.float32) * (self.number + 1)
        given = {ANSWERS[self.number].name: scores}
        if self.number < 2:
            given[CODES[self.number].name] = codes.astype(np.int8)
        return given


def taken(number: int) -> Port:
    return CODES[number - 1] if number else IMAGE


FILES = tuple(
    StageFile(
        file=f"stage{number + 1}.tflite",
        sha256=str(number) * 64,
        answer=ANSWERS[number].name,
        inputs=(taken(number),),
        outputs=(ANSWERS[number], *CODES[number : number + 1]),
        macs=1,
        bit_operations=1,
    )
    for number in range(3)
)


def stages() -> list[LoadedStage]:
    return [LoadedStage.of(file, FakeStage(number)) for number, file in enumerate(FILES)]


def served(first: int, last: int, **different: Any) -> Served:
    """The stages from first up to last, from 0 on."""
    made = tuple(stages()[first : last + 1])
    known = Served(
        form="tflite", files=FILES, first=first, stages=made, expected_ms=(0.0,) * len(made)
    )
    return replace(known, **different)


@contextmanager
def serving(what: Served, said: list[str] | None = None) -> Iterator[StageServer]:
    """Answers in a thread until the block ends."""
    said = [] if said is None else said
    with answering(StageServer(LOOPBACK, what, say=said.append)) as server:
        yield server


@contextmanager
def answering(made: StageServer) -> Iterator[StageServer]:
    """A server that answers in a thread until the block ends."""
    with made as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
