"""The graph to inspect: of a run, of a Keras file, or of a zoo model under a scheme."""

from __future__ import annotations

from pathlib import Path

from keras_quant.data.catalog import DATASETS
from keras_quant.errors import RunError, UsageError, close_names
from keras_quant.graph.ir import Graph
from keras_quant.keras_files import load_model
from keras_quant.lower import lower
from keras_quant.methods import load_method
from keras_quant.prepare import plan, wrap
from keras_quant.qparams import unsigned
from keras_quant.runs import model_of
from keras_quant.scheme import Scheme, is_float
from keras_quant.zoo import MODELS, build


def graph_of(
    target: str, *, scheme: Scheme | None, dataset: str | None, trust: bool = False
) -> Graph:
    """Lowers what a user names.

    Args:
        target: a run's folder, a .keras or .h5 file, or a name of the zoo.
        scheme: bits of a zoo model; None means float. Runs and files have their own.
        dataset: name of the data whose image shape and classes a zoo model gets; None means
            digits.
        trust: load a Keras file that holds code.
    Raises:
        UsageError: the target is nothing of that kind, or comes with options it cannot take.
        KerasQuantError: it cannot be loaded, built or lowered.
    """
    path = Path(target)
    if target in MODELS:
        return _zoo_graph(target, scheme, dataset or "digits")
    if scheme is not None or dataset is not None:
        raise UsageError(
            f"{target}: --bits, --scheme, --set and --dataset are for models of the zoo; runs "
            f"and files have theirs{close_names(target, MODELS)}"
        )
    if path.is_dir():
        return lower(load_model(model_of(path), trust=trust))
    if path.is_file():
        return lower(load_model(path, trust=trust))
    raise RunError(f"{target}: no such run, file or zoo model{close_names(target, MODELS)}")


def _zoo_graph(name: str, scheme: Scheme | None, dataset: str) -> Graph:
    if dataset not in DATASETS:
        raise UsageError(
            f"dataset {dataset!r} is not known{close_names(dataset, DATASETS)}; known: "
            f"{', '.join(DATASETS)}"
        )
    info = DATASETS[dataset]
    model = build(name, info.input_shape, info.num_classes)
    if scheme is None or is_float(scheme):
        return lower(model)
    planned = plan(model, scheme)
    # Costs do not depend on the scales that calibration would find.
    bits = planned.input_spec.bits
    grid = None if planned.input_spec.is_float else unsigned(bits, 1 / (2**bits - 1))
    return lower(wrap(planned, model, load_method("qkeras"), grid))
