"""Pictures of what was measured of single runs, beside those of all runs together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from keras_quant.errors import RunError, UsageError
from keras_quant.explain import record as explained
from keras_quant.plots.draw import KINDS
from keras_quant.report.picture import Picture
from keras_quant.runs.index import Run
from keras_quant.search import record as sensitivity

# By kind: the record that it is drawn of, and what it shows.
_KINDS = {
    "sensitivity": (sensitivity.FILE_NAME, "What each layer suffers at few bits"),
    "confusion": (explained.FILE_NAME, "Which classes are taken for which"),
    "maps": (explained.FILE_NAME, "Where the model looks"),
}


def looks_of(runs: Sequence[Run]) -> tuple[list[Picture], list[str]]:
    """Draws what `kq sensitivity` and `kq explain` kept of runs.

    Returns: the pictures, by run; and what is wrong with the records that could not be read.
    """
    pictures, problems = [], dict[str, None]()
    for run in runs:
        for kind, (file, title) in _KINDS.items():
            if not Path(run.path, file).is_file():
                continue
            try:
                figure = KINDS[kind]([run], title="")
            except UsageError:  # the record has none of it, as of images without labels
                continue
            except RunError as error:
                problems[str(error)] = None
                continue
            name = f"{kind}-{run.name}"
            pictures.append(Picture(name=name, title=f"{title}: {run.name}", figure=figure))
    return pictures, list(problems)
