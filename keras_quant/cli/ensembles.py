"""How an ensemble is shown: each member, and all together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_quant.cli.output import as_share, note, print_table

if TYPE_CHECKING:
    from keras_quant.jobs.ensembles import Ensemble


def print_ensemble(done: Ensemble) -> None:
    """Prints what each member and all together are worth, and how much the members differ."""
    members = [
        (one.run, one.scheme, f"{one.size_bytes / 1e3:,.1f}", as_share(one.accuracy))
        for one in done.members
    ]
    together = [
        (f"all, {fusion}", None, f"{done.size_bytes / 1e3:,.1f}", as_share(accuracy))
        for fusion, accuracy in done.accuracies.items()
    ]
    title = f"{done.images:,} test images"
    print_table(("net", "scheme", "kB", "accuracy"), [*members, *together], title=title)
    rows = [
        ("disagreement", f"{done.disagreement:.2%}", "of the images, two members give two classes"),
        *((name, _shown(name, value), _MEANS[name]) for name, value in done.diversity.items()),
        (
            "one is right",
            f"{done.any_right:.2%}",
            "of the images; votes cannot pass it, means and sums can",
        ),
    ]
    print_table(("diversity", "value", "what it says"), rows)
    if done.combination == "sum":
        weights = ", ".join(f"{one.weight:g}" for one in done.members)
        note(
            f"the members are boosted: the answer is the sum of their logits, times {weights}; "
            "each alone answers what those before it left"
        )
    elif done.combination != "mean":
        note(f"the members were trained for the mean of {done.combination}")


_MEANS = {
    "Q statistic": "0: errors are independent; 1: on the same images; below 0: on others",
    "kappa": "1: right on the same images; 0: agree as by chance; below 0: less than that",
    "double fault": "of the images, two members are wrong",
}


def _shown(name: str, value: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:.2%}" if name == "double fault" else f"{value:.3f}"
