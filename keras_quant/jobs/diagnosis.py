"""What this machine has, what is missing, and how to get it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from keras_quant.data.catalog import DATASETS, is_available
from keras_quant.errors import KerasQuantError
from keras_quant.runs.records import environment

# Package on the index: module to import. keras_quant.tf comes first: it chooses the Keras.
REQUIRED = {
    "tensorflow": "keras_quant.tf",
    "tf_keras": "tf_keras",
    "qkeras": "qkeras",
    "tensorflow-model-optimization": "tensorflow_model_optimization",
    "tf2onnx": "tf2onnx",
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "numpy": "numpy",
    "scikit-learn": "sklearn",
    "threadpoolctl": "threadpoolctl",
    "pillow": "PIL",
    "matplotlib": "matplotlib",
    "jinja2": "jinja2",
    "scipy": "scipy",
    "pyyaml": "yaml",
    "pyparsing": "pyparsing",
    "portalocker": "portalocker",
    "rich": "rich",
    "click": "click",
}

# Extra of this package: modules that it brings. They are looked for, not imported.
EXTRAS = {
    "dev": (
        *("pytest", "pytest_cov", "pytest_timeout", "xdist", "hypothesis", "ruff", "mypy"),
        *("importlinter", "nbclient", "ipykernel", "ray"),
    ),
    "notebooks": ("jupyter", "nbclient", "ipykernel"),
    "tensorboard": ("tensorboard",),
    "tensorrt": ("tensorrt_rtx",),
    "ray": ("ray",),
    "jetson": ("asyncssh",),
    "view": ("netron",),
}

# Where JetPack and the TensorRT packages put it without adding it to PATH.
TRTEXEC = "/usr/src/tensorrt/bin/trtexec"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the report.

    Attributes:
        status: "ok", "optional" (missing, not needed for the main job) or "missing".
        remedy: what to do about it; "" where nothing is to be done.
    """

    name: str
    found: str
    status: str = "ok"
    remedy: str = ""


def diagnose() -> list[Check]:
    """Looks at the machine, the packages, the datasets and the optional tools.

    Imports every required package, which takes some seconds.
    """
    return [
        *_machine(),
        *_packages(),
        _keras(),
        _xnnpack(),
        *_datasets(),
        *_extras(),
        _trtexec(),
    ]


def _machine() -> Iterator[Check]:
    facts = environment()
    yield Check(name="python", found=f"{facts['python']} ({sys.executable})")
    yield Check(name="platform", found=facts["platform"])
    yield Check(name="cpu", found=f"{facts['cpu']}, {facts['cores']} cores")
    yield Check(name="cpu instructions", found=facts["cpu_instructions"])
    if hasattr(os, "sysconf"):  # not on Windows
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        yield Check(name="memory", found=f"{memory / 2**30:.1f} GiB")


def _packages() -> Iterator[Check]:
    for package, module in REQUIRED.items():
        try:
            importlib.import_module(module)
            yield Check(name=package, found=metadata.version(package))
        except Exception as error:  # a broken package may raise anything while it is imported
            yield Check(
                name=package,
                found=f"{type(error).__name__}: {error}",
                status="missing",
                remedy=f"pip install --upgrade {package}",
            )


def _keras() -> Check:
    try:
        from keras_quant.tf import keras
    except KerasQuantError as error:
        return Check(name="tf.keras", found="none", status="missing", remedy=str(error))
    return Check(name="tf.keras", found=f"{keras.__name__} {keras.__version__}")


def _xnnpack() -> Check:
    name = "XNNPACK in LiteRT"
    try:
        kernels = _kernels_of_an_addition()
    except ImportError as error:
        return Check(name=name, found=str(error), status="missing", remedy="see ai-edge-litert")
    if kernels == ("XNNPACK",):
        return Check(name=name, found="yes")
    remedy = "integer files run on slower kernels, and halves are rounded differently"
    return Check(name=name, found="no", status="optional", remedy=remedy)


def _kernels_of_an_addition() -> tuple[str, ...]:
    """The kernels that LiteRT chooses for the smallest model there is: c = a + b in float32."""
    from ai_edge_litert.schema_py_generated import AddOptionsT

    from keras_quant.emit.tflite.file import TFLiteFile
    from keras_quant.runners.litert import LiteRTRunner

    file = TFLiteFile("addition")
    a, b, c = (file.activation(name, (4,)) for name in "abc")
    file.operator("ADD", [a, b], c, options=AddOptionsT())
    return LiteRTRunner(file.pack({"a": a, "b": b}, {"c": c})).info.kernels


def _datasets() -> Iterator[Check]:
    for name in DATASETS:
        if is_available(name):
            yield Check(name=f"dataset {name}", found="on this machine")
        else:
            remedy = f"is downloaded when needed; or put {name}.npz into $KQ_DATA_DIR"
            yield Check(name=f"dataset {name}", found="not here", status="optional", remedy=remedy)


def _extras() -> Iterator[Check]:
    for extra, modules in EXTRAS.items():
        absent = [module for module in modules if importlib.util.find_spec(module) is None]
        if absent:
            remedy = f"pip install 'keras_quant[{extra}]'"
            found = f"without {', '.join(absent)}"
            yield Check(name=f"extra {extra}", found=found, status="optional", remedy=remedy)
        else:
            yield Check(name=f"extra {extra}", found="installed")


def _trtexec() -> Check:
    path = shutil.which("trtexec") or shutil.which(TRTEXEC)
    if path:
        return Check(name="trtexec", found=path)
    remedy = "comes with TensorRT; needed only to time engines on this machine"
    return Check(name="trtexec", found="not found", status="optional", remedy=remedy)
