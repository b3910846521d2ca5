"""Writes ONNX files for ONNX Runtime on x86."""
