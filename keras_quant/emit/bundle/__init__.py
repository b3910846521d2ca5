"""What goes to a board beside a TensorRT file."""
