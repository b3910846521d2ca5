"""kq anytime serve: stages of a run for other machines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_quant.cli.output import as_share, json_option, note, print_json, print_table
from keras_quant.cli.stage_options import (
    next_option,
    run_argument,
    stage_format_option,
    timeout_option,
)

if TYPE_CHECKING:
    from keras_quant.anytime.server import Counts


@click.command()
@run_argument
@click.option(
    "--stages",
    help="Which run here: one, or the first and the last, as in 2-3 [default: 2 to the last; with "
    "--next, 2].",
)
@click.option(
    "--listen",
    default="127.0.0.1:9000",
    show_default=True,
    metavar="HOST:PORT",
    help="An address of this machine; port 0 is any that is free.",
)
@next_option
@timeout_option
@stage_format_option
@click.option("--seconds", type=float, help="Stop after so long [default: until Ctrl-C].")
@json_option
def serve(
    run: Path,
    stages: str | None,
    listen: str,
    next_address: str | None,
    timeout_ms: float,
    form: str | None,
    seconds: float | None,
    as_json: bool,
) -> None:
    """Serve later stages of a run to the machine that has the earlier ones.

    That one asks with kq anytime run --next, and only where no answer of its own is sure. Where
    the stages here are not the last, and not sure either, --next is asked in turn: device, edge
    and cloud. Both ends need the same run, of which each opens its own stages alone; for
    --aggregate concat the same concat.json, too. Another net is refused. What comes over the wire
    is never run. It is not encrypted, and who asks is not known: listen on the loopback, or in a
    network that you trust.

    \b
    Examples:
      kq anytime serve models/mnist-b_lenet-w4a4 --listen 127.0.0.1:9000
      kq anytime serve models/three-exits --stages 2 --listen 0.0.0.0:9000 --next cloud.local:9000
    """
    import threading

    from keras_quant.errors import UsageError
    from keras_quant.jobs.serve_stages import ServeSettings, stage_server
    from keras_quant.runs.progress import Progress

    if seconds is not None and not 0 < seconds < threading.TIMEOUT_MAX:
        raise UsageError(f"--seconds is {seconds:g}; a number above 0 is allowed")
    settings = ServeSettings(
        listen=listen,
        stages=stages,
        next_address=next_address,
        form=form,
        timeout_ms=timeout_ms,
    )
    with stage_server(run, settings, progress=Progress()) as server:
        served = server.served
        note(f"listening on {server.address}: {served.title} of {run}, {served.form}")
        if seconds is not None:
            timer = threading.Timer(seconds, server.shutdown)
            timer.daemon = True
            timer.start()
        try:
            server.serve_forever()
        except KeyboardInterrupt:  # also of SIGTERM: it is how this ends
            note("stopped")
    if as_json:
        print_json(_record(server.counts))
        return
    _print(server.counts)


def _record(counts: Counts) -> dict[str, object]:
    return {
        "asked": counts.asked,
        "endings": [
            {"exit": exit_number, "reason": reason, "images": images}
            for (exit_number, reason), images in sorted(counts.endings.items())
        ],
        "received_bytes": counts.received_bytes,
        "sent_bytes": counts.sent_bytes,
        "sent_on_bytes": counts.sent_on_bytes,
        "refused": counts.refused,
        "tries": counts.tries,
    }


def _print(counts: Counts) -> None:
    rows = [
        (exit_number + 1, reason, images, as_share(images / counts.asked))
        for (exit_number, reason), images in sorted(counts.endings.items())
    ]
    print_table(("exit", "ended by", "images", "share"), rows, title="asked from here")
    columns = ("images", "bytes received", "bytes answered", "bytes sent on", "refused", "tries")
    print_table(
        columns,
        [
            (
                counts.asked,
                counts.received_bytes,
                counts.sent_bytes,
                counts.sent_on_bytes,
                counts.refused,
                counts.tries,
            )
        ],
    )
