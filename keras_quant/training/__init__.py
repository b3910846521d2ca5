"""Training: the loop, optimizers, teachers, checkpoints."""
