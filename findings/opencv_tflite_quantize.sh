#!/usr/bin/env bash
# OpenCV 5.0.0.93 with int8 TFLite files of TensorFlow 2.21.0 (Keras 3.15.1, LiteRT 2.3.0)
#
# One would expect: cv2.dnn reads int8 TFLite files with float inputs, the converter's default, and
# answers as LiteRT does up to some steps.
#
# What it does: a QUANTIZE operator is computed with scale 1 and zero point -128, whatever the file
# says. That is right for images from 0 to 255. Of images from 0 to 1 two codes are left, and they
# are taken for the scale and the zero point that the file says: the answer has nothing to do with
# the image. Nothing is said.
#
# Output seen (largest error, of the largest answer):
#   images from 0 to 255: LiteRT 0.007, OpenCV 0.007
#   images from 0 to 1: LiteRT 0.006, OpenCV 0.994
#   images from -1 to 1: LiteRT 0.009, OpenCV 1.933
#
# Why it hurts: nearly all Keras models take scaled images. Float and dynamic-range files of the
# same model are right.
#
# Source: none found; parseQuantize in OpenCV's modules/dnn/src/tflite/tflite_importer.cpp. Version
# 4.14.0.94 was seen to do the same.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile \
  ai-edge-litert==2.3.0 keras==3.15.1 numpy==2.4.6 opencv-python-headless==5.0.0.93 \
  tensorflow==2.21.0

export TF_CPP_MIN_LOG_LEVEL=3 OPENCV_LOG_LEVEL=ERROR
venv/bin/python - <<'PYTHON'
import sys
from pathlib import Path

import cv2
import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

keras.config.disable_interactive_logging()
keras.utils.set_random_seed(0)
RANGES = [(0, 255), (0, 1), (-1, 1)]
pixels = np.random.default_rng(0).uniform(0, 1, (16, 12, 12, 3)).astype(np.float32)

errors = {}
for low, high in RANGES:
    images = low + (high - low) * pixels
    images[:, 0, 0], images[:, 0, 1] = low, high
    model = keras.Sequential([keras.Input(batch_shape=(1, 12, 12, 3)), keras.layers.Conv2D(4, 3)])
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    Path("int8.tflite").write_bytes(converter.convert())
    exact = np.array(model(images[:1]))
    run = Interpreter("int8.tflite").get_signature_runner()
    (name,) = run.get_input_details()
    (litert,) = run(**{name: images[:1]}).values()
    net = cv2.dnn.readNetFromTFLite("int8.tflite")
    net.setInput(images[:1].transpose(0, 3, 1, 2).copy())
    opencv = net.forward().transpose(0, 2, 3, 1)
    of_each = [np.abs(answer - exact).max() / np.abs(exact).max() for answer in (litert, opencv)]
    in_each = f"LiteRT {of_each[0]:.3f}, OpenCV {of_each[1]:.3f}"
    print(f"images from {low} to {high}: {in_each}")
    errors[low, high] = of_each
wrong = errors[0, 1][1], errors[-1, 1][1]
right = [*errors[0, 255], errors[0, 1][0], errors[-1, 1][0]]
same = max(right) < 0.1 and min(wrong) > 0.3
sys.exit(0 if same else "changed: OpenCV quantizes as the file says")
PYTHON
