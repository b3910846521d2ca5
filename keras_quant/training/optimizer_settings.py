"""How weights are moved while training: names and numbers, without TensorFlow."""

from __future__ import annotations

import math
from dataclasses import dataclass

from keras_quant.errors import close_names

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("cosine", "step", "constant", "triangle")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSettings:
    """How weights are moved.

    Attributes:
        name: one of OPTIMIZERS; sgd is with Nesterov momentum of 0.9.
        learning_rate: the highest one of the schedule.
        weight_decay: decoupled (Loshchilov & Hutter 2019, eq. 12): each update also takes
            learning_rate * weight_decay of a kernel away. Batch norm and biases are spared.
        schedule: one of SCHEDULES.
        warmup_epochs: rises linearly to learning_rate first.
    """

    name: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup_epochs: float = 0.0

    def problems(self) -> list[str]:
        """What is not known or out of range, one text each."""
        found = [
            f"{option} {value!r} is not known{close_names(value, known)}; known: {', '.join(known)}"
            for option, value, known in (
                ("--optimizer", self.name, OPTIMIZERS),
                ("--schedule", self.schedule, SCHEDULES),
            )
            if value not in known
        ]
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            found.append(f"--learning-rate is {self.learning_rate}; more than 0 is allowed")
        for option, number in (
            ("--weight-decay", self.weight_decay),
            ("--warmup", self.warmup_epochs),
        ):
            if not (math.isfinite(number) and number >= 0):
                found.append(f"{option} is {number}; 0 or more is allowed")
        return found
