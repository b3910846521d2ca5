"""Writes graphs as files of other runtimes. Emitters do not import each other."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_quant.emit.tflite.options import TFLiteOptions
from keras_quant.targets.tensorrt import TensorRTOptions

if TYPE_CHECKING:
    import numpy as np

    from keras_quant.graph.ir import Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A kind of file: how it is written, and how it is run.

    Functions are named as "module:function", and imported when they are used. Where a format
    has options, each but `runner` and `stored_offset` gets them as `options`.

    Attributes:
        name: a key of FORMATS.
        suffix: of file names, with its dot.
        emit: of emit(graph, *, outputs=None) -> bytes. The file takes the graph's inputs, and
            gives its outputs or the tensors named, in the graph's layout.
        runner: "module:class" of a `runners.Runner` made of a file's bytes or its path.
        stored_offset: of what the file adds to each code of a tensor with given QParams before
            it stores it.
        check: of check(graph, content), which raises EmitError where a file would not run as
            it should; "" where nothing is to be checked.
        limits: of limits(graph), which gives the largest stored weight codes by node that an
            ideal graph is to be realized with; "" for int8's.
        rewrite: of rewrite(graph, inputs), which gives the graph that the file is of, from the
            realized graph of the model and calibration inputs; "" where that is the model's.
        tolerance: of tolerance(graph), the share of codes that may differ from the
            reference's; "" for `parity.codes_tolerance`.
        metadata: of metadata(name=, labels=), what emit takes as `metadata`; "" for nothing.
        package: of package(graph, folder, *, model, samples, labels, scheme), which writes the
            file, whose bytes are `model`, with what belongs beside it; "" for the file alone.
        folder: of the file, within that of the export; "" for that itself.
        options: what the user chose; None for the defaults.
    """

    name: str
    suffix: str
    emit: str
    runner: str
    stored_offset: str
    check: str = ""
    limits: str = ""
    rewrite: str = ""
    tolerance: str = ""
    metadata: str = ""
    package: str = ""
    folder: str = ""
    options: Any = None

    @property
    def file_name(self) -> str:
        """What a file that passed the gate is called, within the export's folder."""
        return self._in_folder(f"model{self.suffix}")

    @property
    def failed_name(self) -> str:
        """What a file that did not pass is called."""
        return self._in_folder(f"model.failed-parity{self.suffix}")

    def _in_folder(self, name: str) -> str:
        return f"{self.folder}/{name}" if self.folder else name

    def with_options(self, options: Any) -> Format:
        """The format as the user wants it."""
        return replace(self, options=options)

    def load(self, part: str) -> Callable[..., Any]:
        """Imports what the field `part` names."""
        module, _, attribute = getattr(self, part).partition(":")
        loaded: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
        return loaded

    def call(self, part: str, *arguments: Any, **settings: Any) -> Any:
        """Calls what the field `part` names, with the options where there are some."""
        chosen = {} if self.options is None else {"options": self.options}
        return self.load(part)(*arguments, **settings, **chosen)

    def emitted(
        self,
        graph: Graph,
        *,
        outputs: Sequence[str] | None = None,
        name: str = "",
        labels: Sequence[str] = (),
    ) -> bytes:
        """Gives the bytes of a file.

        Args:
            graph: that `rewritten` gave.
            outputs: names of the tensors that the file gives; None means the graph's outputs.
            name: of the model, and
            labels: of its classes, for what the file says of itself; no name for nothing.
        """
        says = self.load("metadata")(name=name, labels=labels) if self.metadata and name else None
        settings = {} if says is None else {"metadata": says}
        content: bytes = self.call("emit", graph, outputs=outputs, **settings)
        return content

    def rewritten(self, graph: Graph, inputs: Mapping[str, np.ndarray]) -> Graph:
        """Gives the graph that the file is of; the given one itself in most cases."""
        if not self.rewrite:
            return graph
        changed: Graph = self.call("rewrite", graph, inputs)
        return changed


FORMATS = {
    form.name: form
    for form in (
        Format(
            name="tflite",
            suffix=".tflite",
            emit="keras_quant.emit.tflite.emit:emit_tflite",
            runner="keras_quant.runners.litert:LiteRTRunner",
            stored_offset="keras_quant.emit.tflite.emission:stored_offset",
            limits="keras_quant.emit.tflite.packing:stored_limits",
            rewrite="keras_quant.emit.tflite.ends:with_asked_head",
            metadata="keras_quant.emit.tflite.metadata:TFLiteMetadata",
            options=TFLiteOptions(),
        ),
        Format(
            name="onnx",
            suffix=".onnx",
            emit="keras_quant.emit.onnx_x86.emit:emit_onnx_x86",
            runner="keras_quant.runners.onnxruntime:OnnxRuntimeRunner",
            stored_offset="keras_quant.emit.onnx_x86.emission:stored_offset",
            limits="keras_quant.emit.onnx_x86.weights:stored_limits",
            check="keras_quant.proof.fusion:check_fused",
        ),
        Format(
            name="tensorrt",
            suffix=".onnx",
            emit="keras_quant.emit.onnx_tensorrt.emit:emit_onnx_tensorrt",
            runner="keras_quant.runners.onnxruntime:UnoptimizedRunner",
            stored_offset="keras_quant.emit.onnx_tensorrt.emission:stored_offset",
            rewrite="keras_quant.emit.bundle.write:written_graph",
            tolerance="keras_quant.emit.onnx_tensorrt.limits:codes_tolerance",
            package="keras_quant.emit.bundle.write:write_bundle",
            folder="tensorrt",
            options=TensorRTOptions(),
        ),
    )
}
"""What a lowered model can be written as, by the name that `kq export --to` takes."""


EXACT_FORMATS = {name: form for name, form in FORMATS.items() if not form.tolerance}
"""Those whose runtime computes codes in integers: they are the reference's, whatever the graph."""


def format_of(path: Path) -> Format | None:
    """The format of a file, by its suffix and its folder; None where there is none."""
    fitting = [form for form in FORMATS.values() if form.suffix == path.suffix]
    inside = [form for form in fitting if form.folder and form.folder == path.parent.name]
    return next(iter((*inside, *fitting)), None)
