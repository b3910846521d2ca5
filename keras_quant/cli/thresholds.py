"""How thresholds and costs of exits are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_quant.cli.output import as_share, print_table

if TYPE_CHECKING:
    from keras_quant.runs.exits import ChosenThresholds


def shown_threshold(value: float) -> str:
    """A threshold of an exit's sureness."""
    return f"{value:.4f}" if value <= 1 else "never"  # sureness is 1 at most


def shown_cost(value: float, unit: str) -> str:
    """A mean cost in its unit, MACs or ms."""
    return f"{value:,.0f}" if unit == "MACs" else f"{value:.4f}"


def print_outcomes(record: ChosenThresholds, what: str, *, of: str, whole: float) -> None:
    """Prints what thresholds come to.

    Args:
        what: the table's first column.
        of: what was answered: images, say.
        whole: the cost of all stages.
    """
    print_table(
        (what, of, "accuracy", f"mean {record.cost}", "of the whole"),
        [
            (
                one.split,
                one.images,
                as_share(one.accuracy),
                shown_cost(one.mean_cost, record.cost),
                as_share(one.mean_cost / whole),
            )
            for one in (record.validation, record.test)
        ],
    )
