"""Runs exported files on an emulated processor, by the runners of this package."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import onnx
from emulated_processors import Cache, Processor, command, environment

from keras_quant.errors import ModelError
from keras_quant.proof.formats import Format
from keras_quant.proof.formats.definition import FormatDef
from keras_quant.runners import Inference, RunnerInfo

_WORKER = Path(__file__).with_name("emulated_worker.py")
_LOG_CHARACTERS = 1000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Emulator:
    """A Python process on an emulated processor, which serves any number of models.

    Attributes:
        process: runs emulated_worker.
        folder: of the models, their inputs and their outputs; no file is written twice.
        log: what the process writes to stderr.
    """

    processor: Processor
    process: subprocess.Popen[str]
    folder: Path
    log: TextIO

    def ask(self, **request: str) -> dict[str, Any]:
        """Sends a request to the worker, see emulated_worker.

        Raises:
            ModelError: the file cannot be loaded or run there, or the process died of it.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise ModelError(f"{self.processor.name}: the process died: {self._last_words()}")
        reply: dict[str, Any] = json.loads(answer)
        if "error" in reply:
            raise ModelError(f"{self.processor.name}: {reply['error']}")
        return reply

    def _last_words(self) -> str:
        code = self.process.wait()
        self.log.seek(0)
        return f"exit code {code}; {self.log.read()[-_LOG_CHARACTERS:].strip()}"


@contextlib.contextmanager
def emulate(processor: Processor, cache: Cache) -> Iterator[Emulator]:
    """Starts a process on a processor, and ends it.

    Raises:
        UsageError: something is missing in the cache.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            command(processor, cache, _WORKER),
            env=environment(processor, cache),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            yield Emulator(processor=processor, process=process, folder=Path(folder), log=log)
        finally:
            process.communicate()  # closes stdin, which ends the worker; also where it is dead


class EmulatedRunner:
    """A `runners.Runner` whose model is loaded by an emulator."""

    def __init__(self, emulator: Emulator, suffix: str, content: bytes) -> None:
        """Loads a model.

        Args:
            suffix: of its format.
            content: a file's bytes.
        """
        self._emulator = emulator
        self._path = _new_path(emulator, suffix)
        self._path.write_bytes(content)
        reply = emulator.ask(model=str(self._path))
        self.inputs = tuple(reply["inputs"])
        self.info = RunnerInfo(
            name=emulator.processor.name,
            kernels=tuple(reply["kernels"]),
            versions=reply["versions"],
        )

    def prepare(self, inputs: Mapping[str, np.ndarray]) -> Inference:
        """Takes a batch, see Runner; there is nothing to do ahead."""
        return partial(self.run, inputs)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Computes a batch, see Runner."""
        given, found = (_new_path(self._emulator, ".npz") for _ in range(2))
        np.savez(given, **inputs)
        self._emulator.ask(model=str(self._path), inputs=str(given), outputs=str(found))
        with np.load(found) as arrays:
            return dict(arrays)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatedFormat(Format):
    """A format whose files are run on an emulated processor.

    Attributes:
        emulator: what runs them.
        keeps_options: whether ONNX files keep the session options that their metadata name; an
            application that does not read them runs files without.
    """

    emulator: Emulator
    keeps_options: bool = True

    @property
    def definition(self) -> FormatDef:
        """What the format does; its runner is the emulator's."""
        run = partial(EmulatedRunner, self.emulator, self.suffix)
        runner = run if self.keeps_options else lambda content: run(without_options(content))
        return replace(self.define(self.options), runner=runner)


def emulated(form: Format, emulator: Emulator, *, keeps_options: bool = True) -> EmulatedFormat:
    """A format as an emulator runs its files."""
    values = {field.name: getattr(form, field.name) for field in fields(Format)}
    return EmulatedFormat(**values, emulator=emulator, keeps_options=keeps_options)


def _new_path(emulator: Emulator, suffix: str) -> Path:
    handle, path = tempfile.mkstemp(suffix=suffix, dir=emulator.folder)
    os.close(handle)
    return Path(path)


def without_options(content: bytes) -> bytes:
    """An ONNX file without its metadata."""
    model = onnx.load_model_from_string(content)
    del model.metadata_props[:]
    return bytes(model.SerializeToString())
