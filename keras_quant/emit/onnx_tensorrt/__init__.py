"""Writes ONNX files for TensorRT."""
