"""The formats that a lowered model can be written in, by name; what they do is loaded when asked.

One module a format says what it does. It is imported by a function of its own, so that a name or
a suffix can be looked up without numpy, and one format used without what the others need.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_quant.emit.tflite.options import TFLiteOptions
from keras_quant.targets.tensorrt import TensorRTOptions

if TYPE_CHECKING:
    from keras_quant.proof.formats.definition import FormatDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A kind of file, and what the user chose about it.

    Attributes:
        name: a key of FORMATS.
        suffix: of file names, with its dot.
        runner: "MODULE:CLASS" of what runs a file, as `definition` has it; for processes that
            only do that, or only name it.
        define: gives what the format does with given options.
        options: what the user chose; None where there is no choice.
        folder: of the file, within that of the export; "" for that itself.
        stem: of the file's name.
        is_exact: whether its runtime computes codes in integers: they are the reference's then,
            whatever the graph.
    """

    name: str
    suffix: str
    runner: str
    define: Callable[[Any], FormatDef]
    options: Any = None
    folder: str = ""
    stem: str = "model"
    is_exact: bool = True

    @property
    def definition(self) -> FormatDef:
        """What the format does, with these options; imports what it needs."""
        return self.define(self.options)

    @property
    def file_name(self) -> str:
        """What a file that passed the gate is called, within the export's folder."""
        return self._in_folder(f"{self.stem}{self.suffix}")

    @property
    def failed_name(self) -> str:
        """What a file that did not pass is called."""
        return self._in_folder(f"{self.stem}.failed-parity{self.suffix}")

    def with_options(self, options: Any) -> Format:
        """The format as the user wants it."""
        return replace(self, options=options)

    def _in_folder(self, name: str) -> str:
        return f"{self.folder}/{name}" if self.folder else name


def _tflite(options: TFLiteOptions) -> FormatDef:
    from keras_quant.proof.formats.tflite import define

    return define(options)


def _onnx(options: None) -> FormatDef:
    from keras_quant.proof.formats.onnx_x86 import define

    return define()


def _tensorrt(options: TensorRTOptions) -> FormatDef:
    from keras_quant.proof.formats.onnx_tensorrt import define

    return define(options)


FORMATS = {
    form.name: form
    for form in (
        Format(
            name="tflite",
            suffix=".tflite",
            runner="keras_quant.runners.litert:LiteRTRunner",
            define=_tflite,
            options=TFLiteOptions(),
        ),
        Format(
            name="onnx",
            suffix=".onnx",
            runner="keras_quant.runners.onnxruntime:OnnxRuntimeRunner",
            define=_onnx,
        ),
        Format(
            name="tensorrt",
            suffix=".onnx",
            runner="keras_quant.runners.onnxruntime:UnoptimizedRunner",
            define=_tensorrt,
            options=TensorRTOptions(),
            folder="tensorrt",
            is_exact=False,
        ),
    )
}
"""What a lowered model can be written as, by the name that `kq export --to` takes."""


EXACT_FORMATS = {name: form for name, form in FORMATS.items() if form.is_exact}
"""Those whose codes are the reference's, whatever the graph."""


def format_of(path: Path) -> Format | None:
    """The format of a file, by its suffix and its folder; None where there is none."""
    fitting = [form for form in FORMATS.values() if form.suffix == path.suffix]
    inside = [form for form in fitting if form.folder and form.folder == path.parent.name]
    return next(iter((*inside, *fitting)), None)
