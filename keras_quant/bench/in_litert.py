"""LiteRT, as an application calls it: set the input once, invoke, take the output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from keras_quant.bench.operators import Operator, described, explained
from keras_quant.bench.runtimes import Description, Input, Opened
from keras_quant.errors import ModelError
from keras_quant.quiet import native_logs_hidden
from keras_quant.runners.litert import LiteRTRunner, builtin_operators


def describe(file: Path) -> Description:
    """Says what LiteRT makes of a file. Raises: ModelError: it takes no such file."""
    runner = LiteRTRunner(file)
    details = Interpreter(model_path=str(file)).get_input_details()
    return Description(
        kernels=runner.info.kernels,
        versions=runner.info.versions,
        inputs=tuple(
            Input(
                name=one["name"],
                dtype=np.dtype(one["dtype"]).name,
                shape=tuple(n if n > 0 else None for n in one["shape_signature"][1:].tolist()),
            )
            for one in details
        ),
        batch=runner.batch,
    )


def prepare(file: Path, *, threads: int) -> Callable[[], Opened]:
    """Gives what loads a file, see `runtimes.Runtime`."""
    return partial(_load, file, threads)


def profile(
    file: Path, arrays: Mapping[str, np.ndarray], *, threads: int, runs: int
) -> tuple[Operator, ...]:
    """Lists a file's operators with their types; LiteRT's Python API gives no times of them."""
    with native_logs_hidden():
        interpreter = Interpreter(model_path=str(file), num_threads=threads)
        interpreter.allocate_tensors()
    names = {one["index"]: one["name"] for one in interpreter.get_tensor_details()}
    builtin = builtin_operators(interpreter)
    operators = [
        Operator(
            name=names[int(one["outputs"][0])],
            op=one["op_name"],
            types=described(_types(one["operand_types"]), _types(one["result_types"])),
            why="builtin kernel: XNNPACK does not take it" if one["index"] in builtin else "",
        )
        for one in interpreter._get_ops_details()
        if one["op_name"] != "DELEGATE"
    ]
    return explained(operators)


def _types(kinds: list[type]) -> list[str]:
    return [np.dtype(kind).name for kind in kinds]


def _load(file: Path, threads: int) -> Opened:
    with native_logs_hidden():
        interpreter = Interpreter(model_path=str(file), num_threads=threads)
        interpreter.allocate_tensors()
    return partial(_ready, interpreter, file)


def _ready(
    interpreter: Interpreter, file: Path, arrays: Mapping[str, np.ndarray]
) -> Callable[[], object]:
    details = {one["name"]: one for one in interpreter.get_input_details()}
    try:
        for name, array in arrays.items():
            if tuple(details[name]["shape"]) != array.shape:
                interpreter.resize_tensor_input(details[name]["index"], array.shape)
        interpreter.allocate_tensors()
        for name, array in arrays.items():
            interpreter.set_tensor(details[name]["index"], array)
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{file}: LiteRT cannot compute it ({error}). Export it again") from error
    outputs = [one["index"] for one in interpreter.get_output_details()]
    return partial(_infer, interpreter.invoke, interpreter.get_tensor, outputs)


def _infer(invoke: Callable[[], None], get: Callable[[int], object], outputs: list[int]) -> object:
    invoke()
    return [get(index) for index in outputs]
