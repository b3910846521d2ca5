"""Writes graphs as files of other runtimes. Emitters do not import each other."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A kind of file: how it is written, and how it is run.

    Attributes:
        name: a key of FORMATS.
        suffix: of file names, with its dot.
        emit: "module:function" of emit(graph, *, outputs=None) -> bytes. The file takes the
            graph's inputs, and gives its outputs or the tensors named, in the graph's layout.
        runner: "module:class" of a `runners.Runner` made of a file's bytes or its path.
        stored_offset: "module:function" of what the file adds to each code of a tensor with
            given QParams before it stores it.
    """

    name: str
    suffix: str
    emit: str
    runner: str
    stored_offset: str

    def load(self, part: str) -> Callable[..., Any]:
        """Imports "emit", "runner" or "stored_offset"."""
        module, _, attribute = getattr(self, part).partition(":")
        return getattr(importlib.import_module(module), attribute)


FORMATS = {
    form.name: form
    for form in (
        Format(
            name="tflite",
            suffix=".tflite",
            emit="keras_quant.emit.tflite:emit_tflite",
            runner="keras_quant.runners.litert:LiteRTRunner",
            stored_offset="keras_quant.emit.tflite_emission:stored_offset",
        ),
        Format(
            name="onnx",
            suffix=".onnx",
            emit="keras_quant.emit.onnx_x86:emit_onnx_x86",
            runner="keras_quant.runners.onnxruntime:OnnxRuntimeRunner",
            stored_offset="keras_quant.emit.onnx_x86_emission:stored_offset",
        ),
    )
}
"""What a lowered model can be written as, by the name that `kq export --to` takes."""
