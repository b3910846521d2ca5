"""The networks whose files are timed, and how long each is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One network, and how long to measure it.

    Attributes:
        model: its name in the zoo, or in `padded_nets`.
        size: height and width of its input.
        images: to calibrate on; time does not depend on what comes out.
        seconds: of timed calls, of each file.
    """

    model: str
    size: int = 32
    classes: int = 10
    images: int = 64
    seconds: float = 3


CASES = (
    Case(model="resnet20"),
    Case(model="resnet56"),
    Case(model="cnn"),
    Case(model="mobilenet_v2", size=96, classes=1000, images=8),
    Case(model="mobilenet_v2", size=224, classes=1000, images=8, seconds=5),
    Case(model="resnet50", size=224, classes=1000, images=8, seconds=10),
    Case(model="torch_resnet56"),
    Case(model="keras_mobilenet_v2", size=224, classes=1000, images=8, seconds=5),
    Case(model="keras_resnet50", size=224, classes=1000, images=8, seconds=10),
)
