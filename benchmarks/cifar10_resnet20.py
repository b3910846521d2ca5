"""Accuracy on CIFAR-10 of a float resnet20, and of 4-, 3- and 2-bit ones trained from it.

Float: 30 epochs of SGD. Each of the others starts from its weights and trains 10 more at a
lower rate, on its answers beside the labels. 2 % of the training images are held out; test set
of 10,000 images. The peer is the float model, which has not seen those 10 epochs. Finished runs
in --out are reused, and a run that was stopped goes on.

Goals: float reaches 90.0 %; w4a4 loses at most 0.3 points, w3a3 at most 0.8; w2a4 is reported.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from results import argument_parser, publish
from trainings import accuracy, finished_run, loss_against

from keras_quant.jobs.train_settings import TrainSettings
from keras_quant.schemes.bits import scheme_from_bits
from keras_quant.training.optimizer_settings import OptimizerSettings

FLOAT_GOAL = 90.0  # % of the test images
GOALS = {"w4a4": 0.3, "w3a3": 0.8, "w2a4": None}  # points lost against float
WEIGHT_DECAY = 5e-3  # decoupled: each step takes learning rate times this share of a kernel
FLOAT_OPTIMIZER = OptimizerSettings(
    name="sgd", learning_rate=0.1, weight_decay=WEIGHT_DECAY, warmup_epochs=1
)
QUANTIZED_OPTIMIZER = OptimizerSettings(name="sgd", learning_rate=0.02, weight_decay=WEIGHT_DECAY)
DISTILL = 0.9  # share of the float model's answers in the loss


def main() -> None:
    """Trains what is missing, and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("--dataset", default="cifar10", help="name or path")
    parser.add_argument("--model", default="resnet20", help="name of the zoo")
    parser.add_argument("--epochs", type=int, default=30, help="of the float model")
    parser.add_argument("--more-epochs", type=int, default=10, help="of each quantized one")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and split")
    parser.add_argument("--out", type=Path, help="folder of the runs; without it, a temporary one")
    arguments = parser.parse_args()
    same = {
        "model": arguments.model,
        "dataset": arguments.dataset,
        "validation_fraction": 0.02,
        "batch_size": 128,
        "seed": arguments.seed,
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.out or Path(temporary)
        float_settings = TrainSettings(
            scheme=scheme_from_bits("float"),
            epochs=arguments.epochs,
            optimizer=FLOAT_OPTIMIZER,
            **same,
        )
        source = accuracy(finished_run(float_settings, folder / "float"), at_least=FLOAT_GOAL)
        results = [source]
        for bits, goal in GOALS.items():
            settings = TrainSettings(
                scheme=scheme_from_bits(bits),
                epochs=arguments.more_epochs,
                optimizer=QUANTIZED_OPTIMIZER,
                parent=folder / "float",
                distill=DISTILL,
                **same,
            )
            result = accuracy(finished_run(settings, folder / bits))
            results += [result, loss_against(source, result, at_most=goal)]
    title = (
        f"{arguments.dataset}, {arguments.model}, {arguments.epochs} epochs in float, then "
        f"{arguments.more_epochs} more at each width"
    )
    publish(title, results, arguments.json)


if __name__ == "__main__":
    main()
