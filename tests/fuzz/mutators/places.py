"""Damage to files and folders: to what lies at a path, whatever is in it."""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.fuzz.mutators.raw import Mutator, damage_bytes

Damage = Callable[[Path, Random], None]
"""Changes what lies at a path."""

_HUGE_SIDE = 60_000  # pixels; Pillow refuses images of that size


def of_file(mutator: Mutator) -> Damage:
    """Damage to a file: to its content, or now and then to it as a whole."""

    def damage(path: Path, chance: Random) -> None:
        if chance.random() < 0.05:
            chance.choice(_WHOLE)(path)
            return
        content = path.read_bytes()
        chosen = mutator if chance.random() < 0.75 else damage_bytes
        path.write_bytes(chosen(content, chance))

    return damage


def _missing(path: Path) -> None:
    path.unlink()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("text")


def _a_link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _a_link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


_WHOLE = (_missing, _empty, _a_folder, _a_link_to_nothing, _a_link_to_itself)


def damage_images(folder: Path, chance: Random) -> None:
    """Damage to a folder of images, with a folder a class."""
    for _ in range(chance.choice([1, 1, 2])):
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        classes = sorted(path for path in folder.iterdir() if path.is_dir())
        if files and classes:
            chance.choice(_OF_FOLDERS)(chance.choice(files), chance.choice(classes), chance)


def _bytes_of(file: Path, inside: Path, chance: Random) -> None:
    file.write_bytes(damage_bytes(file.read_bytes(), chance))


def _without_class(file: Path, inside: Path, chance: Random) -> None:
    shutil.rmtree(inside)


def _without_images(file: Path, inside: Path, chance: Random) -> None:
    for other in inside.iterdir():
        other.unlink() if other.is_file() else shutil.rmtree(other)


def _text_as_image(file: Path, inside: Path, chance: Random) -> None:
    (inside / chance.choice(["a.png", "a.txt", "a.gif", ".a", "Thumbs.db"])).write_text("text")


def _huge_image(file: Path, inside: Path, chance: Random) -> None:
    sides = chance.choice([(_HUGE_SIDE, _HUGE_SIDE), (0, 5), (1, 30_000)])
    (inside / "huge.png").write_bytes(_png(*sides, bits=8))


def _wide_image(file: Path, inside: Path, chance: Random) -> None:
    (inside / "wide.png").write_bytes(_png(8, 8, bits=16))


def _folder_as_image(file: Path, inside: Path, chance: Random) -> None:
    (inside / "folder.png").mkdir(exist_ok=True)


def _link(file: Path, inside: Path, chance: Random) -> None:
    target = chance.choice(["nowhere", "link.png", str(inside), ".."])
    link = inside / chance.choice(["link.png", "link"])
    if not link.is_symlink():
        link.symlink_to(target)


def _renamed(file: Path, inside: Path, chance: Random) -> None:
    name = chance.choice(["train", "test", "val", "é", "a b", " ", "validation", ".hidden"])
    if not (inside.parent / name).exists():
        inside.rename(inside.parent / name)


def _moved_up(file: Path, inside: Path, chance: Random) -> None:
    file.rename(inside.parent / f"up{file.suffix}")


def _class_as_file(file: Path, inside: Path, chance: Random) -> None:
    shutil.rmtree(inside)
    inside.write_bytes(b"text")


_OF_FOLDERS = (
    *(_bytes_of, _bytes_of, _without_class, _without_images, _text_as_image, _huge_image),
    *(_wide_image, _folder_as_image, _link, _renamed, _moved_up, _class_as_file),
)


def _png(width: int, height: int, *, bits: int) -> bytes:
    """A grey PNG that claims a size, and holds 64 pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    rows = zlib.compress(bytes(8 * (1 + 8 * bits // 8)))
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
