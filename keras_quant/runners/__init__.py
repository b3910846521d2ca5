"""Runs models: inputs to outputs, by name. Runners do not import each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from keras_quant.preprocessing import Preprocessing


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerInfo:
    """What computed an answer.

    Attributes:
        name: a key of RUNNERS.
        kernels: kernel libraries in use, with the operators each was given where several.
        versions: package name to version.
        takes_pixels: its input is uint8: raw pixels, whatever the model was trained on.
        preprocessing: what pixels become in front of a float input, as the file says; None where
            it says nothing.
    """

    name: str
    kernels: tuple[str, ...]
    versions: Mapping[str, str]
    takes_pixels: bool = False
    preprocessing: Preprocessing | None = None


class Runner(Protocol):
    """A loaded model."""

    info: RunnerInfo

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs."""
        ...

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Computes a batch.

        Args:
            inputs: by name, float32 (batch, *shape).
        Returns: by name, (batch, *shape), in the dtype that the model gives.
        """
        ...

    def close(self) -> None:
        """Releases the model; run may not be called afterwards."""
        ...


RUNNERS = {
    "reference": "keras_quant.runners.reference:ReferenceRunner",
    "litert": "keras_quant.runners.litert:LiteRTRunner",
    "onnxruntime": "keras_quant.runners.onnxruntime:OnnxRuntimeRunner",
}
"""Runner name to "module:class"."""
