"""How long runs would take on a board, as `kq bench --estimate` has left it in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from keras_quant.bench.estimate import records
from keras_quant.bench.estimate.records import Estimate, EstimateRecord
from keras_quant.errors import UsageError
from keras_quant.plots.tradeoff import Cost
from keras_quant.runs.index import Run

MARK = "ESTIMATE"
"""What every label of an estimate says."""


def estimated_latency(runs: Sequence[Run], board: str | None = None) -> Cost:
    """The estimated latency of each run for one image: of float runs in fp16, of others in int8.

    In the power mode of the first run that has one; what has no int8 there counts in fp16.

    Args:
        board: None means that for which most runs have an estimate.
    Raises:
        UsageError: none of the runs has an estimate, or none for that board.
        RunError: a record is broken.
    """
    found = {run.path: records.find(run.path) for run in runs if run.score is not None}
    boards = Counter(board for of_run in found.values() for board in of_run)
    if not boards or board not in (None, *boards):
        wanted, having = board or "NAME", f" (but for {', '.join(boards)})" if boards else ""
        raise UsageError(
            f"no run with a score has an estimate for that{having}: kq bench RUN... "
            f"--board {wanted} --estimate; kq boards lists the boards; runs looked at: {len(runs)}"
        )
    board = board or boards.most_common(1)[0][0]
    first = next(of_run[board] for of_run in found.values() if board in of_run)
    values = {
        run.path: chosen.estimate_ms
        for run in runs
        for record in (found.get(run.path, {}).get(board),)
        if record is not None and record.power_mode == first.power_mode
        for chosen in (_chosen(record, run),)
        if chosen is not None
    }
    return Cost(
        label=f"{MARK} of latency [ms], {first.title}, {first.power_mode}\nnothing was measured",
        of=lambda run: values.get(run.path),
        estimated=True,
    )


def _chosen(record: EstimateRecord, run: Run) -> Estimate | None:
    single = {one.precision: one for one in record.estimates if one.batch == 1}
    return single.get("fp16") if run.is_float else single.get("int8", single.get("fp16"))
