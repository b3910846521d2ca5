"""Writes files that were tried: those that failed keep another name, and parity.json comes last."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_quant.errors import ParityError
from keras_quant.files import remove, sweep, write_together
from keras_quant.graph.store import pack_graph
from keras_quant.json_codec import to_json
from keras_quant.proof.formats import Format
from keras_quant.proof.gate import Proven
from keras_quant.proof.keras_answers import Values
from keras_quant.proof.parity import Parity
from keras_quant.proof.record import (
    PARITY_NAME,
    UNFINISHED,
    Record,
    digest,
    is_recorded,
    read_records,
    read_unfinished,
)
from keras_quant.runs import GRAPH_NAME, locked

SAMPLES = 8  # images that go with a file to a board


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A file that passed the gate.

    Attributes:
        format: a key of formats.FORMATS.
        path: the file; where it has a folder of its own, that holds all that a board needs.
        size_bytes: its length.
        scores: what its answers are worth.
        parity: the comparison with the reference, and with Keras.
    """

    format: str
    path: Path
    size_bytes: int
    scores: Values
    parity: Parity

    @property
    def accuracy(self) -> float | None:
        """That of the last classifier among the outputs, the whole net's; None without one."""
        found = (scores.get("accuracy") for scores in reversed(list(self.scores.values())))
        return next((value for value in found if value is not None), None)


def write_proven(
    proven: Proven,
    folder: Path,
    *,
    more: Mapping[str, Callable[[Path], None]] | None = None,
) -> tuple[Export, ...]:
    """Writes folder/model.* in each format, the graph, and at last folder/parity.json.

    All are written under other names before the first is renamed, so that an export that is there
    stays as it was where there is no room for the new one. What killed exports left is removed.

    Args:
        more: what else belongs to the export: names, and what writes to a path.
    Raises:
        ParityError: some files do not answer as the reference does; each is left under
            model.failed-parity.* beside parity.json, and an older model.* is removed.
        FileError: the folder cannot be written.
    """
    with locked(folder, wait=True):
        return _write(proven, folder, more or {})


def _write(
    proven: Proven, folder: Path, more: Mapping[str, Callable[[Path], None]]
) -> tuple[Export, ...]:
    sweep(folder)
    paths, made = {}, {}
    contents: dict[Path, bytes | Callable[[Path], None]] = {}
    for form, parity in proven.parities.items():
        name = form.file_name if parity.passed else form.failed_name
        paths[form] = folder / name
        contents[paths[form]] = proven.contents[form]
        contents |= _beside(proven, form, folder)
        made[form.name] = _record(name, proven, form)
    contents |= {folder / name: write for name, write in more.items()}
    contents[folder / GRAPH_NAME] = pack_graph(proven.snap.graph)
    new = {str(record["file"]): str(record["sha256"]) for record in made.values()}
    records = _other_records(folder, made) | made | _unfinished(folder, but=new)
    contents[folder / PARITY_NAME] = _parity_text(records)
    write_together(contents, meanwhile=_meanwhile(folder, new))
    for form, path in paths.items():
        for name in {form.file_name, form.failed_name} - {str(path.relative_to(folder))}:
            remove(folder / name)
    failed = [_failure(paths[f], p) for f, p in proven.parities.items() if not p.passed]
    if failed:
        raise ParityError("\n".join(failed))
    return tuple(
        Export(
            format=form.name,
            path=paths[form],
            size_bytes=len(proven.contents[form]),
            scores=proven.scores[form],
            parity=parity,
        )
        for form, parity in proven.parities.items()
    )


def _meanwhile(folder: Path, new: Mapping[str, str]) -> dict[Path, bytes]:
    """What parity.json says while files are replaced, so that it is true whenever a kill comes.

    Nothing of the files that change; these are named as ours, so that the next export takes them.

    Args:
        new: digests of the files that are about to be written, by name.
    """
    known = read_records(folder)
    if new.items() <= {record["file"]: record["sha256"] for record in known.values()}.items():
        return {}
    kept = {n: r for n, r in known.items() if new.get(r["file"], r["sha256"]) == r["sha256"]}
    replaced = [*(known[name] for name in known.keys() - kept.keys()), *read_unfinished(folder)]
    ours = [
        *((record["file"], record["sha256"]) for record in replaced if is_recorded(folder, record)),
        *new.items(),
    ]
    entries = [{"file": file, "sha256": sha256} for file, sha256 in dict.fromkeys(ours)]
    return {folder / PARITY_NAME: _parity_text({**kept, UNFINISHED: entries})}


def _unfinished(folder: Path, *, but: Mapping[str, str]) -> dict[str, list[Record]]:
    """What is left of an export that was killed, and is not replaced now."""
    left = [
        entry
        for entry in read_unfinished(folder)
        if entry["file"] not in but and is_recorded(folder, entry)
    ]
    return {UNFINISHED: left} if left else {}


def _parity_text(records: Mapping[str, object]) -> bytes:
    return f"{to_json(records)}\n".encode()


def foreign_files(folder: Path, formats: Sequence[Format]) -> list[Path]:
    """The files that an export would replace though no proof in the folder says they are ours."""
    known = [*read_records(folder).values(), *read_unfinished(folder)]
    ours = {record["file"] for record in known if is_recorded(folder, record)}
    names = [form.file_name for form in formats]
    return [folder / name for name in names if (folder / name).exists() and name not in ours]


def _beside(proven: Proven, form: Format, folder: Path) -> dict[Path, bytes]:
    """What belongs beside a file that passed."""
    package = form.definition.package
    if package is None or not proven.parities[form].passed:
        return {}
    graph, evidence = proven.snap.graph, proven.evidence
    images = evidence.images[:SAMPLES]
    made = package(
        graph,
        model=proven.contents[form],
        samples=evidence.inputs(graph, images),
        pixels={graph.inputs[0]: images} if evidence.has_pixels else None,
        preprocessing=evidence.preprocessing,
        labels=evidence.labels_of_first,
        scheme=evidence.scheme,
    )
    return {folder / form.folder / name: content for name, content in made.items()}


def _record(name: str, proven: Proven, form: Format) -> dict[str, object]:
    snap, content = proven.snap, proven.contents[form]
    snapping = {
        "layers": snap.layers,
        "channels": snap.channels,
        "channels_moved": snap.moved,
        "largest_shift_steps": snap.largest_shift_steps,
        "moved_from_given": [dataclasses.asdict(shift) for shift in proven.keras.shifts],
    }
    return {
        "file": name,
        "sha256": digest(content),
        "size_bytes": len(content),
        "scores": proven.scores[form],
        "keras_scores": proven.keras.scores,
        "given_scores": proven.keras.given_scores,
        "bias_snapping": snapping,
        **dataclasses.asdict(proven.parities[form]),
    }


def _other_records(folder: Path, made: Mapping[str, object]) -> dict[str, object]:
    """The proofs of formats that are not exported now, whose files are still there."""
    return {
        name: record
        for name, record in read_records(folder).items()
        if name not in made and (folder / record["file"]).exists()
    }


def _failure(path: Path, parity: Parity) -> str:
    first = f", first in layer {parity.first_different}" if parity.first_different else ""
    return (
        f"{path}: the file does not answer as the model does{first}: "
        f"{'; '.join(parity.failures)}. See {PARITY_NAME} beside it"
    )
