"""What a graph costs: operations, bytes, energy; counted, not measured."""
