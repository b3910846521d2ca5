"""The stages of a run, or some of them, answered for other machines."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from keras_quant.anytime.connection import (
    Address,
    UnreachableError,
    parse_address,
    wrong_timeout,
)
from keras_quant.anytime.packing import blank, handed_on
from keras_quant.anytime.peer import Peer, Trip
from keras_quant.anytime.protocol import Ending
from keras_quant.anytime.rules import NEVER
from keras_quant.anytime.runner import profile
from keras_quant.anytime.server import Served, StageServer
from keras_quant.anytime.views import AVERAGE, Concat
from keras_quant.errors import RunError, UsageError
from keras_quant.jobs.anytime import Opened, Recorded, open_stages, recorded_stages
from keras_quant.jobs.concat import learned_concat
from keras_quant.runs import concat
from keras_quant.runs.progress import Progress

_STAGES = re.compile(r"([0-9]{1,3})(?:-([0-9]{1,3}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """What is served, and where.

    Attributes:
        listen: HOST:PORT; port 0 is any.
        stages: "2" or "2-3", from 1 on; None means 2 to the last, or with a next machine 2.
        next_address: HOST:PORT of the machine that goes on behind them; None where they are the
            last.
        form: a key of FORMATS; None means the first that there are stages of.
        timeout_ms: the longest that the next machine is waited for.
    """

    listen: str
    stages: str | None = None
    next_address: str | None = None
    form: str | None = None
    timeout_ms: float = 1000.0


def stage_server(run: Path, settings: ServeSettings, *, progress: Progress) -> StageServer:
    """Loads stages, each in a child process, and listens.

    Returns: what answers while its `serve_forever` runs.
    Raises:
        UsageError: settings do not go together, or there is no such address or port.
        RunError: there is no such run, or it has no stages.
        PeerError: the next machine has another net, or begins with another stage.
    """
    known = recorded_stages(run, settings.form)
    part = _part(settings, len(known.files))
    listen = parse_address(settings.listen, "--listen")
    to = None
    if settings.next_address is not None:
        to = parse_address(settings.next_address, "--next")
    opened = open_stages(run, known.format, part=part)
    codes = blank(handed_on(opened.files, part.start))
    times = profile(opened.loaded, codes)
    served = Served(
        form=opened.format,
        files=opened.files,
        first=part.start,
        stages=opened.loaded,
        expected_ms=tuple(one.p99_ms for one in times),
        next_address=to,
        next_trip=None if to is None else _trip(to, opened, part, settings, progress),
        timeout_s=settings.timeout_ms / 1e3,
        concat=_concat(run, known, progress),
    )
    server = StageServer(listen, served, say=progress.say)
    if not _is_loopback(server.address):
        progress.say(
            f"{server.address} can be reached by other machines: nothing is encrypted, and nobody "
            "is asked who he is. Use it within a network that you trust"
        )
    return server


def _concat(run: Path, known: Recorded, progress: Progress) -> Concat | None:
    """What makes views one answer; None where it was not learned, or not for these stages."""
    if not (run / concat.FILE_NAME).exists():
        return None
    try:
        return learned_concat(run, concat.load(run), known)
    except RunError as error:
        progress.say(f"{error}\nWho asks for concat is refused; all others are answered")
        return None


def _part(settings: ServeSettings, count: int) -> slice:
    """The stages that are served."""
    asked = settings.stages or ("2" if settings.next_address else f"2-{count}")
    match = _STAGES.fullmatch(asked)
    first = int(match[1]) if match else 0
    last = int(match[2] or first) if match else 0
    if not 2 <= first <= last <= count:
        raise UsageError(
            f"--stages {asked!r}: write one, or the first and the last, as in 2-3; of "
            f"these {count} stages 2 to {count} are allowed, as the first runs where images are"
        )
    if last < count and settings.next_address is None:
        raise UsageError(
            f"--stages {asked}: nobody runs stages {last + 1} to {count}. Give --next "
            f"HOST:PORT of who does, or --stages {first}-{count}"
        )
    if last == count and settings.next_address is not None:
        raise UsageError(
            f"--stages {asked}: stage {count} is the last, and nothing is left for "
            f"--next {settings.next_address}"
        )
    if problems := wrong_timeout(settings.timeout_ms):
        raise UsageError("; ".join(problems))
    return slice(first - 1, last)


def _trip(
    to: Address, opened: Opened, part: slice, settings: ServeSettings, progress: Progress
) -> Trip | None:
    """How long the next machine takes; None where it is not there yet."""
    never = Ending(rule="entropy", thresholds=(NEVER,) * (len(opened.files) - 1), aggregate=AVERAGE)
    peer = Peer(
        to,
        opened.format,
        opened.files,
        never,
        timeout_s=settings.timeout_ms / 1e3,
        first=part.stop + 1,
    )
    try:
        peer.connect()
    except UnreachableError as error:
        progress.say(f"{error}. Until it is there, answers are those of the stages here")
        return None
    trip = peer.profile(blank(handed_on(opened.files, part.start)), behind=opened.loaded)
    peer.close()
    return trip


def _is_loopback(address: Address) -> bool:
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False
