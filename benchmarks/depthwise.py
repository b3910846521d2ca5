"""Accuracy of a depthwise net at w4a4 with and without --freeze-oscillations, from one float run.

mobilenet_v2 of width 0.5; on CIFAR-10's small images its stem has stride 1. From the float run's
weights lsq goes on at w4a4 twice, first and last layer with 8-bit weights: as it is, and with
weights held whose codes turn back too often (Nagel et al. 2022). Both ask for statistics of batch
norms to be measured again at the end, as their source does. Printed is the accuracy of the TFLite
file on the whole test set.

The full scale is 30 epochs and 12 for each of the others; the short one 12 and 4; the small one, on
1,797 digits, shows that all of it works. A run in --out is read where it is finished, and goes on
from its last epoch where it was stopped.

Goal: at most 1.5 points less than the float model, which has not seen the further epochs.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from results import argument_parser, publish
from trainings import FULL, SHORT, SMALL, accuracy, finished_run, loss_against

from keras_quant.jobs.train_settings import PRECISIONS, TrainSettings
from keras_quant.schemes.bits import scheme_from_bits

MODEL, OPTIONS = "mobilenet_v2", {"alpha": 0.5}
BITS = "w4a4"
GOAL = 1.5  # points lost against float, of both
FROZEN = {"w4a4": False, "w4a4, oscillations frozen": True}
SCALES = {"full": FULL, "short": SHORT, "small": SMALL}


def main() -> None:
    """Trains what is missing, and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("--scale", choices=SCALES, default="small", help="of the experiment")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and split")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of training")
    parser.add_argument("--out", type=Path, help="folder of the runs; without it, a temporary one")
    arguments = parser.parse_args()
    scale = SCALES[arguments.scale]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.out or Path(temporary)
        source = TrainSettings(
            scheme=scheme_from_bits("float"),
            model=MODEL,
            model_options=OPTIONS,
            dataset=scale.dataset,
            validation_fraction=scale.validation_fraction,
            batch_size=scale.batch_size,
            epochs=scale.epochs,
            optimizer=scale.optimizer,
            seed=arguments.seed,
            precision=arguments.precision,
        )
        reference = accuracy(finished_run(source, folder / "float"))
        results = [reference]
        for name, freeze in FROZEN.items():
            settings = dataclasses.replace(
                source,
                scheme=scheme_from_bits(BITS),
                method="lsq",
                epochs=scale.more_epochs,
                optimizer=scale.further,
                parent=folder / "float",
                freeze_oscillations=freeze,
                reestimate_norms=True,
            )
            run = finished_run(settings, folder / (f"{BITS}-frozen" if freeze else BITS))
            result = dataclasses.replace(accuracy(run), figure=f"accuracy, {name}")
            goal = GOAL if scale.has_goals else None
            results += [result, loss_against(reference, result, at_most=goal)]
    publish(
        f"{scale.dataset}, {MODEL} of width {OPTIONS['alpha']}: {scale.epochs} epochs in float, "
        f"then {scale.more_epochs} more by lsq",
        results,
        arguments.json,
    )


if __name__ == "__main__":
    main()
