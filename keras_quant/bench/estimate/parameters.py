"""The few numbers of the model that are fitted, and how far off it was on what was left out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_quant.json_codec import from_plain

FILE = Path(__file__).with_name("parameters.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What the same for all boards and nets; all above 0.

    Attributes:
        cuda_efficiency: share of the peak of CUDA cores that a large product of matrices reaches.
        tensor_efficiency: the same of tensor cores.
        winograd_gain: how many times as fast 3x3 convolutions of stride 1 are on CUDA cores, where
            TensorRT has Winograd kernels; 2.25 would be their share of multiplications.
        tile_rounds: how many rounds of tiles, one a multiprocessor, a product takes besides those
            of its own tiles: filling, draining and what the last round leaves idle.
        memory_efficiency: share of the memory's peak bandwidth.
        depthwise_efficiency: share of the CUDA cores' peak that a depthwise convolution reaches.
        launch_us: what a kernel takes besides, from Ampere on.
        early_launch_us: the same up to Volta, where figures are of JetPack 4.
    """

    cuda_efficiency: float
    tensor_efficiency: float
    winograd_gain: float
    tile_rounds: float
    memory_efficiency: float
    depthwise_efficiency: float
    launch_us: float
    early_launch_us: float


NAMES = tuple(field.name for field in dataclasses.fields(Parameters))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How far measurements lay from the model where they had been left out of the fit.

    Attributes:
        share: of the measurements that lay within `factor`.
        factor: above 1; between 1 / factor times and factor times the estimate.
        median_error: median of |estimate / measured - 1|.
        worst_factor: the largest of max(estimate / measured, measured / estimate).
        measurements: how many there were.
    """

    share: float
    factor: float
    median_error: float
    worst_factor: float
    measurements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Parameters, and what is known of them.

    Attributes:
        origin: what they were fitted to, in words.
        guess: what was held for likely before any measurement was seen.
        guess_factors: by which factor a parameter was held to be off, one standard deviation.
        spread: of what was left out, board by board and net by net.
    """

    origin: str
    values: Parameters
    guess: Parameters
    guess_factors: Parameters
    spread: Spread


def load_fitted() -> Fitted:
    """The parameters that come with the package, as benchmarks/fit_jetson.py wrote them."""
    problems: list[str] = []
    content: Mapping[str, object] = json.loads(FILE.read_text(encoding="utf-8"))
    fitted = from_plain(content, Fitted, problems)
    assert fitted is not None, problems
    return fitted


def to_vector(parameters: Parameters) -> np.ndarray:
    """Natural logarithms, in the order of NAMES: float64 (parameters,)."""
    return np.log([getattr(parameters, name) for name in NAMES])


def from_vector(logarithms: np.ndarray) -> Parameters:
    """The inverse of `to_vector`."""
    return Parameters(**dict(zip(NAMES, np.exp(logarithms).tolist(), strict=True)))
