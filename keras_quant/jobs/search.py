"""Chooses the bits of each layer of a float run within a budget, and writes them as a scheme."""

from __future__ import annotations

import glob
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keras_quant.calibration.collect import fingerprint
from keras_quant.errors import RunError, UsageError, close_names
from keras_quant.files import write_text
from keras_quant.graph.costs.cost import cost
from keras_quant.graph.ir import Graph
from keras_quant.jobs.float_run import check_float
from keras_quant.jobs.layer_times import read_layer_times
from keras_quant.lower import lower
from keras_quant.methods import DEFAULT_METHOD, load_method
from keras_quant.model.files import load_model
from keras_quant.model.inputs import with_input_shape
from keras_quant.model.topology import layers_by_name
from keras_quant.prepare import plan, wrap
from keras_quant.qparams import unsigned
from keras_quant.runs import model_of
from keras_quant.runs import records as run_records
from keras_quant.runs.progress import Progress
from keras_quant.schemes.bits import freed, scheme_from_bits
from keras_quant.schemes.file import scheme_to_yaml
from keras_quant.schemes.scheme import Rule, Scheme
from keras_quant.search import record as records
from keras_quant.search.budget import Budget
from keras_quant.search.choose import Limit
from keras_quant.search.costs import Costs, nodes_of, of_quantity
from keras_quant.search.harms import HARMS, MEASURED
from keras_quant.search.kernels import kernel_layers, plan_all, rebuilt, round_kernel, weight_spec
from keras_quant.search.mix import choose_within, listed, widest
from keras_quant.search.record import Sensitivity
from keras_quant.tf import keras

