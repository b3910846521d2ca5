"""kq sensitivity: which layers suffer from few bits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_quant.cli.output import as_score, json_option, print_json, print_table

if TYPE_CHECKING:
    from keras_quant.search.record import Outcome, Sensitivity


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--bits", default="2,3,4,8", show_default=True, help="Widths of kernels.")
@click.option(
    "--images",
    default=1000,
    show_default=True,
    help="Validation images that answers are judged on, at most; 0 is all.",
)
@click.option(
    "--probes",
    default=32,
    show_default=True,
    help="Random vectors that traces of the Hessian are estimated with; 0 leaves them out.",
)
@click.option("--resume", is_flag=True, help="Go on with what was begun, or show what is there.")
@click.option("--overwrite", is_flag=True, help="Measure all of it again.")
@json_option
def sensitivity(
    run: Path, bits: str, images: int, probes: int, resume: bool, overwrite: bool, as_json: bool
) -> None:
    """Measure what each layer's kernel alone, at few bits, does to a float run's answers.

    Each kernel is rounded as kq quantize rounds it, while all others and the activations stay in
    float; validation images say what that costs. Beside it stand numbers that are cheaper to have,
    and how well they rank the layers: the error of the layer's output, the entropy of its codes
    (EAGL), the trace of the Hessian (HAWQ-V2). RUN/sensitivity.json keeps all of it: kq search
    chooses bits by it, kq plot sensitivity draws it.

    \b
    Examples:
      kq sensitivity models/base
      kq sensitivity models/base --bits 2,4,8 --images 0 --overwrite
    """
    from keras_quant.jobs.sensitivity import SensitivitySettings, measure_sensitivity
    from keras_quant.runs.progress import Progress
    from keras_quant.search.harms import correlations

    settings = SensitivitySettings(bits=parse_widths(bits), images=images, probes=probes)
    record = measure_sensitivity(
        run, settings, resume=resume, overwrite=overwrite, progress=Progress()
    )
    ranks = correlations(record)
    if as_json:
        print_json({"record": record, "correlations": ranks})
        return
    print_table(columns(record), rows(record), title=str(run))
    widths = [f"at {width}" for width in record.settings.bits]
    print_table(
        ("rank correlation with what was measured", "overall", *widths),
        [(one.harm, *map(_rank, (one.overall, *one.by_bits.values()))) for one in ranks],
    )


def parse_widths(text: str) -> tuple[int, ...]:
    """Reads "2,3,4". Raises: UsageError: it is none of whole numbers."""
    from keras_quant.errors import UsageError

    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise UsageError(f"--bits {text!r}: write widths as in 2,3,4,8")
    return tuple(sorted(map(int, words)))


def columns(record: Sensitivity) -> tuple[str, ...]:
    """Headings of a table with a line a layer: what was measured by width, then what is cheap."""
    widths, narrowest = record.settings.bits, min(record.settings.bits)
    judged = record.metric or "distance"
    return (
        "layer",
        *(f"{judged} {bits}" for bits in widths),
        *((f"loss gained {bits}" for bits in widths) if record.metric else ()),
        *(f"output error {narrowest}", f"entropy {narrowest}", "mean Hessian trace"),
    )


def rows(record: Sensitivity) -> list[tuple[object, ...]]:
    """A line for the float model, and one for each layer."""
    return [_cells(record, "(float)"), *(_cells(record, layer) for layer in record.layers)]


def _cells(record: Sensitivity, layer: str) -> tuple[object, ...]:
    entries = [record.entry(layer, bits) for bits in record.settings.bits]
    outcomes = [
        e.outcome if e else record.baseline if layer == "(float)" else None for e in entries
    ]
    narrowest = record.entry(layer, min(record.settings.bits))
    error = narrowest.output_error if narrowest else None
    trace = (record.traces or {}).get(layer)
    return (
        layer,
        *(_judged(record, outcome) for outcome in outcomes),
        *((_gained(record, outcome) for outcome in outcomes) if record.metric else ()),
        None if error is None else f"{error:.2%}",
        None if narrowest is None else f"{narrowest.entropy:.2f}",
        None if trace is None else f"{trace.value / trace.parameters:.3g}",
    )


def _judged(record: Sensitivity, outcome: Outcome | None) -> str | None:
    if outcome is None:
        return None
    return as_score(record.metric, outcome.score) if record.metric else f"{outcome.distance:.2%}"


def _gained(record: Sensitivity, outcome: Outcome | None) -> str | None:
    if outcome is None or outcome.loss is None or record.baseline.loss is None:
        return None
    return f"{outcome.loss - record.baseline.loss:+.4f}"


def _rank(value: float | None) -> str | None:
    return None if value is None else f"{value:+.2f}"
