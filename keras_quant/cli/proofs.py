"""How the proofs of exported files are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_quant.cli.output import as_share, note, print_table

if TYPE_CHECKING:
    from keras_quant.jobs.export import Exported
    from keras_quant.proof.formats import Format
    from keras_quant.proof.write import Export


def print_proofs(exports: Sequence[Export]) -> None:
    """One row a file: how far it is from the reference."""
    columns = (
        *("target", "kB", "images", "codes compared", "different", "top-1 reference"),
        *("difference", "seconds"),
    )
    rows = [
        (
            done.format,
            f"{done.size_bytes / 1e3:,.1f}",
            done.parity.images,
            done.parity.codes_compared,
            done.parity.codes_different,
            as_share(done.parity.top1_agreement),
            f"{done.parity.difference:.1e}",
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


def note_exceptions(exported: Exported, formats: Sequence[Format]) -> None:
    """Says what is not as usual: floats for TensorRT, codes that may differ, biases that moved."""
    from keras_quant.targets.tensorrt import plan

    for form in formats:
        if form.name == "tensorrt" and (reason := plan(form.options).reason):
            note(f"tensorrt/ holds a model of floats: {reason}")
            if plan(form.options).typed_half:
                note(
                    "what is compared is model.onnx, in float32; model.fp16.onnx, of which the "
                    "board builds, is the same with its tensors in fp16"
                )
            elif form.options.dla:
                note("what is compared is the file in float32, without that rounding")
    for export in exported.files:
        if export.parity.codes_tolerance:
            note(
                f"{export.format} is not exact for this model: up to "
                f"{100 * export.parity.codes_tolerance:g}% of its codes may differ; "
                f"{export.parity.codes_different:,} do"
            )
    keras = exported.keras
    if keras.moved_channels:
        note(
            f"biases of {keras.moved_channels:,} channels were moved to what integers can say, "
            f"by up to {keras.largest_shift_steps:.1g} of an output step; Keras here is the moved "
            "model"
        )
