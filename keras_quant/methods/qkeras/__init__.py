"""QKeras: layers with fake-quantized kernels, activations with power-of-two scales.

Coelho et al., "Automatic heterogeneous quantization of deep neural networks for low-latency
inference on the edge for particle detectors", Nature Machine Intelligence 3 (2021).
Also reads what users trained with QKeras' own quantizers.
"""

from __future__ import annotations

from typing import Any

from keras_quant.methods.method import FileNames, Maker, Method, Reader
from keras_quant.methods.qkeras import names
from keras_quant.methods.qkeras.read import freeze_activation, freeze_bias, freeze_kernel
from keras_quant.methods.qkeras.repair import repair_qkeras
from keras_quant.methods.qkeras.twin import WRAPPED, activation, wrap
from keras_quant.tf import qkeras

repair_qkeras()


def _objects() -> dict[str, Any]:
    found: dict[str, Any] = {}
    qkeras.utils._add_supported_quantized_objects(found)
    return found


METHOD = Method(
    maker=Maker(
        wrap=lambda layer, spec, options: wrap(layer, spec),
        activation=lambda name, grid, step, options: activation(name, grid),
    ),
    reader=Reader(
        classes={twin.__name__: kind for kind, (twin, _, _) in WRAPPED.items()},
        kernel=freeze_kernel,
        bias=freeze_bias,
        grid=freeze_activation,
    ),
    files=FileNames(
        classes=names.CLASSES | names.QUANTIZERS | names.OWN_CLASSES,
        functions=names.FUNCTIONS,
        calls=names.QUANTIZERS | names.FUNCTIONS,
        packages=("qkeras",),
        objects=_objects,
    ),
)

__all__ = ["METHOD"]
