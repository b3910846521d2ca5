"""NVIDIA's Jetson boards: what decides which file they can run."""

from __future__ import annotations

from dataclasses import dataclass

_MODULES = "https://developer.nvidia.com/embedded/jetson-modules"
# Compute capability to precision: 5.3 and 6.2 have no INT8, 7.2, 8.7 and 11.0 have.
_PRECISIONS = (
    "https://docs.nvidia.com/deeplearning/tensorrt/latest/getting-started/support-matrix.html"
    " (hardware and precision)"
)
_JETPACK = "https://developer.nvidia.com/embedded/jetpack-archive"
_JETPACK_7 = (
    "https://docs.nvidia.com/deeplearning/tensorrt/11.4.1/inference-library/work-with-dla.html"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A Jetson module.

    Attributes:
        gpu: generation of its GPU.
        compute_capability: as CUDA names it, "8.7".
        int8: whether TensorRT's int8 kernels run on its GPU.
        dla_cores: deep learning accelerators beside the GPU.
        tensorrt: keys of `tensorrt.VERSIONS` that its JetPacks bring; the first is the one
            to expect.
        sources: where this is documented.
    """

    gpu: str
    compute_capability: str
    int8: bool
    dla_cores: int
    tensorrt: tuple[str, ...]
    sources: tuple[str, ...] = (_MODULES, _PRECISIONS, _JETPACK)


BOARDS: dict[str, Board] = {
    "nano": Board(
        gpu="Maxwell", compute_capability="5.3", int8=False, dla_cores=0, tensorrt=("8.2",)
    ),
    "tx2": Board(
        gpu="Pascal", compute_capability="6.2", int8=False, dla_cores=0, tensorrt=("8.2",)
    ),
    "xavier-nx": Board(
        gpu="Volta", compute_capability="7.2", int8=True, dla_cores=2, tensorrt=("8.5", "8.2")
    ),
    "agx-xavier": Board(
        gpu="Volta", compute_capability="7.2", int8=True, dla_cores=2, tensorrt=("8.5", "8.2")
    ),
    "orin-nano": Board(
        gpu="Ampere",
        compute_capability="8.7",
        int8=True,
        dla_cores=0,
        tensorrt=("10.3", "8.5", "8.6", "10.x"),
    ),
    "orin-nx": Board(
        gpu="Ampere",
        compute_capability="8.7",
        int8=True,
        dla_cores=2,
        tensorrt=("10.3", "8.5", "8.6", "10.x"),
    ),
    "agx-orin": Board(
        gpu="Ampere",
        compute_capability="8.7",
        int8=True,
        dla_cores=2,
        tensorrt=("10.3", "8.5", "8.6", "10.x", "11"),
        sources=(_MODULES, _PRECISIONS, _JETPACK, _JETPACK_7),
    ),
    "thor": Board(
        gpu="Blackwell", compute_capability="11.0", int8=True, dla_cores=0, tensorrt=("10.x", "11")
    ),
}
