#!/usr/bin/env bash
# tensorflow-model-optimization 0.8.1 with TensorFlow 2.21.0 and tf_keras 2.21.0: quantize_model
#
# One would expect: a convolution in front of a ReLU is trained with its kernel rounded to 8 bits,
# however the ReLU is written: as activation="relu", or as a layer of its own, with a batch norm in
# between or without one.
#
# What it does: without a batch norm, in front of a ReLU layer, the kernel is not rounded in
# training. The convolution is wrapped, but by a NoOpQuantizeConfig, so that it has no range for its
# kernel. TFLiteConverter quantizes the kernel all the same: what is deployed is what training never
# saw.
#
# Output seen:
#   ReLU as activation: kernel is rounded
#   batch norm, then a ReLU layer: kernel is rounded
#   a ReLU layer alone: kernel is NOT rounded
#
# Why it hurts: quantization-aware training is done so that the weights get used to their rounding;
# those of such layers do not, and nothing says so. Write the ReLU as activation="relu", or put a
# batch norm in front of it.
#
# Source: LayerReLUQuantize in default_8bit_transforms.py; no document was found that says so.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile \
  numpy==2.4.6 tensorflow==2.21.0 tensorflow-model-optimization==0.8.1 tf_keras==2.21.0

export TF_CPP_MIN_LOG_LEVEL=3 TF_USE_LEGACY_KERAS=1
venv/bin/python - <<'PYTHON'
import sys
import warnings

import tensorflow_model_optimization as tfmot
import tf_keras
from tf_keras import layers

warnings.simplefilter("ignore")
NETS = {
    "ReLU as activation": [layers.Conv2D(4, 3, activation="relu", name="conv")],
    "batch norm, then a ReLU layer": [
        layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(), layers.ReLU(),
    ],
    "a ReLU layer alone": [layers.Conv2D(4, 3, name="conv"), layers.ReLU()],
}

found = {}
for name, inside in NETS.items():
    model = tf_keras.Sequential([layers.Input((8, 8, 1)), *inside, layers.Flatten()])
    quantized = tfmot.quantization.keras.quantize_model(model)
    names = [variable.name for variable in quantized.get_layer("quant_conv").variables]
    found[name] = any("kernel_min" in name for name in names)
    print(f"{name}: kernel is {'rounded' if found[name] else 'NOT rounded'}")
same = list(found.values()) == [True, True, False]
sys.exit(0 if same else "changed: which kernels are rounded in training")
PYTHON
