"""AutoQKeras in place of the integer program: it trains mixes that it draws at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_quant.data import Dataset, Split
from keras_quant.errors import BudgetError, KerasQuantError, ModelError, UsageError
from keras_quant.jobs.float_run import load_float_run
from keras_quant.methods.qkeras.auto import KINDS, Arrays, Trial, try_mixes
from keras_quant.model.tasks import CLASSIFICATION, task_of
from keras_quant.runs.progress import Progress
from keras_quant.search.costs import Costs
from keras_quant.tf import keras


def best_mix(
    path: Path,
    costs: Costs,
    most: Mapping[str, float],
    *,
    trials: int,
    epochs: int,
    progress: Progress,
) -> Trial:
    """The most accurate of AutoQKeras' trials that is within all budgets.

    AutoQKeras knows no budget: it is asked of each trial afterwards.

    Args:
        path: a float run.
        costs: of the run's model, with the widths that kernels may have.
        most: by quantity what is allowed.
        trials, epochs: how many mixes are trained, and how long each.
    Raises:
        UsageError: the model is none that AutoQKeras takes.
        BudgetError: no trial is within the budgets.
        ModelError: AutoQKeras fails.
        MissingDependencyError: what it needs is not installed.
    """
    source, dataset = load_float_run(path, progress)
    _check(path, source, dataset, costs.layers)
    progress.say(
        f"AutoQKeras trains {trials} mixes for {epochs} epochs each, on "
        f"{len(dataset.train):,} images"
    )
    try:
        found = try_mixes(
            source,
            _arrays(dataset, dataset.train),
            _arrays(dataset, dataset.validation),
            widths=costs.widths,
            trials=trials,
            epochs=epochs,
        )
    except KerasQuantError:
        raise
    except Exception as error:  # QKeras, Keras Tuner and Keras raise what they like
        why = str(error).strip().splitlines() or [""]
        raise ModelError(
            f"{path}: AutoQKeras does not run on this model ({type(error).__name__}: {why[0]}); "
            "--engine milp does"
        ) from error
    for trial in found:
        if all(costs.total(name, trial.bits) <= limit for name, limit in most.items()):
            return trial
    raise BudgetError(
        f"none of AutoQKeras' {len(found)} trials is within the budget: allow more, or more "
        "--trials; --engine milp finds a mix where there is one"
    )


def _check(path: Path, source: keras.Model, dataset: Dataset, layers: Sequence[str]) -> None:
    shape = tuple(source.output_shape[1:]) if len(source.outputs) == 1 else ()
    if task_of(shape, dataset.input_shape, dataset.num_classes) != CLASSIFICATION:
        raise UsageError(f"{path}: AutoQKeras is for classifiers; --engine milp takes any model")
    known = {layer.name for layer in source.layers if type(layer).__name__ in KINDS}
    if others := [name for name in layers if name not in known]:
        raise UsageError(
            f"{path}: AutoQKeras gives bits to {', '.join(KINDS)}, not to {', '.join(others)}; "
            "--engine milp takes them"
        )


def _arrays(dataset: Dataset, part: Split) -> Arrays:
    return np.asarray(dataset.reals(part.x), np.float32), part.y
