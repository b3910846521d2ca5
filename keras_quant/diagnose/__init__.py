"""A quantized file layer by layer: what computes each, how far it is from float, and why."""
