"""QKeras: layers with fake-quantized kernels, activations with power-of-two scales.

Coelho et al., "Automatic heterogeneous quantization of deep neural networks for low-latency
inference on the edge for particle detectors", Nature Machine Intelligence 3 (2021).
Also reads what users trained with QKeras' own quantizers.
"""

from __future__ import annotations

from keras_quant.methods.method import FileNames, Maker, Method, Reader
from keras_quant.methods.qkeras import names
from keras_quant.methods.qkeras.parts import PARTS
from keras_quant.methods.qkeras.read import (
    freeze_activation,
    freeze_bias,
    freeze_kernel,
    movable_of,
    write_kernel,
)
from keras_quant.methods.qkeras.repair import custom_objects, repair_qkeras, settle
from keras_quant.methods.qkeras.twin import WRAPPED, QKerasOptions, activation, wrap

repair_qkeras()


METHOD = Method(
    maker=Maker(
        wrap=wrap,
        activation=lambda name, grid, step, options: activation(name, grid),
        options=QKerasOptions,
    ),
    reader=Reader(
        stands_for={**{twin.__name__: kind for kind, (twin, _, _) in WRAPPED.items()}, **PARTS},
        kernel=freeze_kernel,
        bias=freeze_bias,
        activation=freeze_activation,
        movable=movable_of,
        write=write_kernel,
    ),
    files=FileNames(
        classes=names.CLASSES | names.QUANTIZERS | names.OWN_CLASSES,
        functions=names.FUNCTIONS,
        calls=names.QUANTIZERS | names.FUNCTIONS,
        packages=("qkeras",),
        objects=custom_objects,
        settle=settle,
    ),
    post_training=(("fit", "search"),),
)

__all__ = ["METHOD"]
