"""Which layers suffer from few bits, and which bits suit each of them best within a budget."""
