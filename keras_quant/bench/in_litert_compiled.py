"""LiteRT's CompiledModel, beside the Interpreter: buffers are written and read, and one call runs.

Its kernel modes are those of the wheel (ai_edge_litert.cpu_kernel_mode): XNNPACK, and TFLite's
builtin and reference kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.cpu_kernel_mode import CpuKernelMode
from ai_edge_litert.options import CpuOptions, Options

from keras_quant.bench import in_litert
from keras_quant.bench.runtimes import Description, Opened
from keras_quant.errors import ModelError
from keras_quant.quiet import native_logs_hidden

_KERNELS = {"xnnpack": "XNNPACK", "builtin": "builtin", "reference": "reference"}
_ERRORS = (RuntimeError, ValueError, TypeError)


def describe(file: Path, *, kernels: str) -> Description:
    """Says what LiteRT makes of a file. Raises: ModelError: it takes no such file.

    Args:
        kernels: "xnnpack", "builtin" or "reference".
    """
    seen = in_litert.describe(file)
    model = _load(file, threads=1, kernels=kernels)
    whole = bool(model.is_fully_accelerated())
    return Description(
        kernels=(f"CompiledModel, {_KERNELS[kernels]}{'' if whole else ', not all delegated'}",)
        if kernels == "xnnpack"
        else (f"CompiledModel, {_KERNELS[kernels]} kernels",),
        versions={"ai-edge-litert": version("ai-edge-litert")},
        inputs=seen.inputs,
        batch=seen.batch,
    )


def prepare(file: Path, *, threads: int, kernels: str) -> Callable[[], Opened]:
    """Gives what loads a file, see `runtimes.Runtime`."""
    return partial(_open, file, threads, kernels)


def _open(file: Path, threads: int, kernels: str) -> Opened:
    return partial(_ready, _load(file, threads=threads, kernels=kernels), file)


def _load(file: Path, *, threads: int, kernels: str) -> Any:
    mode = CpuKernelMode[kernels.upper()]
    options = Options(cpu_options=CpuOptions(num_threads=threads, kernel_mode=mode))
    try:
        with native_logs_hidden():
            return CompiledModel.from_file(str(file), options=options)
    except _ERRORS as error:
        raise _broken(file, error) from error


def _ready(model: Any, file: Path, arrays: Mapping[str, np.ndarray]) -> Callable[[], object]:
    try:
        with native_logs_hidden():
            key = model.get_signature_by_index(0)["key"]
            names = {
                details["name"]: place
                for place, details in enumerate(model.get_input_tensor_details(key).values())
            }
            for name, array in arrays.items():
                model.resize_input_tensor(names[name], array.shape, strict=False)
            inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
            for name, array in arrays.items():
                inputs[names[name]].write(np.ascontiguousarray(array))
            model.run_by_index(0, inputs, outputs)
            read = [
                partial(
                    buffer.read, int(np.prod(details["shape"])), np.dtype(details["dtype"]).type
                )
                for buffer, details in zip(
                    outputs, model.get_output_tensor_details(key).values(), strict=True
                )
            ]
    except (*_ERRORS, KeyError) as error:
        raise _broken(file, error) from error
    return partial(_infer, partial(model.run_by_index, 0, inputs, outputs), read)


def _infer(run: Callable[[], None], read: Sequence[Callable[[], object]]) -> object:
    run()
    return [one() for one in read]


def _broken(file: Path, error: Exception) -> ModelError:
    words = " ".join(str(error).split()) or type(error).__name__
    return ModelError(
        f"{file}: LiteRT's CompiledModel cannot compute it ({words}). --runtime litert may"
    )
