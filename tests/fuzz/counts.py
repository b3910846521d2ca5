"""What came of many inputs, in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tests.fuzz.watch import MOST_BYTES, MOST_SECONDS, Outcome

Commands = Mapping[tuple[str, str], int]
"""By kind and command: by how much a worker grew on the undamaged file."""

FAULTS = (
    "traceback",
    "crash",
    "bug message",
    "slow",
    "memory",
    "half-written",
    "exit code",
    "an error",
)


def usual_growth(outcomes: Sequence[Outcome]) -> Commands:
    """How much each command takes on undamaged files."""
    return {(one.input.kind, one.input.command): one.grown_bytes for one in outcomes}


def faults(outcomes: Sequence[Outcome], usual: Commands) -> dict[str, list[str]]:
    """What must not be, by the name of the input."""
    found = {
        str(one.input): one.faults(usual[one.input.kind, one.input.command]) for one in outcomes
    }
    return {name: texts for name, texts in sorted(found.items()) if texts}


def counts(outcomes: Sequence[Outcome], usual: Commands) -> str:
    """The figures, a few lines of text."""
    codes = Counter(one.answer.exit_code if one.answer else None for one in outcomes)
    texts = [text for found in faults(outcomes, usual).values() for text in found]
    seeds = [one.input.seed for one in outcomes if one.input.seed is not None]
    slowest = max(outcomes, key=lambda one: one.seconds)
    above = {str(one.input): _above(one, usual) for one in outcomes}
    largest = max(above, key=lambda name: above[name])
    ended = ", ".join(f"{codes[code]:,} with {code}" for code in sorted(codes, key=str))
    told = ", ".join(f"{sum(t.startswith(kind) for t in texts)} {kind}" for kind in FAULTS)
    return "\n".join(
        (
            f"{len(outcomes):,} damaged inputs of {len({o.input.kind for o in outcomes})} kinds of "
            f"files and {len(usual)} commands, seeds {min(seeds)} to {max(seeds)}",
            f"exit codes: {ended}",
            f"faults: {told}",
            f"slowest: {slowest.seconds:.1f} s ({slowest.input}); {MOST_SECONDS:g} s are allowed",
            f"most memory above the undamaged file's: {above[largest] / 1e6:,.0f} MB ({largest}); "
            f"{MOST_BYTES / 1e6:,.0f} MB are allowed",
        )
    )


def _above(one: Outcome, usual: Commands) -> int:
    return max(0, one.grown_bytes - usual[one.input.kind, one.input.command])
