"""From a float model and what was seen of it to a fake-quantized model, without any side effect."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from keras_quant.calibration.choose import DEFAULT_CALIBRATOR, check_calibrators, choose
from keras_quant.calibration.collect import Statistics, fingerprint
from keras_quant.calibration.finest import Observed, spanning
from keras_quant.calibration.statistics import TensorStatistics
from keras_quant.errors import DataError, SchemeError
from keras_quant.methods import DEFAULT_METHOD, load_method
from keras_quant.prepare import Plan, plan, with_grids, with_real_steps, wrap
from keras_quant.prepare.adjust.correct_bias import correct_biases, kernel_inputs
from keras_quant.prepare.points import Point
from keras_quant.qparams import GridSpec, QParams
from keras_quant.schemes.scheme import QuantSpec, Scheme, is_float
from keras_quant.tf import keras


def quantize(
    source: keras.Model,
    scheme: Scheme,
    statistics: Statistics,
    method: str = DEFAULT_METHOD,
    *,
    calibrator: str = DEFAULT_CALIBRATOR,
    post_training: bool = False,
) -> keras.Model:
    """Makes the fake-quantized model of a float one, with its weights.

    Pure: the source stays as it is, no file is read or written, nothing is shown.

    Args:
        source: the float model that the statistics are of.
        method: a name of METHODS.
        calibrator: a name of CALIBRATORS.
        post_training: nobody trains the model any further. Scales of kernels are found as their
            method finds them for that, and what rounding kernels adds to means is taken out of
            biases (see `correct_biases`).
    Returns: a new model; the source itself where the scheme leaves all in float.
    Raises:
        DataError: the statistics are of another model, or of other places in it.
        UsageError: an unknown method or calibrator.
        SchemeError, LoweringError: the scheme does not fit the model, or its layers are not
            supported, see `plan`.
    """
    if is_float(scheme):
        return source
    check_calibrators(scheme)
    planned = with_real_steps(plan(source, scheme), method)
    check_statistics(statistics, planned, source, post_training=post_training)
    calibrated = with_grids(planned, choose_grids(planned, statistics, calibrator))
    inputs = choose_input_grids(planned, statistics, calibrator)
    model = wrap(calibrated, source, load_method(method), inputs, post_training=post_training)
    if post_training:
        channels = {name: statistics.tensors[name].channels for name in kernel_inputs(planned)}
        means = {name: found.mean for name, found in channels.items() if found is not None}
        correct_biases(planned, model, means)
    return model


def check_statistics(
    statistics: Statistics, plan: Plan, source: keras.Model, *, post_training: bool = False
) -> None:
    """Checks that statistics are of a model, and of all that a plan needs them for.

    Args:
        post_training: the channels that kernels read are needed too.
    Raises:
        DataError: they are not.
    """
    if statistics.model != fingerprint(source):
        raise DataError(
            f"the statistics are of another model than {source.name}, or of other weights: "
            "collect them anew"
        )
    names = [*plan.operations.inputs, *(point.after for point in plan.points)]
    missing = [name for name in dict.fromkeys(names) if name not in statistics.tensors]
    read = kernel_inputs(plan) if post_training else ()
    known = {name for name, tensor in statistics.tensors.items() if tensor.channels is not None}
    closed = [name for name in read if name not in known]
    if missing or closed:
        lacking = [f"what {', '.join(missing)} put out"] * bool(missing)
        lacking += [f"the channels of what {', '.join(closed)} put out"] * bool(closed)
        raise DataError(
            f"the statistics lack {'; '.join(lacking)}, which this scheme rounds or reads: collect "
            "them anew with it"
        )


def choose_grids(
    plan: Plan, statistics: Statistics, calibrator: str = DEFAULT_CALIBRATOR
) -> dict[int, QParams]:
    """Finds the grid of each group of a plan's points.

    Branches follow the tensors that lead, unless their group has nothing else.

    Args:
        calibrator: for the tensors whose rule names none.
    Raises:
        UsageError: an unknown calibrator.
        SchemeError: rules name several for tensors that share a scale.
    """
    members: dict[int, list[Point]] = defaultdict(list)
    for point in plan.points:
        members[point.group].append(point)
    grids = {}
    for group, points in members.items():
        leading = [point for point in points if not point.is_branch] or points
        following = [point for point in points if point not in leading]
        tensors = [
            Observed(statistics=statistics.tensors[point.after], spec=point.spec)
            for point in (*leading, *following)
        ]
        chosen = choose(_named(leading) or calibrator, tensors[: len(leading)])
        grids[group] = spanning(chosen, tensors)
    return grids


def _named(points: Sequence[Point]) -> str | None:
    """The calibrator that the rules of points name that share a scale.

    Raises:
        SchemeError: several.
    """
    names = {point.calibrator for point in points}
    if len(names) > 1:
        each = ", ".join(f"{point.after} ({point.calibrator or 'the run'})" for point in points)
        raise SchemeError(
            "these activations share one scale, since they are added, concatenated or go through "
            f"calls of one layer, and need one calibrator: {each}"
        )
    return names.pop()


def choose_input_grids(
    plan: Plan, statistics: Statistics, calibrator: str = DEFAULT_CALIBRATOR
) -> dict[str, QParams]:
    """Finds the grids of the model's inputs, by name: that of their pixels, where these are codes.

    Raises:
        UsageError: an unknown calibrator.
    """
    wanted, names = plan.input_spec, plan.operations.inputs
    if wanted.is_float:
        return {}
    if statistics.pixels is not None and wanted.bits == statistics.pixels.bits:
        return dict.fromkeys(names, statistics.pixels)
    tensors = {name: statistics.tensors[name] for name in names}
    named = plan.input_calibrator or calibrator
    return {
        name: choose(named, [Observed(statistics=tensor, spec=_input_spec(wanted, tensor))])
        for name, tensor in tensors.items()
    }


def _input_spec(wanted: QuantSpec, tensor: TensorStatistics) -> GridSpec:
    """The codes of an input: signed ones where it has values below 0."""
    signed = bool(tensor.moments.low < 0)
    return GridSpec(
        bits=max(2, wanted.bits) if signed and wanted.symmetric else wanted.bits,
        signed=signed,
        symmetric=wanted.symmetric,
        power_of_two=wanted.power_of_two,
    )
