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

_API = "tensorflow_model_optimization"
REFUSED = {
    "PruneLowMagnitude": "which TF-MOT prunes with, is to be taken off first: save what "
    f"{_API}.sparsity.keras.strip_pruning(model) gives",
    "ClusterWeights": "which TF-MOT clusters with, is to be taken off first: save what "
    f"{_API}.clustering.keras.strip_clustering(model) gives",
    "QuantizeAnnotate": "which only marks what TF-MOT is to quantize: save what "
    f"{_API}.quantization.keras.quantize_apply(model) gives",
}
"""Wrappers of layers that are no last word, with what to do first."""

_CQAT = (
    "If TF-MOT kept its clusters in training (CQAT, PCQAT), these are to be taken off first: save "
    f"what {_API}.python.core.quantization.keras.collab_opts.cluster_preserve.cluster_utils."
    "strip_clustering_cqat(model) gives"
)
UNFIT = {"QuantizeWrapper": _CQAT, "QuantizeWrapperV2": _CQAT}
"""Files of such models name no other classes than those of other quantized ones."""
