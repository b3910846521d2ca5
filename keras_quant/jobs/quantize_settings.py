"""What `kq quantize` can be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_quant.calibration.choose import DEFAULT_CALIBRATOR
from keras_quant.calibration.collect import CALIBRATION_IMAGES
from keras_quant.errors import close_names
from keras_quant.jobs.remedies import Remedies
from keras_quant.methods import DEFAULT_METHOD
from keras_quant.model.applications import APPLICATIONS
from keras_quant.prepare.adjust.learn import Learning
from keras_quant.schemes.scheme import Scheme, is_float
from keras_quant.zoo import MODELS

DEFAULTS = Remedies()
DATA = ("train", "none")
RANDOM = "none"  # what --weights says for weights that are random


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeSettings:
    """What `kq quantize` is asked for.

    Attributes:
        source: a run's folder, a Keras file, a name of the zoo or "FILE.py:FUNCTION".
        scheme: which layer gets how many bits.
        model_options: options of the zoo's model.
        parent: run folder whose weights a model that is built gets.
        weights: file of weights alone that such a model gets, or "none" for random ones.
        dataset: a name, a .npz or .npy file or an image folder, with labels or without; None means
            that of the run.
        preprocess: what pixels become, see `preprocessing.parse_preprocessing`; None means what
            the run says, or the model's first layers.
        method: a name of METHODS.
        calibrator: a name of CALIBRATORS.
        images: how many training images activations are calibrated on, at most.
        statistics: file of statistics that were collected earlier; None collects them.
        trust: load a Keras file that holds code.
        equalize, rounding, bias: see `jobs.remedies`; a bias of None means its `default_bias`.
        rounding_steps: for each layer or block whose rounding is learned; None means the default.
        qdrop: see `drop` of `prepare.adjust.learn.Learning`.
        seed: of what learned rounding draws.
        max_drop: points that may be lost against the float model, see `jobs.limited_drop`; None
            means any number.
        data: of DATA: activations are calibrated on training images, or by what batch norms say.
        absorb: take high biases out of activations before, see `prepare.adjust.absorb`.
        reestimate_norms: measure statistics of batch norms again at the end.
    """

    source: str
    scheme: Scheme
    model_options: Mapping[str, Any] = field(default_factory=dict)
    parent: Path | None = None
    weights: str | None = None
    dataset: str | None = None
    preprocess: str | None = None
    method: str = DEFAULT_METHOD
    calibrator: str = DEFAULT_CALIBRATOR
    images: int = CALIBRATION_IMAGES
    statistics: Path | None = None
    trust: bool = False
    equalize: str = DEFAULTS.equalize
    rounding: str = DEFAULTS.rounding
    bias: str | None = None
    rounding_steps: int | None = None
    qdrop: float = DEFAULTS.learning.drop
    seed: int = DEFAULTS.learning.seed
    max_drop: float | None = None
    data: str = DATA[0]
    absorb: bool = False
    reestimate_norms: bool = False

    @property
    def remedies(self) -> Remedies:
        """What is done against the errors of rounding."""
        given = self.rounding_steps
        return Remedies(
            equalize=self.equalize,
            rounding=self.rounding,
            bias=self.bias or DEFAULTS.bias,
            learning=Learning(
                steps=DEFAULTS.learning.steps if given is None else given,
                drop=self.qdrop,
                seed=self.seed,
            ),
        )

    def _looking(self) -> list[tuple[str, bool]]:
        """Options that look at training images, and whether they are given."""
        return [
            (f"--rounding {self.rounding}", self.rounding != DEFAULTS.rounding),
            ("--bias empirical", self.bias == "empirical"),
            ("--equalize activations", self.equalize == "activations"),
            ("--max-drop", self.max_drop is not None),
            ("--reestimate-norms", self.reestimate_norms),
            ("--statistics", self.statistics is not None),
        ]

    @property
    def is_built(self) -> bool:
        """Whether the source is made by name, and gets its weights from a run."""
        return self.source in MODELS or self.source in APPLICATIONS or ":" in self.source

    @property
    def weights_file(self) -> Path | None:
        """The file of weights; None where there is none."""
        return None if self.weights in (None, RANDOM) else Path(str(self.weights))

    @property
    def giver(self) -> Path:
        """The run or file that the weights come from."""
        given = self.parent or self.weights_file
        return given if self.is_built and given is not None else Path(self.source)

    def problems(self) -> list[str]:
        """What does not go together, one text each."""
        found = self.remedies.problems()
        if is_float(self.scheme):
            found.append("the scheme leaves everything in float; kq export writes float models")
        if self.images < 1:
            found.append(f"--images is {self.images}; 1 or more is allowed")
        if self.data not in DATA:
            found.append(
                f"--data is {self.data!r}{close_names(self.data, DATA)}; train and none are known"
            )
        if self.data == "none":
            found += [
                f"{option} looks at images, and --data none has none"
                for option, is_given in self._looking()
                if is_given
            ]
        if self.max_drop is not None and not 0 <= self.max_drop < 100:
            found.append(f"--max-drop is {self.max_drop:g} points; 0 up to 100 are allowed")
        found += self._problems_of_weights()
        if self.model_options and self.source not in (*MODELS, *APPLICATIONS):
            found.append(
                f"--option is for models of the zoo and of keras.applications; {self.source} takes "
                "none"
            )
        return found

    def _problems_of_weights(self) -> list[str]:
        found = []
        if self.is_built and self.parent is None and self.weights is None:
            found.append(
                f"{self.source} is built without weights: give a run that has them, --from RUN, or "
                f"a file, --weights FILE; --weights {RANDOM} leaves them random"
            )
        if self.parent is not None and self.weights is not None:
            found.append("--from and --weights both give weights; leave one out")
        if self.source in APPLICATIONS and self.parent is not None:
            found.append(f"--from is for models of the zoo; {self.source} takes --weights FILE")
        if not self.is_built:
            names = close_names(self.source, (*MODELS, *APPLICATIONS))
            what = "has weights" if Path(self.source).exists() else f"is none{names}"
            found += [
                f"{option} is for models that are built by name; {self.source} {what}"
                for option, given in (("--from", self.parent), ("--weights", self.weights))
                if given is not None
            ]
        return found
