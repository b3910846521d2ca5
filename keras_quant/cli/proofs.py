"""How the proofs of exported files are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_quant.cli.output import note, print_table

if TYPE_CHECKING:
    from keras_quant.proof.formats import Format
    from keras_quant.proof.gate import Export


def print_proofs(exports: Sequence[Export]) -> None:
    """One row a file."""
    columns = (
        *("target", "kB", "images", "codes compared", "different", "top-1 reference"),
        *("top-1 Keras", "logit difference", "seconds"),
    )
    rows = [
        (
            done.format,
            f"{done.size_bytes / 1e3:,.1f}",
            done.parity.images,
            done.parity.codes_compared,
            done.parity.codes_different,
            f"{done.parity.top1_agreement:.2%}",
            f"{done.parity.keras_top1_agreement or 0:.2%}",
            f"{done.parity.logit_difference:.1e}",
            f"{done.parity.seconds:.2f}",
        )
        for done in exports
    ]
    print_table(columns, rows, title=str(exports[0].path.parent))


def print_runtimes(exports: Sequence[Export]) -> None:
    """What computed each file's answers, in which version."""
    rows = [
        (
            done.format,
            ", ".join(f"{name} {version}" for name, version in done.parity.versions.items()),
            ", ".join(done.parity.kernels),
        )
        for done in exports
    ]
    print_table(("target", "versions", "kernels"), rows)


def note_exceptions(exports: Sequence[Export], formats: Sequence[Format]) -> None:
    """Says what is not as usual: floats for TensorRT, codes that may differ, biases that moved."""
    from keras_quant.targets.tensorrt import plan

    for form in formats:
        if form.name == "tensorrt" and (reason := plan(form.options).reason):
            note(f"tensorrt/ holds a model of floats: {reason}")
            if form.options.dla:
                note("what is compared is the file in float32, without that rounding")
    for export in exports:
        if export.parity.codes_tolerance:
            note(
                f"{export.format} is not exact for this model: up to "
                f"{100 * export.parity.codes_tolerance:g}% of its codes may differ; "
                f"{export.parity.codes_different:,} do"
            )
    moved = exports[0].moved_channels
    if moved:
        note(
            f"biases of {moved:,} channels were moved to what integers can say, by up to "
            f"{exports[0].largest_shift_steps:.1g} of an output step; Keras here is the moved model"
        )
