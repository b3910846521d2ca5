"""From what was typed behind --to, and the options of targets, to formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_quant.emit.tflite.options import TFLiteOptions
    from keras_quant.proof.formats import Format
    from keras_quant.targets.tensorrt import TensorRTOptions


def choose_formats(targets: str, settings: Mapping[str, Any]) -> list[Format]:
    """The formats that --to names, each once, with the options given for it.

    Args:
        settings: the options of targets, by name; None for those that were not given.
    Raises:
        UsageError: unknown targets, or options that do not go with them.
    """
    from keras_quant.errors import UsageError, close_names
    from keras_quant.proof.formats import FORMATS
    from keras_quant.targets.tensorrt import plan

    names = dict.fromkeys(name.strip() for name in targets.split(","))
    problems = [
        f"--to {name!r} is not known{close_names(name, FORMATS)}; targets are {', '.join(FORMATS)}"
        for name in names
        if name not in FORMATS
    ]
    chosen = {name: value for name, value in settings.items() if value is not None}
    problems += [
        f"--{option.removesuffix('_type')} is for {target}; give it with --to {target}"
        for option in chosen
        if (target := _TARGET_OF[option]) not in names
    ]
    if problems:
        raise UsageError("\n".join(problems))
    tensorrt = _tensorrt_options(chosen)
    plan(tensorrt)  # raises for what does not go together before anything is loaded
    options = {"tflite": _tflite_options(chosen), "tensorrt": tensorrt}
    return [FORMATS[name].with_options(options.get(name)) for name in names]


_TARGET_OF = {
    **dict.fromkeys(("pack", "input_type", "head", "batch"), "tflite"),
    **dict.fromkeys(("trt", "board", "dla", "fp16"), "tensorrt"),
}


def _tflite_options(chosen: Mapping[str, Any]) -> TFLiteOptions:
    from keras_quant.emit.tflite.options import TFLiteOptions
    from keras_quant.errors import UsageError

    batch = chosen.get("batch", "dynamic")
    if batch != "dynamic" and not batch.isdecimal():
        raise UsageError(f"--batch is {batch!r}; a number of images, or dynamic, is allowed")
    given = {"pack": "pack", "input_type": "input", "head": "head"}
    return TFLiteOptions(
        batch=None if batch == "dynamic" else int(batch),
        **{field: chosen[option] for option, field in given.items() if option in chosen},
    )


def _tensorrt_options(chosen: Mapping[str, Any]) -> TensorRTOptions:
    from keras_quant.targets.tensorrt import TensorRTOptions

    return TensorRTOptions(
        version=chosen.get("trt"),
        board=chosen.get("board"),
        dla=chosen.get("dla", False),
        half=chosen.get("fp16", False),
    )
