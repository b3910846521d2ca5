"""Tells runs of `kq quantize` in one table: beside float, their sizes, how exact their files are.

python benchmarks/post_training.py RUN [RUN ...]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from keras_quant.runs import RunFolder, records

COLUMNS = (
    *("model", "bits", "accuracy", "float", "agreement", "rms", "images"),
    *("kB", "of float", "other codes: TFLite", "ONNX", "TensorRT"),
)


def row_of(run: Path) -> tuple[str, ...]:
    """One run's figures, as its records have them."""
    record = records.load(run)
    figures = {(figure.name, figure.notes): figure.value for figure in record.figures}
    parity = json.loads((RunFolder(run).export / "parity.json").read_text(encoding="utf-8"))
    size, whole = figures["size", "integer TFLite file"], figures["size", "float TFLite file"]

    def share(name: str, notes: str) -> str:
        value = figures.get((name, notes))
        return "-" if value is None else f"{value:.2f} %"

    return (
        Path(record.model.name).stem,
        str(record.scheme["name"]),
        share("accuracy", "Keras model"),
        share("accuracy", "float model"),
        share("top-1 agreement", "float and quantized"),
        share("root mean square difference", "float and quantized"),
        f"{record.dataset.sizes['test']:,}",
        f"{size / 1e3:,.0f}",
        f"{size / whole:.2f}",
        *(_other_codes(parity[name]) for name in ("tflite", "onnx", "tensorrt")),
    )


def _other_codes(proof: dict[str, int]) -> str:
    found, compared = proof["codes_different"], proof["codes_compared"]
    return f"{found:,} ({found / compared:.0e})" if found else "0"


def main() -> None:
    """Prints the table."""
    rows = [row_of(Path(run)) for run in sys.argv[1:]]
    if not rows:
        raise SystemExit(__doc__)
    for row in (COLUMNS, ("---",) * len(COLUMNS), *rows):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
