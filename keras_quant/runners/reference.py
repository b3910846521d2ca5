"""Runs a graph with the reference interpreter."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from keras_quant.graph.ir import Graph
from keras_quant.graph.reference import run_reference
from keras_quant.runners import RunnerInfo


class ReferenceRunner:
    """A graph, computed by numpy."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.info = RunnerInfo(
            name="reference", kernels=("numpy",), versions={"numpy": np.__version__}
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the graph's inputs."""
        return self._graph.inputs

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Computes a batch, see Runner; codes come as codes."""
        return run_reference(self._graph, inputs)

    def close(self) -> None:
        """Nothing to release."""
