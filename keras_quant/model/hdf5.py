"""What in an HDF5 file is kept elsewhere.

HDF5 lets a file name others, whose bytes are then read as if they were its own: those of any file
that the user may read would become weights, and go on into what is exported of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import h5py


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is in a file.

    Attributes:
        outside: what of it lies in other files, one sentence for each finding, with the name of
            the group or dataset; Keras writes no such file.
        elements: how many numbers its datasets have, together.
        claimed_bytes: how many bytes these are once they are read, whatever is in the file.
    """

    outside: tuple[str, ...]
    elements: int
    claimed_bytes: int


def content_of(file: h5py.File) -> Content:
    """Looks at all that is in a file, without reading its numbers."""
    found = list(walk(file))
    datasets = [item for _, item in found if isinstance(item, h5py.Dataset)]
    sizes = [dataset.size or 0 for dataset in datasets]
    items = [dataset.dtype.itemsize for dataset in datasets]
    return Content(
        outside=tuple(problem for name, item in found for problem in _outside(name, item)),
        elements=sum(sizes),
        claimed_bytes=sum(size * item for size, item in zip(sizes, items, strict=True)),
    )


def walk(group: h5py.Group, inside: str = "") -> Iterator[tuple[str, object]]:
    """Goes through a file without following what leads out of it.

    Soft links are left out: they name what lies in the same file, which is come by anyway.

    Yields: name and what it stands for: an h5py.Dataset or Group, once each; for a link that
        leads elsewhere, its h5py.ExternalLink; None for a kind of link that h5py does not know.
    """
    seen = set()
    waiting = [(inside, group)]
    while waiting:
        inside, group = waiting.pop()
        for name in group:
            path = f"{inside}/{name}"
            try:
                link = group.get(name, getlink=True)
            except TypeError:
                yield path, None
                continue
            if isinstance(link, h5py.ExternalLink):
                yield path, link
            if not isinstance(link, h5py.HardLink):
                continue
            found = group[name]
            address = h5py.h5o.get_info(found.id).addr
            if address in seen:  # a group may hold itself
                continue
            seen.add(address)
            yield path, found
            if isinstance(found, h5py.Group):
                waiting.append((path, found))


def _outside(name: str, found: object) -> Iterator[str]:
    if found is None:
        yield f"{name} is a link of a kind that is not known"
    elif isinstance(found, h5py.ExternalLink):
        yield f"{name} is an external link, to {found.path} in {found.filename}"
    elif isinstance(found, h5py.Dataset):
        if found.external:
            files = ", ".join(dict.fromkeys(file for file, _, _ in found.external))
            yield f"{name} has external storage, in {files}"
        if found.is_virtual:
            files = ", ".join(dict.fromkeys(s.file_name for s in found.virtual_sources()))
            yield f"{name} is a virtual dataset, of {files}"
