#!/usr/bin/env bash
# Keras 3.15.1 (with TensorFlow 2.21.0): get_weights() of a layer behind model.quantize("int8")
#
# One would expect: kernel, bias and then the scales, which are new; the kernel in int8.
#
# What it does: the bias comes first, then the kernel. A layer that had [kernel, bias] has
# [bias, kernel, kernel_scale]; behind "int4" also kernel_zero and g_idx, and the kernel, of half
# its length, holds two codes a byte.
#
# Output seen:
#   before: kernel float32 (8, 4), bias float32 (4,)
#   int8: bias float32 (4,), kernel int8 (8, 4), kernel_scale float32 (4,)
#   int4: bias float32 (4,), kernel int8 (8, 2), kernel_scale float32 (1, 4), kernel_zero int8 (1, 4), g_idx float32 (8,)
#
# Why it hurts: code that takes weights by their place, as most exporters of Keras models do, takes
# the bias for the kernel; where a layer has as many inputs as outputs of its bias' length, without
# an error. Take them by name.
#
# Source: none found.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile keras==3.15.1 numpy==2.4.6 tensorflow==2.21.0

export TF_CPP_MIN_LOG_LEVEL=3
venv/bin/python -W ignore - <<'PYTHON'
import sys

import keras


def weights(model):
    return [(w.name, str(v.dtype), v.shape) for w, v in zip(model.weights, model.get_weights())]


def show(title, found):
    print(f"{title}: " + ", ".join(f"{name} {dtype} {shape}" for name, dtype, shape in found))


def dense():
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])


show("before", weights(dense()))
orders = []
for mode in ("int8", "int4"):
    model = dense()
    model.quantize(mode)
    show(mode, weights(model))
    orders.append([name for name, _, _ in weights(model)][:3])
same = orders == 2 * [["bias", "kernel", "kernel_scale"]]
sys.exit(0 if same else "changed: the kernel is the first again")
PYTHON
