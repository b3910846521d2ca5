"""How an ensemble is shown: each member, and all together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_quant.cli.output import as_share, note, print_table

if TYPE_CHECKING:
    from keras_quant.jobs.ensembles import Ensemble


def print_ensemble(done: Ensemble) -> None:
    """Prints what each member and all together are worth."""
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
    note(
        f"two members differ on {done.disagreement:.2%} of the images on average; one or more is "
        f"right on {done.any_right:.2%}"
    )
