"""What is changed in a quantized model so that it loses less, without training."""
