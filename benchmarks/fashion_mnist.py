"""Accuracy on Fashion-MNIST of 4-bit and 2-bit models, trained from scratch as float is.

The cnn, 10 epochs each with the same settings (those of `kq train`) and the same seed; test
set of 10,000 images. The peer is the float model. Finished runs in --out are reused, and a
run that was stopped goes on.

Goals: w4a4 loses at most 0.5 points, w2a4 at most 1.5.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from results import argument_parser, publish
from trainings import accuracy, finished_run, loss_against

from keras_quant.jobs.train_settings import TrainSettings
from keras_quant.schemes.bits import scheme_from_bits

GOALS = {"w4a4": 0.5, "w2a4": 1.5}  # points lost against float


def main() -> None:
    """Trains what is missing, and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("--dataset", default="fashion_mnist", help="name or path")
    parser.add_argument("--model", default="cnn", help="name of the zoo")
    parser.add_argument("--epochs", type=int, default=10, help="of each model")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and split")
    parser.add_argument("--out", type=Path, help="folder of the runs; without it, a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.out or Path(temporary)
        records = {
            bits: finished_run(
                TrainSettings(
                    scheme=scheme_from_bits(bits),
                    model=arguments.model,
                    dataset=arguments.dataset,
                    epochs=arguments.epochs,
                    seed=arguments.seed,
                ),
                folder / bits,
            )
            for bits in ("float", *GOALS)
        }
    results = {bits: accuracy(record) for bits, record in records.items()}
    losses = [
        loss_against(results["float"], results[bits], at_most=goal) for bits, goal in GOALS.items()
    ]
    title = f"{arguments.dataset}, {arguments.model}, {arguments.epochs} epochs"
    publish(title, [*results.values(), *losses], arguments.json)


if __name__ == "__main__":
    main()
