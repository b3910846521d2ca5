"""How exports of plain kinds are made and shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_quant.cli.output import as_score, as_share, note, print_json, print_table

if TYPE_CHECKING:
    from keras_quant.jobs.plain import PlainExport


def export_and_print(
    path: Path, kind: str, targets: Sequence[str], *, as_json: bool, **options: Any
) -> None:
    """Exports a model in a plain kind, and prints a row a file; see `jobs.plain`."""
    from keras_quant.jobs.plain import export_plain
    from keras_quant.runs.progress import Progress

    done = export_plain(path, kind, targets, **options, progress=Progress())
    if as_json:
        print_json(done)
        return
    metrics = list(dict.fromkeys(m for one in done[0].scores.values() for m in one))
    several = len(done[0].scores) > 1
    print_table(
        (
            *("target", "kB", "images", "from Keras (rms)", "tolerance", "agreement"),
            *(("output",) if several else ()),
            *(f"{metric}{which}" for metric in metrics for which in ("", ", Keras")),
            *("layers", "in float", "kernels"),
        ),
        [
            _row(one, output, metrics, several=several)
            for one in done
            for output in one.scores or ("",)
        ],
        title=f"{done[0].path.parent}: {kind}",
    )
    for one in done:
        for name, why in one.kept.items():
            note(f"{one.format}: {name} stays in float: {why}")


def _row(
    one: PlainExport, output: str, metrics: Sequence[str], *, several: bool
) -> tuple[object, ...]:
    scores, keras_scores = (of.get(output, {}) for of in (one.scores, one.keras_scores))
    return (
        one.format,
        f"{one.size_bytes / 1e3:,.1f}",
        one.images,
        f"{one.rms:.3%}",
        as_share(one.tolerance),
        as_share(one.agreement),
        *((output,) if several else ()),
        *(as_score(m, of.get(m)) for m in metrics for of in (scores, keras_scores)),
        one.changed,
        len(one.kept),
        ", ".join(one.kernels),
    )
