"""Writes ONNX models node by node."""
