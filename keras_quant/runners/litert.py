"""Runs .tflite files with LiteRT, on XNNPACK's kernels as applications do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from keras_quant.errors import DataError, ModelError
from keras_quant.preprocessing import METADATA_KEY, Preprocessing, preprocessing_from_json
from keras_quant.quiet import native_logs_hidden
from keras_quant.runners import Inference, RunnerInfo
from keras_quant.runners.batches import in_batches

_PACKAGE = "ai-edge-litert"
_DELEGATE = "DELEGATE"
_COUNTED = re.compile(r"output_[0-9]{1,4}")


class LiteRTRunner:
    """A loaded .tflite file; inputs and outputs are named as in its signature.

    A file of a fixed batch is called with so many images, however many are given.

    Attributes:
        batch: how many images a call takes; None where the file leaves that open.
    """

    def __init__(self, model: bytes | Path, *, num_threads: int = 1) -> None:
        """Loads a model.

        Args:
            model: a file's bytes, or its path.
            num_threads: how many threads the kernels may use.
        Raises:
            ModelError: the file cannot be read, or is damaged, or no TFLite file.
        """
        self._where = "the given bytes" if isinstance(model, bytes) else str(model)
        content, self._interpreter = _load(self._where, model, num_threads)
        self._inputs, self._outputs = _signature(self._interpreter)
        self._shapes: dict[int, tuple[int, ...]] = {}
        self.info = RunnerInfo(
            name="litert",
            kernels=_kernels(self._interpreter),
            versions={_PACKAGE: version(_PACKAGE)},
            takes_pixels=all(d["dtype"] == np.uint8 for d in self._inputs.values()),
            preprocessing=_preprocessing(content, self._where),
        )
        self.batch = _fixed_batch(self._inputs)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the model's inputs."""
        return tuple(self._inputs)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Computes a batch, once, see `prepare`."""
        return self.prepare(inputs)()

    def prepare(self, inputs: Mapping[str, np.ndarray]) -> Inference:
        """Takes a batch, see Runner; int8 outputs come as they are stored.

        Floats for an input of codes are rounded on the grid that the file states.

        Raises:
            DataError: an input is missing or of another shape than the model takes.
            ModelError: LiteRT cannot compute the file.
        """
        self._check(inputs)
        images = len(next(iter(inputs.values())))
        if self.batch not in (None, images):
            return partial(in_batches, self.run, inputs, self.batch)
        arrays = {
            details["index"]: _stored(np.asarray(inputs[name]), details)
            for name, details in self._inputs.items()
        }
        try:
            self._resize({index: array.shape for index, array in arrays.items()})
        except (ValueError, RuntimeError) as error:
            raise self._broken(error) from error
        for index, array in arrays.items():
            self._interpreter.set_tensor(index, array)
        return self._infer

    def _infer(self) -> dict[str, np.ndarray]:
        try:
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise self._broken(error) from error
        return {
            name: self._interpreter.get_tensor(details["index"])
            for name, details in self._outputs.items()
        }

    def _resize(self, shapes: Mapping[int, tuple[int, ...]]) -> None:
        """Makes room for inputs of other shapes than the last ones."""
        if shapes == self._shapes:
            return
        self._shapes = {}
        for index, shape in shapes.items():
            self._interpreter.resize_tensor_input(index, shape)
        self._interpreter.allocate_tensors()
        self._shapes = dict(shapes)

    def _broken(self, error: Exception) -> ModelError:
        return ModelError(f"{self._where}: LiteRT cannot compute it ({error}). Export it again.")

    def _check(self, inputs: Mapping[str, np.ndarray]) -> None:
        problems = []
        for name, details in self._inputs.items():
            shape = tuple(details["shape_signature"][1:].tolist())
            if name not in inputs:
                problems.append(f"input {name!r} is missing; given: {', '.join(inputs) or 'none'}")
            elif inputs[name].dtype not in (np.float32, details["dtype"]):
                problems.append(
                    f"input {name!r} of the file is {details['dtype'].__name__}; "
                    f"{inputs[name].dtype} was given. Give that, or float32"
                )
            elif inputs[name].shape[1:] != shape:
                problems.append(
                    f"input {name!r} has shape {inputs[name].shape}; (batch, *{shape}) is needed"
                )
        if problems:
            raise DataError("; ".join(problems))


def _load(where: str, model: bytes | Path, num_threads: int) -> tuple[bytes, Interpreter]:
    try:
        content = model if isinstance(model, bytes) else model.read_bytes()
        with native_logs_hidden():
            interpreter = Interpreter(model_content=content, num_threads=num_threads)
            interpreter.allocate_tensors()
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{where}: not a TFLite model that LiteRT can load ({error}). "
            "Give a complete .tflite file; export it again where it was cut short."
        ) from error
    return content, interpreter


def _preprocessing(content: bytes, where: str) -> Preprocessing | None:
    """What the file says that becomes of pixels in front of it."""
    model = schema.Model.GetRootAs(content, 0)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name() == METADATA_KEY.encode():
            buffer = model.Buffers(entry.Buffer())
            data = buffer.DataAsNumpy() if buffer.DataLength() else np.empty(0, np.uint8)
            return preprocessing_from_json(data.tobytes().decode(errors="replace"), where)
    return None


def _stored(values: np.ndarray, details: Mapping[str, Any]) -> np.ndarray:
    """What the file takes for an input: codes for floats where it takes codes."""
    scale, zero_point = details["quantization"]
    if values.dtype == details["dtype"] or not scale:
        return values
    info = np.iinfo(details["dtype"])
    codes = np.rint(values * np.float32(1 / scale)) + zero_point
    return np.asarray(np.clip(codes, info.min, info.max), details["dtype"])


def _fixed_batch(inputs: Mapping[str, Any]) -> int | None:
    """How many images a call takes; None where the file leaves that open."""
    lengths = {int(details["shape_signature"][0]) for details in inputs.values()}
    return max(lengths) if lengths and min(lengths) > 0 else None


def _signature(interpreter: Interpreter) -> tuple[dict[str, Any], dict[str, Any]]:
    """Details of inputs and of outputs by name, in the model's order.

    That is the file's, but where a signature counts them: TFLiteConverter writes outputs in an
    order of its own, and calls them output_0, output_1, ... in the model's. A signature gives them
    in the order of their names; old files without one name tensors.
    """
    given, found = interpreter.get_input_details(), interpreter.get_output_details()
    if not interpreter.get_signature_list():
        return {d["name"]: d for d in given}, {d["name"]: d for d in found}
    runner = interpreter.get_signature_runner(next(iter(interpreter.get_signature_list())))
    return _ordered(runner.get_input_details(), given), _ordered(runner.get_output_details(), found)


def _ordered(named: Mapping[str, Any], tensors: list[Any]) -> dict[str, Any]:
    counted = {name: _COUNTED.fullmatch(name) for name in named}
    if all(counted.values()):
        return dict(sorted(named.items(), key=lambda item: int(item[0].rpartition("_")[2])))
    place = {details["index"]: index for index, details in enumerate(tensors)}
    return dict(sorted(named.items(), key=lambda item: place[item[1]["index"]]))


def _kernels(interpreter: Interpreter) -> tuple[str, ...]:
    """What computes the outputs: XNNPACK, and the operators that it left to builtin kernels.

    The interpreter lists delegated operators beside the delegate that replaced them, so
    what runs is found by going back from the outputs, delegates first.
    """
    running = _running(interpreter)
    builtin = sorted({one["op_name"] for one in running} - {_DELEGATE})
    return (
        *(["XNNPACK"] if any(one["op_name"] == _DELEGATE for one in running) else []),
        *([f"builtin {', '.join(builtin)}"] if builtin else []),
    )


def builtin_operators(interpreter: Interpreter) -> set[int]:
    """Places of the operators that builtin kernels compute, and not XNNPACK."""
    return {one["index"] for one in _running(interpreter) if one["op_name"] != _DELEGATE}


def _running(interpreter: Interpreter) -> list[dict[str, Any]]:
    """The operators that compute the outputs, delegates in place of what they replaced."""
    operators: list[dict[str, Any]] = interpreter._get_ops_details()
    operators.sort(key=lambda operator: operator["op_name"] == _DELEGATE)
    producer = {int(index): operator for operator in operators for index in operator["outputs"]}
    waiting = [details["index"] for details in interpreter.get_output_details()]
    seen, running = set(waiting), {}
    while waiting:
        operator = producer.get(waiting.pop())
        if operator is None:
            continue
        running[operator["index"]] = operator
        fresh = {int(index) for index in operator["inputs"]} - seen
        seen |= fresh
        waiting += fresh
    return list(running.values())
