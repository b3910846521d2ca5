"""What model files may name of TF-MOT, none of which does more than compute."""

from __future__ import annotations

# fmt: off
LAYERS = frozenset({"QuantizeLayer", "QuantizeWrapper", "QuantizeWrapperV2"})
ACTIVATIONS = frozenset({"NoOpActivation", "QuantizeAwareActivation"})
QUANTIZERS = frozenset({
    "AllValuesQuantizer", "FixedQuantizer", "LastValueQuantizer", "MovingAverageQuantizer",
    "NoQuantizer",
})
CONFIGS = frozenset({
    "Default8BitActivationQuantizeConfig", "Default8BitConvQuantizeConfig",
    "Default8BitConvTransposeQuantizeConfig", "Default8BitOutputQuantizeConfig",
    "Default8BitQuantizeConfig", "DefaultNBitActivationQuantizeConfig",
    "DefaultNBitConvQuantizeConfig", "DefaultNBitConvTransposeQuantizeConfig",
    "DefaultNBitOutputQuantizeConfig", "DefaultNBitQuantizeConfig", "FixedQuantizeConfig",
    "NoOpQuantizeConfig", "OutputOnlyConfig",
})
# fmt: on
CLASSES = LAYERS | ACTIVATIONS | QUANTIZERS | CONFIGS

REFUSED = {
    "PruneLowMagnitude": "a layer that TF-MOT prunes: save what "
    "tensorflow_model_optimization.sparsity.keras.strip_pruning(model) gives",
    "ClusterWeights": "a layer that TF-MOT clusters: save what "
    "tensorflow_model_optimization.clustering.keras.strip_clustering(model) gives",
    "QuantizeAnnotate": "a layer that is annotated and not quantized yet: save what "
    "tensorflow_model_optimization.quantization.keras.quantize_apply(model) gives",
}
"""Wrappers of layers that are still to be trained, with what to do first."""
