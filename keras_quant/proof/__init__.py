"""Proof that a file answers as the graph does, and the formats that it is demanded of."""
