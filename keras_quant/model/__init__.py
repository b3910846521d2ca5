"""A Keras model, read: its topology, its operations, its files."""
