#!/usr/bin/env bash
# tensorflow-model-optimization 0.8.1 with TensorFlow 2.21.0 and tf_keras 2.21.0: cluster_weights
#
# One would expect: the model that is given stays as it is, since a new one is returned; at most
# the two share their weights, as with prune_low_magnitude.
#
# What it does: the kernels are taken out of the given model's own layers. Its get_weights() has
# the biases only, and so has the .h5 file that is saved from it afterwards, without an error.
# quantize_model and prune_low_magnitude leave the number of arrays alone.
#
# Output seen:
#   the model that was given to quantize_model: (arrays, arrays in its .h5) were
#     (4, 4), are (4, 4)
#   the model that was given to prune_low_magnitude: (arrays, arrays in its .h5) were
#     (4, 4), are (4, 4)
#   the model that was given to cluster_weights: (arrays, arrays in its .h5) were
#     (4, 4), are (2, 2)
#
# Why it hurts: whoever keeps the trained float model to compare with, or to try the next number of
# clusters, has none left. cluster_weights wants a copy of it (clone_model and set_weights).
#
# Source: none found.
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

import h5py
import tensorflow_model_optimization as tfmot
import tf_keras
from tf_keras import layers

warnings.simplefilter("ignore")
clustering = tfmot.clustering.keras
WRAPPERS = {
    "quantize_model": tfmot.quantization.keras.quantize_model,
    "prune_low_magnitude": lambda model: tfmot.sparsity.keras.prune_low_magnitude(
        model, tfmot.sparsity.keras.ConstantSparsity(0.5, 0)
    ),
    "cluster_weights": lambda model: clustering.cluster_weights(
        model,
        number_of_clusters=4,
        cluster_centroids_init=clustering.CentroidInitialization.LINEAR,
    ),
}


def saved(model):
    """How many arrays of weights an .h5 file of the model has."""
    names = []
    model.save("model.h5")
    with h5py.File("model.h5") as file:
        file["model_weights"].visititems(
            lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
        )
    return len(names)


found = {}
for name, wrap in WRAPPERS.items():
    model = tf_keras.Sequential([layers.Dense(8, input_shape=(16,)), layers.Dense(4)])
    before = len(model.get_weights()), saved(model)
    wrap(model)
    found[name] = len(model.get_weights()), saved(model)
    print(f"the model that was given to {name}: (arrays, arrays in its .h5) "
          f"were {before}, are {found[name]}")
same = found == {"quantize_model": (4, 4), "prune_low_magnitude": (4, 4), "cluster_weights": (2, 2)}
sys.exit(0 if same else "changed: which of them take arrays out of the model that they are given")
PYTHON
