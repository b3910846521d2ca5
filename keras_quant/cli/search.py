"""kq search: bits for each layer within a budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_quant.cli.options import OutputFile, typed
from keras_quant.cli.output import as_score, json_option, note, print_json, print_table
from keras_quant.errors import UsageError

if TYPE_CHECKING:
    from keras_quant.jobs.search import Mixed, SearchSettings

_OF_ENGINES = {
    "milp": {"by": "by"},
    "autoqkeras": {"trials": "trials", "trial_epochs": "trial-epochs"},
}
"""Parameters that one engine alone has, and their options."""


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    metavar="WHAT=LIMIT",
    help="size=0.5 (of 8 bits everywhere), size=40kB, size=w3a8 (what these bits cost); likewise "
    "bitops and energy; latency_ms=0.8. Several are all met.",
)
@click.option(
    "--min-accuracy",
    metavar="SHARE",
    help="The least that is predicted: 0.91, or 91%; dB of PSNR; nats of an ELBO, as -105.",
)
@click.option(
    "--by",
    default="measured",
    show_default=True,
    help="What is to be the least: measured, output-error, entropy (needs no kq sensitivity) or "
    "hessian.",
)
@click.option("--bits", help="Widths to choose among [default: those that were measured].")
@click.option(
    "--activations", default=8, show_default=True, help="Bits of all activations, 2 to 8."
)
@click.option("--power-of-two", is_flag=True, help="Scales of activations as in training.")
@click.option(
    "--latency",
    multiple=True,
    metavar="BITS=BENCH",
    help="Times of layers at a width: the bench.json of kq bench RUN "
    "--runtime onnxruntime --profile.",
)
@click.option(
    "--engine",
    type=click.Choice(("milp", "autoqkeras")),
    default="milp",
    show_default=True,
    help="Integer programming; or AutoQKeras, which trains each of its trials (extra tensorboard).",
)
@click.option(
    "--trials", default=10, show_default=True, help="Of --engine autoqkeras: mixes that it trains."
)
@click.option(
    "--trial-epochs", default=1, show_default=True, help="Of --engine autoqkeras: of each mix."
)
@click.option(
    "--out",
    type=OutputFile(),
    help="The scheme [default: RUN/mixed-BUDGET.yaml, which is replaced].",
)
@click.option("--overwrite", is_flag=True, help="Replace the file that --out names.")
@json_option
def search(
    run: Path, out: Path | None, engine: str, overwrite: bool, as_json: bool, **options: Any
) -> None:
    """Choose the bits of each layer's kernel that hurt least within a budget.

    What each width of each layer hurts comes from kq sensitivity, what it costs from the integer
    graph, or from measured times; the choice is the best there is, not a guess (integer
    programming). The scheme is one as any other: kq train --scheme and kq quantize --scheme take
    it. Nothing is trained, unless AutoQKeras is to search, which trains each mix that it tries.

    \b
    Examples:
      kq search models/base --budget size=0.5
      kq search models/base --budget size=w3a8 --by entropy --out mixed.yaml
      kq search models/base --budget bitops=0.4 --activations 4 --min-accuracy 0.9
    """
    _check_engine(engine)
    if out is not None and out.exists() and not overwrite:
        raise UsageError(f"{out} exists: give --overwrite, or another --out")
    settings = _settings(options, engine)
    from keras_quant.jobs.search import search as find
    from keras_quant.jobs.search import write_scheme
    from keras_quant.runs.progress import Progress

    found = find(run, settings, progress=Progress())
    file = out or run / f"{found.scheme.name}.yaml"
    write_scheme(found, file)
    if as_json:
        print_json({"scheme": file, **_plain(found)})
        return
    hurts = {layer: f"{harm:.4g}" for layer, harm in found.harms.items()}
    rows = [(layer, width, hurts.get(layer)) for layer, width in found.bits.items()]
    print_table(("layer", "bits", options["by"] if hurts else "harm"), rows, title=str(run))
    print_table(("figure", "chosen", "allowed", "8 bits everywhere"), _figures(found))
    note(
        f"wrote {file}; kq quantize {run} --scheme {file}, or kq train --from {run} --scheme {file}"
    )


def _check_engine(engine: str) -> None:
    """Refuses options that only another engine has."""
    for name, options in _OF_ENGINES.items():
        if name != engine and (wrong := typed(options)):
            raise UsageError(f"{', '.join(wrong)} is for --engine {name}; this is {engine}")


def _settings(options: dict[str, Any], engine: str) -> SearchSettings:
    from keras_quant.cli.sensitivity import parse_widths
    from keras_quant.jobs.search import SearchSettings
    from keras_quant.search.budget import parse_budget

    return SearchSettings(
        budgets=tuple(map(parse_budget, options["budgets"])),
        by=options["by"],
        min_score=_parse_score(options["min_accuracy"]),
        widths=parse_widths(options["bits"]) if options["bits"] else (),
        activations=options["activations"],
        power_of_two=options["power_of_two"],
        latency=_parse_latency(options["latency"]),
        trials=max(1, options["trials"]) if engine == "autoqkeras" else 0,
        trial_epochs=options["trial_epochs"],
    )


def _parse_score(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        score = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise UsageError(f"--min-accuracy {text!r}: write 0.91 or 91%")
    return score


def _parse_latency(texts: Sequence[str]) -> dict[int, Path]:
    found = {}
    for text in texts:
        bits, equals, file = text.partition("=")
        if not (equals and file and bits.isascii() and bits.isdigit()):
            raise UsageError(f"--latency {text!r}: write BITS=FILE, as in 8=models/w8/bench.json")
        found[int(bits)] = Path(file)
    return found


def _figures(found: Mixed) -> list[tuple[object, ...]]:
    from keras_quant.search.mix import shown

    rows: list[tuple[object, ...]] = [
        (
            one.quantity,
            shown(one.quantity, one.value),
            shown(one.quantity, one.most),
            None if one.widest is None else shown(one.quantity, one.widest),
        )
        for one in found.spent
    ]
    if found.loss is not None:
        base, loss = found.loss
        rows.append((f"loss, predicted (float: {base:.4f})", f"{loss:.4f}", None, None))
    if found.score is not None:
        base, score = found.score
        text = f"{found.metric}, predicted (float: {as_score(found.metric, base)})"
        rows.append((text, as_score(found.metric, score), None, None))
    if found.trained_accuracy is not None:
        trained = as_score("accuracy", found.trained_accuracy)
        rows.append(("accuracy that AutoQKeras trained, validation images", trained, None, None))
    rows.append(("seconds of the search", f"{found.seconds:.1f}", None, None))
    return rows


def _plain(found: Mixed) -> dict[str, object]:
    names = ("bits", "harms", "harm", "spent", "metric", "loss", "score", "trained_accuracy")
    return {name: getattr(found, name) for name in names}
