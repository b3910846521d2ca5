"""QKeras: layers with fake-quantized kernels, activations with power-of-two scales.

Coelho et al., "Automatic heterogeneous quantization of deep neural networks for low-latency
inference on the edge for particle detectors", Nature Machine Intelligence 3 (2021).
Also reads what users trained with QKeras' own quantizers.
"""

from __future__ import annotations

from keras_quant.methods.qkeras.activations import read_activation
from keras_quant.methods.qkeras.read import (
    activation_of,
    freeze_activation,
    freeze_kernel,
    is_quantizer,
)
from keras_quant.methods.qkeras.repair import repair_qkeras
from keras_quant.methods.qkeras.twin import WRAPPED, activation, wrap

repair_qkeras()

__all__ = [
    "WRAPPED",
    "activation",
    "activation_of",
    "freeze_activation",
    "freeze_kernel",
    "is_quantizer",
    "read_activation",
    "wrap",
]
