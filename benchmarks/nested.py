"""Several widths of one set of weights, beside a net of its own for each.

python benchmarks/nested.py                                # small: resnet8, 1,797 digits
python benchmarks/nested.py --scale full --out runs/nested    # ResNet-20, CIFAR-10
python benchmarks/nested.py --scale short --out runs          # as methods.py's, from its float run

A float run first. From its weights `kq train --nested 8,4,2` trains all widths at once, and a run
by LSQ for each width, with as many epochs and the same optimizer, trains that alone: so that one
training stands beside three. What is printed is the accuracy of the TFLite file on the whole test
set, and the bytes: of the graphs of all widths in one file, and of the dedicated runs' graphs.

Goal, at full scale: each width within 1 point of its dedicated net.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from results import Result, argument_parser, publish
from trainings import FULL, SHORT, SMALL, Scale, file_accuracy, finished_run

from keras_quant.jobs.nested import FILE_NAME, train_nested, width_path, widths_of_bits
from keras_quant.jobs.train_settings import PRECISIONS, TrainSettings
from keras_quant.runs import RunFolder, records
from keras_quant.runs.progress import Progress
from keras_quant.schemes.bits import scheme_from_bits

WIDTHS = ("8", "4", "2")
WITHIN = 1.0  # points, the goal
_DECAY = 5e-4


SCALES = {
    "full": replace(
        FULL,
        epochs=60,
        more_epochs=60,
        optimizer=replace(FULL.optimizer, weight_decay=_DECAY),
        further=replace(FULL.further, weight_decay=_DECAY),
    ),
    "short": SHORT,
    "small": replace(SMALL, more_epochs=12, further=SMALL.optimizer, batch_size=128),
}


def main() -> None:
    """Trains what is missing, and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("--scale", choices=SCALES, default="small", help="see SCALES")
    parser.add_argument(
        "--self-distill", type=float, default=0.5, help="share of the widest's answers"
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of training")
    parser.add_argument("--out", type=Path, help="folder of the runs; without it, a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        scale = SCALES[given.scale]
        results = _results(scale, given, given.out or Path(temporary))
    title = (
        f"{scale.dataset}, {scale.model}, {scale.epochs} epochs in float, then "
        f"{scale.more_epochs} of all widths at once, or of each, trained in {given.precision}"
    )
    publish(title, results, given.json)


def _results(scale: Scale, given: Any, folder: Path) -> list[Result]:
    schemes = [scheme_from_bits(bits) for bits in WIDTHS]
    settings = TrainSettings(
        scheme=scheme_from_bits("float"),
        model=scale.model,
        dataset=scale.dataset,
        epochs=scale.epochs,
        optimizer=scale.optimizer,
        validation_fraction=scale.validation_fraction,
        batch_size=scale.batch_size,
        precision=given.precision,
    )
    floats = finished_run(settings, folder / "float")
    further = replace(
        settings, parent=folder / "float", epochs=scale.more_epochs, optimizer=scale.further
    )
    nested = replace(further, method="nested", self_distill=given.self_distill)
    joint = folder / "nested"
    resume = joint.exists()
    train_nested(nested, widths_of_bits(schemes), joint, resume=resume, progress=Progress())
    results = [Result(figure="accuracy, float", value=file_accuracy(floats), unit="%")]
    alone_bytes = 0
    for scheme in schemes:
        path = folder / f"alone-{scheme.name}"
        alone = file_accuracy(finished_run(replace(further, method="lsq", scheme=scheme), path))
        alone_bytes += RunFolder(path).graph.stat().st_size
        shared = file_accuracy(records.load(width_path(joint, scheme.name)))
        results.append(
            Result(
                figure=f"accuracy, {scheme.name} of the nested net",
                value=shared,
                unit="%",
                at_least=alone - WITHIN if scale.has_goals else None,
                peer=f"alone {alone:.2f} %, by lsq",
            )
        )
    size = (joint / FILE_NAME).stat().st_size
    peer = f"dedicated graphs, a file each: {alone_bytes / 1e3:.1f} kB"
    return [
        *results,
        Result(figure="all widths in one file", value=size / 1e3, unit="kB", peer=peer),
    ]


if __name__ == "__main__":
    main()
