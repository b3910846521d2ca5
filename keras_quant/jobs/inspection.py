"""The graph to inspect: of a run, of a file, or of a zoo model under a scheme; and its costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keras_quant.data.catalog import DATASETS
from keras_quant.data.view import view_of
from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.emit.tflite.sizes import FileBytes, measure_tflite
from keras_quant.errors import EmitError, GraphError, ModelError, RunError, UsageError, close_names
from keras_quant.graph.costs.cost import GraphCost, cost
from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.passes.realize import realize
from keras_quant.graph.store import SUFFIX, load_graph
from keras_quant.jobs.preprocess import Say
from keras_quant.model.suffixes import is_saved_model
from keras_quant.preprocessing import describe
from keras_quant.runs import RunFolder, model_of, records
from keras_quant.schemes.scheme import Scheme, is_float
from keras_quant.zoo import MODELS, build

# Far less than moves a channel to one end of its range for good.
_SMALL_BIAS = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What a graph costs.

    Attributes:
        cost: counted from the graph.
        file: bytes of the TFLite file: that of the run, else the one that the graph would be
            written as; None where it cannot be written.
        file_problem: why it cannot; "" where it can.
    """

    cost: GraphCost
    file: FileBytes | None
    file_problem: str = ""


def inspect(graph: Graph, *, file: Path | None = None) -> Inspection:
    """Counts what a graph costs.

    Args:
        graph: ideal or realized.
        file: the TFLite file that it was written as; None where there is none.
    Raises:
        ModelError: the file is damaged.
    """
    if file is not None:
        return Inspection(cost=cost(graph), file=_measure(file, graph))
    try:
        # The sizes of a file do not depend on the biases that snapping would choose.
        content = emit_tflite(realize(graph, snap=False).graph)
    except (EmitError, GraphError) as error:
        return Inspection(cost=cost(graph), file=None, file_problem=str(error))
    sizes = measure_tflite(content, [node.name for node in graph.nodes])
    return Inspection(cost=cost(graph), file=sizes)


def _measure(file: Path, graph: Graph) -> FileBytes:
    try:
        return measure_tflite(file.read_bytes(), [node.name for node in graph.nodes])
    except Exception as error:  # flatbuffers checks nothing, and reads what damaged bytes ask for
        raise ModelError(
            f"{file}: no whole TFLite file ({type(error).__name__}: {error}). Export it again"
        ) from error


def file_of(target: str) -> Path | None:
    """The TFLite file of a run that was exported; None of anything else."""
    file = RunFolder(Path(target)).tflite
    return file if file.is_file() else None


def graph_of(
    target: str,
    *,
    scheme: Scheme | None,
    dataset: str | None,
    input_shape: tuple[int, ...] | None = None,
    trust: bool = False,
    say: Say = lambda text: None,
) -> Graph:
    """Reads or lowers what a user names.

    Args:
        target: a run's folder, a .kqgraph, .keras or .h5 file, or a name of the zoo. A run that
            was exported has its graph saved, which is read; TensorFlow is not loaded then.
        scheme: bits of a zoo model; None means float. Runs and files have their own.
        dataset: name of the data whose image shape and classes a zoo model gets; None means
            digits.
        input_shape: of a Keras file that takes inputs of any size, or of a zoo model, which then
            has the classes of its paper where no dataset is named; None means its own, or the
            dataset's.
        trust: load a Keras file that holds code.
        say: is told what the model takes, where a run or the first layers say it.
    Raises:
        UsageError: the target is nothing of that kind, or comes with options it cannot take.
        KerasQuantError: it cannot be loaded, built or lowered.
    """
    path = Path(target)
    check_target(target, scheme=scheme, dataset=dataset)
    if target in MODELS:
        return _zoo_graph(target, scheme, dataset, input_shape)
    if path.is_dir() and not is_saved_model(path):
        model, recorded = model_of(path), records.load(path).dataset.preprocess
        if recorded is not None:
            say(f"the model takes {describe(recorded)}")
        path = RunFolder(path).graph
        if not path.is_file():
            return _keras_graph(model, input_shape, trust=trust)
    if path.exists():
        if path.suffix == SUFFIX:
            return load_graph(path)
        return _keras_graph(path, input_shape, trust=trust, say=say)
    raise RunError(f"{target}: no such run, file or zoo model{close_names(target, MODELS)}")


def check_target(target: str, *, scheme: Scheme | None, dataset: str | None) -> None:
    """Raises: UsageError: options that what is inspected has itself."""
    if target not in MODELS and (scheme is not None or dataset is not None):
        raise UsageError(
            f"{target}: --bits, --scheme, --set and --dataset are for models of the zoo; runs "
            f"and files have theirs{close_names(target, MODELS)}"
        )


def _keras_graph(
    path: Path,
    input_shape: tuple[int, ...] | None,
    *,
    trust: bool,
    say: Say = lambda text: None,
) -> Graph:
    from keras_quant.lower import lower
    from keras_quant.model.files import load_model
    from keras_quant.model.inputs import with_input_shape
    from keras_quant.model.preprocess import find_preprocessing

    model = load_model(path, trust=trust)
    model = model if input_shape is None else with_input_shape(model, input_shape)
    graph = lower(model)
    found = find_preprocessing(model) if len(graph.inputs) == 1 else None
    if found is not None:
        say(str(found))
    return graph


def _zoo_graph(
    name: str, scheme: Scheme | None, dataset: str | None, input_shape: tuple[int, ...] | None
) -> Graph:
    from keras_quant.lower import lower
    from keras_quant.methods import DEFAULT_METHOD, load_method
    from keras_quant.prepare import plan, wrap
    from keras_quant.qparams import unsigned

    view = view_of("digits" if dataset is None else dataset)
    if view.base not in DATASETS:
        raise UsageError(
            f"dataset {view.base!r} is not known{close_names(view.base, DATASETS)}; known: "
            f"{', '.join(DATASETS)}"
        )
    images = DATASETS[view.base]
    of_paper = dataset is None and input_shape is not None
    classes = MODELS[name].classes if of_paper else images.num_classes
    model = build(name, input_shape or view.shape(images.input_shape), classes)
    if scheme is None or is_float(scheme):
        return _with_distinct_biases(lower(model))
    planned = plan(model, scheme)
    # Costs do not depend on the scales that calibration would find.
    bits = planned.input_spec.bits
    grid = None if planned.input_spec.is_float else unsigned(bits, 1 / (2**bits - 1))
    return _with_distinct_biases(lower(wrap(planned, model, load_method(DEFAULT_METHOD), grid)))


def _with_distinct_biases(graph: Graph) -> Graph:
    """Gives biases that differ as trained ones do: a file stores constants of equal bytes once."""
    rng = np.random.default_rng(0)

    def distinct(node: Node) -> Node:
        if node.bias is None:
            return node
        bias = rng.normal(scale=_SMALL_BIAS, size=node.bias.shape)
        return replace(node, bias=bias.astype(node.bias.dtype))

    return replace(graph, nodes=tuple(map(distinct, graph.nodes)))
