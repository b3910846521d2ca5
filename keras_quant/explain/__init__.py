"""What quantization changed in a model: its values, which classes it confuses, where it looks."""
