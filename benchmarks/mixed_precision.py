"""Accuracy without training at equal bytes: one width everywhere, and the mixes of kq search.

python benchmarks/mixed_precision.py RUN --bits w3a8 --out runs/mixed
"""

from __future__ import annotations

from pathlib import Path

from results import Result, argument_parser, publish

from keras_quant.jobs.quantize import QuantizeSettings, quantize_run
from keras_quant.jobs.search import Mixed, SearchSettings, search
from keras_quant.jobs.sensitivity import SensitivitySettings, measure_sensitivity
from keras_quant.proof.formats import FORMATS
from keras_quant.runs.index import read_run
from keras_quant.runs.progress import Progress
from keras_quant.schemes.bits import freed, scheme_from_bits
from keras_quant.schemes.scheme import Scheme
from keras_quant.search import record as records
from keras_quant.search.budget import parse_budget
from keras_quant.search.harms import HARMS, MEASURED

GAIN_POINTS = 0.5  # of the mix by what was measured, over one width everywhere
SEARCH_SECONDS = 60.0  # without training, and without an image


def main() -> None:
    """Prints the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("run", type=Path, help="float run")
    parser.add_argument("--bits", default="w3a8", help="one width everywhere, whose bytes count")
    parser.add_argument("--out", type=Path, default=Path("runs/mixed"), help="of the runs")
    arguments = parser.parse_args()
    run, bits, progress = arguments.run, arguments.bits, Progress()
    resume = (run / records.FILE_NAME).exists()
    measure_sensitivity(run, SensitivitySettings(), resume=resume, progress=progress)
    uniform = freed(scheme_from_bits(bits))
    accuracy = _accuracy(run, uniform, arguments.out / f"uniform-{bits}", progress)
    results = [Result(figure=f"accuracy, {bits} everywhere", value=accuracy, unit="%")]
    for by in HARMS:
        mixed = _search(run, bits, by, progress)
        found = _accuracy(run, mixed.scheme, arguments.out / f"{bits}-{by}", progress)
        goal = GAIN_POINTS if by == MEASURED else None
        peer = f"{bits} everywhere, {mixed.spent[0].value / mixed.spent[0].most:.1%} of its bytes"
        results += [
            Result(figure=f"accuracy, mix by {by}", value=found, unit="%"),
            Result(
                figure=f"gain, mix by {by}",
                value=found - accuracy,
                unit="points",
                at_least=goal,
                peer=peer,
            ),
        ]
        if by == "entropy":
            seconds = mixed.seconds
    figure = "search by entropy, without an image"
    results.append(Result(figure=figure, value=seconds, unit="s", at_most=SEARCH_SECONDS))
    publish(f"Mixed precision of {run}", results, arguments.json)


def _search(run: Path, bits: str, by: str, progress: Progress) -> Mixed:
    settings = SearchSettings(budgets=(parse_budget(f"size={bits}"),), by=by)
    return search(run, settings, progress=progress)


def _accuracy(run: Path, scheme: Scheme, path: Path, progress: Progress) -> float:
    """In percent, of the TFLite file on the test images."""
    settings = QuantizeSettings(source=str(run), scheme=scheme)
    quantize_run(settings, path, [FORMATS["tflite"]], overwrite=True, progress=progress)
    score = read_run(path).score
    assert score is not None, path
    return score


if __name__ == "__main__":
    main()
