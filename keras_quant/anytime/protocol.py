"""What machines that run stages of one net say to each other.

    asks:      hello      the net as the one who asks has it, and how its images end
    answers:   welcome    from which stage on it goes on; or `refused`, why not
    asks:      ask        an image: the codes that those stages need, how much time there is, and
                          whether it only shows how long an answer takes
    answers:   answer     scores, of which exit, and what they cost; or `failed`

Both ends have the same run. What stands for it are the hashes of all its stages, and what is handed
on; where one differs, nothing is answered.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_quant.anytime.connection import printable
from keras_quant.anytime.packing import bits_of, code_range
from keras_quant.anytime.rules import RULES
from keras_quant.anytime.runner import REASONS, Reply
from keras_quant.anytime.views import CONCAT, NAMES
from keras_quant.errors import PeerError, shown
from keras_quant.runs.concat import FILE_NAME
from keras_quant.runs.stages import Port, StageFile

NAME, VERSION = "keras_quant stages", 1
MOST_VIEWS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """When the images of a net end early; see `runner.AnytimeRunner`.

    Attributes:
        thresholds: of all exits but the last.
        aggregate: how the answers to views become one, one of `views.NAMES`.
        concat: the SHA-256 of the layers that were learned for that, see `views.Concat`.
    """

    rule: str
    thresholds: tuple[float, ...]
    aggregate: str
    concat: str = ""


def hello(form: str, files: Sequence[StageFile], ending: Ending) -> dict[str, Any]:
    """What the one who asks says first."""
    learned = {"concat": ending.concat} if ending.aggregate == CONCAT else {}
    return {
        "hello": NAME,
        "version": VERSION,
        "net": described(form, files),
        "rule": ending.rule,
        "thresholds": list(ending.thresholds),
        "aggregate": ending.aggregate,
        **learned,
    }


def described(form: str, files: Sequence[StageFile]) -> dict[str, Any]:
    """All that has to be the same at both ends, as JSON."""
    ports = {port.name: port for file in files for port in file.inputs}
    return {
        "format": form,
        "files": [file.sha256 for file in files],
        "ports": {name: _sent_as(port) for name, port in sorted(ports.items())},
    }


def _sent_as(port: Port) -> list[Any]:
    lowest = code_range(port)[0] if port.dtype != "float32" else None
    return [port.dtype, list(port.shape), bits_of(port), lowest]


def read_hello(
    header: Mapping[str, Any], form: str, files: Sequence[StageFile], *, concat: str = ""
) -> Ending:
    """What a hello asks for.

    Args:
        concat: the SHA-256 of the layers here that make views one answer; "" without any.
    Raises:
        PeerError: it is of another net, or other layers, or of another version, or none at all.
    """
    if header.get("hello") != NAME or header.get("version") != VERSION:
        raise PeerError(
            f"speaks {shown(header.get('hello'))} {shown(header.get('version'))}; here it is "
            f"{NAME!r} {VERSION}. Use the same kq at both ends"
        )
    _check_net(header.get("net"), described(form, files))
    rule, aggregate = header.get("rule"), header.get("aggregate")
    thresholds = header.get("thresholds")
    if (
        not isinstance(rule, str)
        or rule not in RULES
        or aggregate not in NAMES
        or not isinstance(thresholds, list)
        or len(thresholds) != len(files) - 1
        or not all(_is_number(one) for one in thresholds)
    ):
        raise PeerError(
            f"asks for rule {shown(rule)}, thresholds {shown(thresholds)}, aggregate "
            f"{shown(aggregate)}; known are {', '.join(RULES)}; {', '.join(NAMES)}; and "
            f"{len(files) - 1} thresholds are needed"
        )
    if aggregate == CONCAT:
        _check_concat(header.get("concat"), concat)
    return Ending(
        rule=rule,
        thresholds=tuple(float(one) for one in thresholds),
        aggregate=str(aggregate),
        concat=concat if aggregate == CONCAT else "",
    )


def _check_concat(theirs: object, ours: str) -> None:
    """Raises: PeerError: layers differ, or there are none here."""
    if not ours or theirs != ours:
        what = f" with other layers than those of {FILE_NAME} here, by SHA-256"
        raise PeerError(
            f"asks for {CONCAT}{what if ours else f', and here is no {FILE_NAME}'}. Copy "
            f"{FILE_NAME} of the run that asks into the run that is served, and serve it again"
        )


def _check_net(theirs: object, ours: Mapping[str, Any]) -> None:
    """Raises: PeerError: the nets differ; says where."""
    if theirs == ours:
        return
    remedy = "Copy the run that is served here to the machine that asks, or serve that one"
    if not isinstance(theirs, dict) or not isinstance(theirs.get("files"), list):
        raise PeerError(f"does not say which net it has. {remedy}")
    if theirs.get("format") != ours["format"]:
        raise PeerError(
            f"asks for stages of {shown(theirs.get('format'))}; those here are of "
            f"{ours['format']}. Give both ends the same --format"
        )
    if theirs["files"] != ours["files"]:
        unlike = [
            place
            for place, sha256 in enumerate(ours["files"], start=1)
            if theirs["files"][place - 1 : place] != [sha256]
        ]
        which = f"stages {', '.join(map(str, unlike))} differ" if unlike else "it has more stages"
        raise PeerError(f"has another net: {which} from those here, by SHA-256. {remedy}")
    raise PeerError(
        "has the same files, but its stages.json tells of other codes than that here. Copy "
        "stages.json from one machine to the other"
    )


def welcome(first: int) -> dict[str, Any]:
    """What the one who answers says first; first: the stage that it goes on with, from 1 on."""
    return {"welcome": NAME, "first": first}


def read_welcome(header: Mapping[str, Any], *, who: str, stages: int) -> int:
    """Reads what was answered to a hello.

    Returns: the stage that the other one goes on with, from 1 on.
    Raises:
        PeerError: it was refused, or is something else.
    """
    if isinstance(header.get("refused"), str):
        raise PeerError(f"{who}: refuses: this machine {printable(header['refused'])}")
    first = header.get("first")
    if header.get("welcome") != NAME or type(first) is not int or not 1 < first <= stages:
        raise PeerError(f"{who}: is no kq anytime serve of a net of {stages} stages")
    return first


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ask:
    """One image.

    Attributes:
        number: comes back with the answer.
        within_ms: how much time there is.
        packed: uint8 (views, bytes), see `packing`.
        is_try: whether it only shows how long an answer takes, and is none of the images.
    """

    number: int
    within_ms: float
    packed: np.ndarray
    is_try: bool = False


def ask_header(number: int, within_ms: float, *, is_try: bool = False) -> dict[str, Any]:
    """The header of an `Ask`."""
    header = {"ask": number, "within_ms": within_ms if math.isfinite(within_ms) else None}
    return {**header, "try": True} if is_try else header


def read_ask(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], size: int) -> Ask:
    """Reads an image.

    Args:
        size: bytes of a view.
    Raises:
        PeerError: it is none.
    """
    number, within_ms, packed = header.get("ask"), header.get("within_ms"), arrays.get("codes")
    is_try = header.get("try", False)
    if (
        type(number) is not int
        or packed is None
        or packed.dtype != np.uint8
        or packed.ndim != 2
        or packed.shape[1] != size
        or not 1 <= len(packed) <= MOST_VIEWS
        or not (within_ms is None or _is_number(within_ms))
        or type(is_try) is not bool
    ):
        raise PeerError(f"asks for something else than an image of {size} bytes a view")
    within = math.inf if within_ms is None else float(within_ms)
    return Ask(number=number, within_ms=within, packed=packed, is_try=is_try)


def reply_header(number: int, reply: Reply) -> dict[str, Any]:
    """The header of an answer; its array is `scores`."""
    return {
        "answer": number,
        "exit": reply.exit,
        "reason": reply.reason,
        "took_ms": reply.took_ms,
        "sent_bytes": list(reply.sent_bytes),
        "note": reply.note,
    }


def read_reply(
    header: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    *,
    who: str,
    exits: range,
    classes: int,
) -> Reply:
    """Reads an answer.

    Args:
        exits: that it may be of.
    Raises:
        PeerError: it is none, or says what went wrong.
    """
    if isinstance(header.get("failed"), str):
        raise PeerError(f"{who}: {printable(header['failed'])}")
    scores, sent, took_ms = arrays.get("scores"), header.get("sent_bytes"), header.get("took_ms")
    note = header.get("note")
    if (
        scores is None
        or scores.dtype != np.float32
        or scores.shape != (classes,)
        or type(header.get("exit")) is not int
        or header["exit"] not in exits
        or header.get("reason") not in REASONS
        or took_ms is None
        or not _is_number(took_ms)
        or not isinstance(sent, list)
        or len(sent) >= len(exits)
        or not all(type(one) is int and one >= 0 for one in sent)
        or not isinstance(note, str)
    ):
        raise PeerError(f"{who}: answers something else than {classes} scores of a later exit")
    return Reply(
        logits=scores,
        exit=header["exit"],
        reason=header["reason"],
        took_ms=float(took_ms),
        sent_bytes=tuple(sent),
        note=printable(note),
    )


def _is_number(value: object) -> bool:
    if type(value) is int:
        return value.bit_length() <= sys.float_info.mant_dig
    return isinstance(value, float) and math.isfinite(value)
