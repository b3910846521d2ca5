"""How long each layer takes at each width, out of profiles that `kq bench --profile` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_quant.bench import records
from keras_quant.bench.operators import Operator
from keras_quant.errors import UsageError
from keras_quant.search.costs import LayerTimes

_US_PER_MS = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """What was measured.

    Attributes:
        by_layer: milliseconds of a layer at a width.
        rest_ms: of all operators that belong to no layer with a kernel, the most of the files.
    """

    by_layer: LayerTimes
    rest_ms: float


def read_layer_times(
    files: Mapping[int, Path], names: Mapping[str, str], widths: Sequence[int]
) -> Times | None:
    """Reads the profile of each width.

    Args:
        files: by width, a record of kq bench --profile of a model all of whose layers have it.
        names: that operators may have, or begin with before a "/", and the layer of each.
        widths: all of which are needed.
    Returns: None where no file is given.
    Raises:
        UsageError: a width has no file, or a file has no profile, or none of a layer.
        RunError: a record is broken.
    """
    if not files:
        return None
    if missing := [str(width) for width in widths if width not in files]:
        raise UsageError(
            f"--latency: nothing was given for {', '.join(missing)} bits: give "
            f"{missing[0]}=RUN/bench.json, or choose among {', '.join(map(str, files))} with --bits"
        )
    by_layer: dict[tuple[str, int], float] = {}
    rest = 0.0
    for width in widths:
        operators, left = _profile(files[width]), 0.0
        found = dict.fromkeys(names.values(), 0.0)
        seen = set()
        for one in operators:
            layer = _layer_of(one, names)
            if layer is None:
                left += one.time_us or 0.0
            else:
                seen.add(layer)
                found[layer] += one.time_us or 0.0
        if lacking := [layer for layer in found if layer not in seen]:
            raise UsageError(
                f"--latency {width}={files[width]}: no operator is that of {', '.join(lacking)}; "
                "give a record of a run of the same model"
            )
        rest = max(rest, left / _US_PER_MS)
        by_layer |= {(layer, width): us / _US_PER_MS for layer, us in found.items()}
    return Times(by_layer=by_layer, rest_ms=rest)


def _profile(file: Path) -> tuple[Operator, ...]:
    for one in records.load(file).measurements:
        if any(operator.time_us is not None for operator in one.operators):
            return one.operators
    raise UsageError(
        f"{file}: holds no times of operators; kq bench RUN --runtime onnxruntime --profile writes "
        "them"
    )


def _layer_of(operator: Operator, names: Mapping[str, str]) -> str | None:
    """The layer that an operator is of, or a part of; of several the one with the longest name."""
    known = [name for name in names if f"{operator.name}/".startswith(f"{name}/")]
    return names[max(known, key=len)] if known else None
