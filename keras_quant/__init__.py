"""Quantization workbench for TensorFlow/Keras: train, lower to exact integers, export, prove."""

from __future__ import annotations

__version__ = "0.1.0"
