"""Writes graphs as files of other runtimes. Emitters do not import each other."""

from __future__ import annotations

EMITTERS = {"tflite": "keras_quant.emit.tflite:emit_tflite"}
"""Target name to "module:function" of what gives the file's bytes for a realized graph."""
