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
        check: "module:function" of check(graph, content), which raises EmitError where a
            file would not run as it should; "" where nothing is to be checked.
    """

    name: str
    suffix: str
    emit: str
    runner: str
    stored_offset: str
    check: str = ""

    @property
    def file_name(self) -> str:
        """What a file that passed the gate is called."""
        return f"model{self.suffix}"

    @property
    def failed_name(self) -> str:
        """What a file that did not pass is called."""
        return f"model.failed-parity{self.suffix}"

    def load(self, part: str) -> Callable[..., Any]:
        """Imports what the field `part` names."""
        module, _, attribute = getattr(self, part).partition(":")
        loaded: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
        return loaded


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
            check="keras_quant.fusion:check_fused",
        ),
    )
}
"""What a lowered model can be written as, by the name that `kq export --to` takes."""


def format_of(suffix: str) -> Format | None:
    """The format of files with that suffix; None where there is none."""
    return next((form for form in FORMATS.values() if form.suffix == suffix), None)