WIDTHS = (2, 3, 4, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """What `kq search` is asked for.

    Attributes:
        budgets: all of which are to be met.
        by: a name of HARMS: what is to be the least.
        min_score: what the predicted score is to be at least, in the record's own unit.
        widths: that kernels may have; () means those that were measured, or WIDTHS.
        activations: bits of all activations.
        power_of_two: scales of activations are powers of two, as --bits of kq train has them.
        latency: by width, a record of kq bench --profile of the model at that width.
        trials, trial_epochs: where AutoQKeras is to search: how many mixes it trains, and how long;
            0 trials mean the integer program.
    """

    budgets: tuple[Budget, ...]
    by: str = MEASURED
    min_score: float | None = None
    widths: tuple[int, ...] = ()
    activations: int = 8
    power_of_two: bool = False
    latency: Mapping[int, Path] = field(default_factory=dict)
    trials: int = 0
    trial_epochs: int = 1

    def check(self) -> None:
        """Reports everything that does not go together. Raises: UsageError."""
        problems = [] if self.budgets else ["give a --budget, as size=0.5"]
        if self.by not in HARMS:
            problems.append(f"--by {self.by}: {', '.join(HARMS)}{close_names(self.by, HARMS)}")
        if not 2 <= self.activations <= 8:
            problems.append(f"--activations is {self.activations}; 2 to 8 are allowed")
        problems += [f"--bits {b}: 2 to 8 are allowed" for b in self.widths if not 2 <= b <= 8]
        named = [budget.quantity for budget in self.budgets]
        problems += [
            f"--budget {name} is there twice" for name in set(named) if named.count(name) > 1
        ]
        if self.trials < 0 or self.trial_epochs < 1:
            problems.append("--trials and --trial-epochs: 1 or more are allowed")
        if self.trials and self.min_score is not None:
            problems.append("--min-accuracy is for --engine milp; AutoQKeras shows what it reached")
        if "latency_ms" in named and not self.latency:
            problems.append(
                "--budget latency_ms needs measured times: --latency 8=RUN/bench.json for each "
                "width, as kq bench RUN --runtime onnxruntime --profile writes it"
            )
        if problems:
            raise UsageError("; ".join(problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the chosen bits cost.

    Attributes:
        value: in the quantity's unit.
        most: that was allowed.
        widest: what 8 bits everywhere cost; None for latency that was not measured at 8.
    """

    quantity: str
    value: float
    most: float
    widest: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """What was found.

    Attributes:
        bits: by layer.
        harms: by layer, in the unit of what it was chosen by; empty where mixes were trained.
        harm: their sum, the least that there is within the budget; None likewise.
        spent: by budget.
        metric: of the predicted score; "" where it was not measured.
        loss, score: of the float model and predicted, as if layers did not know of each other;
            None where that was not measured.
        trained_accuracy: of the mix that AutoQKeras trained, on the validation images; else None.
        seconds: that the search took, loading left out.
    """

    scheme: Scheme
    bits: Mapping[str, int]
    harms: Mapping[str, float]
    harm: float | None
    spent: tuple[Spent, ...]
    metric: str
    loss: tuple[float, float] | None
    score: tuple[float, float] | None
    seconds: float
    trained_accuracy: float | None = None


def search(path: Path, settings: SearchSettings, *, progress: Progress) -> Mixed:
    """Chooses the bits of a float run's kernels that hurt least within all budgets.

    Raises:
        UsageError: settings that do not go together, or the run is quantized.
        RunError: there is no run, or it was not measured; or what was is of other weights.
        BudgetError: nothing is within the budget; says the least that can be reached.
    """
    settings.check()
    run = run_records.load(path)
    check_float(path, run)
    source = with_input_shape(load_model(model_of(path)), run.dataset.input_shape)
    started = time.monotonic()
    if settings.trials:
        return _search_by_training(path, source, settings, started, progress)
    record = _record(path, source, settings)
    widths = _widths(path, record, settings)
    layers, harms = _harms(source, record, widths, settings)
    costs = _costs(source, layers, widths, settings)
    most = {budget.quantity: _most(budget, costs, source) for budget in settings.budgets}
    choice = choose_within(costs, harms, most, _score_limit(record, layers, widths, settings))
    bits = {layer: widths[place] for layer, place in zip(layers, choice.places, strict=True)}
    rows = zip(layers, harms, choice.places, strict=True)
    return Mixed(
        scheme=_scheme(path, bits, settings),
        bits=bits,
        harms={layer: row[place] for layer, row, place in rows},
        harm=choice.harm,
        spent=_spent(costs, bits, most),
        metric=record.metric if record else "",
        loss=_predicted(record, bits, "loss"),
        score=_predicted(record, bits, "score"),
        seconds=time.monotonic() - started,
    )


def _search_by_training(
    path: Path, source: keras.Model, settings: SearchSettings, started: float, progress: Progress
) -> Mixed:
    """The same with AutoQKeras, whose trials need no measurement before."""
    from keras_quant.jobs.autoqkeras import best_mix

    layers = tuple(kernel_layers(plan_all(source)))
    costs = _costs(source, layers, settings.widths or WIDTHS, settings)
    most = {budget.quantity: _most(budget, costs, source) for budget in settings.budgets}
    trial = best_mix(
        path,
        costs,
        most,
        trials=settings.trials,
        epochs=settings.trial_epochs,
        progress=progress,
    )
    return Mixed(
        scheme=_scheme(path, trial.bits, settings),
        bits=trial.bits,
        harms={},
        harm=None,
        spent=_spent(costs, trial.bits, most),
        metric="accuracy",
        loss=None,
        score=None,
        seconds=time.monotonic() - started,
        trained_accuracy=trial.accuracy,
    )


def _costs(
    source: keras.Model, layers: tuple[str, ...], widths: tuple[int, ...], settings: SearchSettings
) -> Costs:
    graph = _graph(source, scheme_from_bits(f"w8a{settings.activations}"))
    owners = nodes_of(graph, layers)
    # Operators are called after a node, or after the tensor that it gives.
    names = {node.output: owners[node.name] for node in graph.nodes if node.name in owners}
    times = read_layer_times(settings.latency, {**names, **owners}, widths)
    return Costs(
        graph=graph,
        layers=layers,
        widths=widths,
        times=times.by_layer if times else None,
        rest_ms=times.rest_ms if times else 0.0,
    )


def _spent(costs: Costs, bits: Mapping[str, int], most: Mapping[str, float]) -> tuple[Spent, ...]:
    return tuple(
        Spent(quantity=name, value=costs.total(name, bits), most=limit, widest=widest(costs, name))
        for name, limit in most.items()
    )


def write_scheme(mixed: Mixed, path: Path) -> None:
    """Writes the scheme. Raises: FileError: the system refuses."""
    write_text(path, scheme_to_yaml(mixed.scheme))


def _record(path: Path, source: keras.Model, settings: SearchSettings) -> Sensitivity | None:
    """What was measured of the run; None where nothing was, and the search needs nothing of it."""
    if not (path / records.FILE_NAME).exists() and settings.by == "entropy":
        if settings.min_score is not None:
            raise UsageError(f"--min-accuracy needs what kq sensitivity {path} measures")
        return None
    record = records.load(path)
    if record.settings.model != fingerprint(source):
        raise RunError(
            f"{path / records.FILE_NAME}: is of other weights than the run's model has now; "
            f"kq sensitivity {path} --overwrite measures these"
        )
    return record


def _widths(path: Path, record: Sensitivity | None, settings: SearchSettings) -> tuple[int, ...]:
    if record is None or settings.by == "entropy":
        return settings.widths or (record.settings.bits if record else WIDTHS)
    widths = settings.widths or record.settings.bits
    if missing := [width for width in widths if width not in record.settings.bits]:
        raise RunError(
            f"{path / records.FILE_NAME}: was measured at {listed(record.settings.bits)} bits, "
            f"not at {listed(missing)}; kq sensitivity {path} --bits {listed(widths, ',')} "
            "--overwrite measures these"
        )
    if settings.by == "hessian" and record.traces is None and not record.settings.probes:
        raise RunError(
            f"{path / records.FILE_NAME}: holds no traces of the Hessian; "
            f"kq sensitivity {path} --overwrite estimates them"
        )
    if not record.is_complete:
        raise RunError(
            f"{path / records.FILE_NAME}: is not complete; kq sensitivity {path} --resume goes on"
        )
    return widths


def _harms(
    source: keras.Model,
    record: Sensitivity | None,
    widths: Sequence[int],
    settings: SearchSettings,
) -> tuple[tuple[str, ...], list[list[float]]]:
    """The layers, and how much each width of each hurts."""
    if settings.by == "entropy":
        return _lost_entropy(source, widths)
    assert record is not None
    harms, unknown = [], []
    for layer in record.layers:
        row = []
        for width in widths:
            entry = record.entry(layer, width)
            harm = HARMS[settings.by](record, entry) if entry else None
            row.append(harm if harm is not None else 0.0)
            unknown += [layer] if harm is None else []
        harms.append(row)
    if unknown:
        raise UsageError(
            f"--by {settings.by}: is not known of {', '.join(dict.fromkeys(unknown))}, which are "
            f"called more than once; choose by {MEASURED}"
        )
    return record.layers, harms


def _lost_entropy(
    source: keras.Model, widths: Sequence[int]
) -> tuple[tuple[str, ...], list[list[float]]]:
    """As HARMS has it, of the kernels alone: no image is looked at."""
    planned = plan_all(source)
    operations, layers = kernel_layers(planned), layers_by_name(rebuilt(planned, source))
    harms = []
    for name, operation in operations.items():
        found = [round_kernel(layers[name], operation, width).entropy for width in widths]
        harms.append([max(found) - value for value in found])
    return tuple(operations), harms


def _graph(source: keras.Model, scheme: Scheme) -> Graph:
    """The graph of a scheme, for counting: costs do not depend on what scales would be found."""
    planned = plan(source, scheme)
    grid = unsigned(planned.input_spec.bits, 1 / (2**planned.input_spec.bits - 1))
    return lower(wrap(planned, source, load_method(DEFAULT_METHOD), grid))


def _most(budget: Budget, costs: Costs, source: keras.Model) -> float:
    """A budget in the unit of its quantity."""
    if budget.amount is not None:
        return budget.amount
    if budget.bits is not None:
        graph = _graph(source, scheme_from_bits(budget.bits))
        return of_quantity(cost(graph), budget.quantity)
    full = widest(costs, budget.quantity)
    assert budget.share is not None and full is not None
    return budget.share * full


def _score_limit(
    record: Sensitivity | None,
    layers: Sequence[str],
    widths: Sequence[int],
    settings: SearchSettings,
) -> Limit | None:
    """What the score may lose in all, by what each layer alone lost."""
    if settings.min_score is None:
        return None
    base = record.baseline.score if record else None
    if record is None or base is None:
        raise UsageError("--min-accuracy: the run's images have no labels, so it has no accuracy")
    lost = []
    for layer in layers:
        entries = [record.entry(layer, width) for width in widths]
        scores = [entry.outcome.score if entry else None for entry in entries]
        if None in scores:
            raise RunError(f"{layer}: was not measured at all of {listed(widths)} bits")
        lost.append([_lost(base, score) for score in scores if score is not None])
    return Limit(values=lost, most=base - settings.min_score)


def _predicted(
    record: Sensitivity | None, bits: Mapping[str, int], what: str
) -> tuple[float, float] | None:
    """Of the float model, and with what each layer alone changed added up."""
    base = getattr(record.baseline, what) if record else None
    if record is None or base is None:
        return None
    changed = 0.0
    for layer, width in bits.items():
        entry = record.entry(layer, width)
        value = getattr(entry.outcome, what) if entry else None
        if value is None:
            return None
        changed += value - base if what == "loss" else -_lost(base, value)
    return base, base + changed


def _lost(base: float, score: float) -> float:
    """What a score fell by. That it rose is chance, which would add up over layers."""
    return max(0.0, base - score)


def _scheme(path: Path, bits: Mapping[str, int], settings: SearchSettings) -> Scheme:
    usual = scheme_from_bits(f"w8a{settings.activations}", ends="same")
    base = usual if settings.power_of_two else freed(usual)
    budget = " ".join(one.text.replace(" ", "") for one in settings.budgets)
    by = "autoqkeras" if settings.trials else settings.by
    ending = "" if by == MEASURED else f"-{by}"
    chosen = tuple(
        Rule(match=glob.escape(layer), weight=weight_spec(width)) for layer, width in bits.items()
    )
    return Scheme(
        name=f"mixed-{budget.replace(' ', '-')}{ending}",
        description=f"kq search {path.name}: {budget}, by {by}",
        rules=(*base.rules, *chosen),
    )
