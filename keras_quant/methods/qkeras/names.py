"""What model files may name of QKeras, none of which does more than compute.

QKeras looks names of quantizer strings up among its own globals, and calls them, so that what is
not on these lists must not reach it.
"""

from __future__ import annotations

# fmt: off
QUANTIZERS = frozenset({
    "bernoulli", "binary", "quantized_bits", "quantized_hswish", "quantized_po2", "quantized_relu",
    "quantized_relu_po2", "quantized_sigmoid", "quantized_tanh", "quantized_ulaw",
    "stochastic_binary", "stochastic_ternary", "ternary",
})
FUNCTIONS = frozenset({
    "binary_sigmoid", "binary_tanh", "hard_sigmoid", "hard_tanh", "smooth_sigmoid", "smooth_tanh",
})
CLASSES = frozenset({
    "Clip", "QActivation", "QAdaptiveActivation", "QAveragePooling2D", "QBatchNormalization",
    "QConv1D", "QConv2D", "QConv2DBatchnorm", "QConv2DTranspose", "QDense", "QDepthwiseConv2D",
    "QDepthwiseConv2DBatchnorm", "QGlobalAveragePooling2D", "QInitializer", "QSeparableConv1D",
    "QSeparableConv2D",
})
# fmt: on
OWN_CLASSES = frozenset({"fitted_bits"})
