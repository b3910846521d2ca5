"""The table that ends a training: what was measured, in the units that people compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_quant.schemes.file import scheme_from_dict

if TYPE_CHECKING:
    from keras_quant.jobs.quantize import QuantizeResult
    from keras_quant.jobs.train import TrainResult
    from keras_quant.proof.parity import Parity
    from keras_quant.runs.records import Figure, RunRecord


def summary(result: TrainResult) -> list[tuple[str, str]]:
    """Rows of (figure, value) for a finished run."""
    figures = {(f.name, f.notes): f.value for f in result.record.figures}
    parity = result.export.parity
    float_bytes = figures["size", "float TFLite file"]
    size_bytes = figures["size", "integer TFLite file"]
    parameters = figures["parameters", ""]
    bits = figures["logical size", "kernels at the scheme's widths"]
    file = "integer TFLite file" if parity.codes_compared else "exported TFLite file"
    packed = figures.get(("gzip size", "integer TFLite file"))
    return [
        *_scores(result.record.figures, parity.images),
        _difference(parity),
        *(
            [("", f"up to {100 * parity.codes_tolerance:g}% may: layers are kept in float")]
            if parity.codes_tolerance
            else []
        ),
        ("float TFLite file", f"{float_bytes / 1e3:,.1f} kB"),
        (file, f"{size_bytes / 1e3:,.1f} kB ({size_bytes / float_bytes:.2f}x)"),
        *([("as gzip packs it", f"{packed / 1e3:,.1f} kB")] if packed is not None else []),
        ("weights at logical bits", f"{bits / 8e3:,.1f} kB of {parameters:,.0f} parameters"),
        ("MACs an image", f"{figures['MACs', 'one image']:,.0f}"),
    ]


def quantized_summary(result: QuantizeResult) -> list[tuple[str, str]]:
    """Rows of (figure, value) for a run that was quantized without training."""
    figures = {(f.name, f.notes): f.value for f in result.record.figures}
    float_bytes = figures["size", "float TFLite file"]
    images = result.record.dataset.sizes["test"]
    sizes = [
        (f"{notes}", f"{value / 1e3:,.1f} kB ({value / float_bytes:.2f}x)")
        for (name, notes), value in figures.items()
        if name == "size" and notes.startswith("integer")
    ]
    return [
        *_scores(result.record.figures, images),
        ("float TFLite file", f"{float_bytes / 1e3:,.1f} kB"),
        *sizes,
    ]


def _scores(figures: Sequence[Figure], images: int) -> list[tuple[str, str]]:
    """What was found on the test images: of classes the accuracy stands for all."""
    found = [figure for figure in figures if figure.split == "test"]
    classified = {figure.notes for figure in found if figure.name == "accuracy"}
    rows = []
    for figure in found:
        value = f"{figure.value:.2f}%" if figure.unit == "%" else f"{figure.value:.4g}"
        value += f" {figure.unit}" if figure.unit in ("dB", "nats") else ""
        if figure.name == "root mean square difference":
            rows.append((f"root mean square, {figure.notes}", f"{value} of the answers apart"))
        elif figure.name == "top-1 agreement":
            rows.append((f"agreement, {figure.notes}", f"{value} of {images:,} test images"))
        elif figure.name == "accuracy" or figure.notes not in classified:
            rows.append((f"{figure.name}, {figure.notes}", value))
    return rows


def _difference(parity: Parity) -> tuple[str, str]:
    """How far the file is from the reference; a float model has no codes."""
    runtime = f"({', '.join(parity.kernels)} against the reference)"
    if parity.codes_compared:
        count = f"{parity.codes_different:,} of {parity.codes_compared:,}"
        return "codes that differ", f"{count} {runtime}"
    return "logits that differ by", f"up to {parity.difference:.1e} {runtime}"


def policy(record: RunRecord) -> list[str]:
    """What the scheme says, line by line, and what stays in float."""
    scheme = scheme_from_dict(record.scheme, where="run.json")
    rules = [
        f"{rule.match}: "
        + ", ".join(
            f"{kind} {spec}"
            for kind, spec in (
                ("weights", rule.weight),
                ("activations", rule.activation),
                ("inputs", rule.input),
            )
            if spec is not None
        )
        for rule in scheme.rules
    ]
    lines = [f"scheme {scheme.name}: {'; '.join(rules)}"]
    if record.float_layers:
        lines.append(f"in float: {', '.join(record.float_layers)}")
    return lines
