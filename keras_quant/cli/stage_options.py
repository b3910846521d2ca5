"""What commands take that run the stages of a run."""

from __future__ import annotations

from pathlib import Path

import click

run_argument = click.argument("run", type=click.Path(path_type=Path))

stage_format_option = click.option(
    "--format", "form", help="Of the stages: tflite, onnx or tensorrt [default: the first there]."
)

next_option = click.option(
    "--next",
    "next_address",
    metavar="HOST:PORT",
    help="Where kq anytime serve has the stages behind those here [default: all are here].",
)

timeout_option = click.option(
    "--timeout-ms",
    type=float,
    default=1000.0,
    show_default=True,
    help="The longest that --next is waited for.",
)

rule_option = click.option(
    "--rule",
    default="entropy",
    show_default=True,
    help="How sure an answer is: entropy, max (probability) or margin (of the two largest).",
)

accuracy_option = click.option(
    "--accuracy",
    type=float,
    help="Share of the validation images to answer rightly, at the least cost [default: that of "
    "the last exit].",
)

budget_option = click.option(
    "--budget",
    type=float,
    help="Mean cost not to be passed, at the greatest accuracy; up to 1, a share of the whole.",
)

cost_option = click.option(
    "--cost",
    default="macs",
    show_default=True,
    help="What a stage costs: macs, or ms, measured here.",
)

realtime_option = click.option(
    "--realtime",
    is_flag=True,
    help="Run before all other processes (SCHED_FIFO), where the system allows it.",
)
