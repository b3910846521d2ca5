"""How thresholds and costs of exits are shown."""

from __future__ import annotations


def shown_threshold(value: float) -> str:
    """A threshold of an exit's sureness."""
    return f"{value:.4f}" if value <= 1 else "never"  # sureness is 1 at most


def shown_cost(value: float, unit: str) -> str:
    """A mean cost in its unit, MACs or ms."""
    return f"{value:,.0f}" if unit == "MACs" else f"{value:.4f}"
