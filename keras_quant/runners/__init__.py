"""Runs models: inputs to outputs, by name. Runners do not import each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from keras_quant.preprocessing import Preprocessing

if TYPE_CHECKING:
    import numpy as np

Inference: TypeAlias = "Callable[[], dict[str, np.ndarray]]"
"""Computes the batch that was prepared: by name, (batch, *shape), in the dtype of the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerInfo:
    """What computed an answer.

    Attributes:
        name: of the runtime.
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

    def prepare(self, inputs: Mapping[str, np.ndarray]) -> Inference:
        """Takes a batch, and does what need not be done again to compute it again.

        Args:
            inputs: by name, (batch, *shape): float32, or stored codes where the file takes these.
        Returns: what computes it, as often as it is called before the next batch is prepared; a
            timer calls that alone.
        """
        ...

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Computes a batch, once.

        Args:
            inputs: by name, (batch, *shape): float32, or stored codes where the file takes these.
        Returns: by name, in the model's order, (batch, *shape), in the dtype that it gives.
        """
        ...
