"""A Keras model, read: its topology, its steps, its files."""
