"""Reading image files as pixels of one size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
KINDS = "PNG, JPEG, BMP, WebP or TIFF"

Size = tuple[int, int]


def read_images(
    files: Sequence[Path], root: Path, size: Size | None, say: Callable[[str], None]
) -> tuple[np.ndarray, list[str]]:
    """Reads images as pixels: upright, of one size, and grey only if all of them are.

    Args:
        root: the folder that problems name files from.
        size: (height, width) of all images; None takes that of the first.
        say: is told where images of other sizes are resized to that of the first.
    Returns: uint8 (images, height, width, 1 or 3), and what is wrong with the files.
    """
    images: list[np.ndarray] = []
    sizes: set[Size] = set()
    problems, wanted = [], size
    for file in files:
        try:
            pixels = _read(file)
        # SyntaxError is what Pillow raises for a broken PNG chunk.
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            problems.append(f"{file.relative_to(root)}: cannot be read as an image ({error})")
            continue
        own = pixels.height, pixels.width
        wanted = wanted or own
        sizes.add(own)
        if own != wanted:
            pixels = pixels.resize(wanted[::-1], Image.Resampling.BILINEAR)
        images.append(np.asarray(pixels).reshape(*wanted, -1))
    if size is None and len(sizes) > 1 and wanted is not None:
        say(
            f"images are of {len(sizes):,} sizes, {_by(min(sizes))} to {_by(max(sizes))}; all are "
            f"resized to {_by(wanted)} (height x width), that of the first, "
            f"{files[0].relative_to(root)}"
        )
    channels = max((image.shape[-1] for image in images), default=1)
    x = np.empty((len(images), *(wanted or (0, 0)), channels), dtype=np.uint8)
    for index, image in enumerate(images):
        x[index] = image  # a grey one is repeated over the channels
    return x, problems


def _read(file: Path) -> Image.Image:
    """An image of 8 bits a channel, grey or RGB, turned as its EXIF data says.

    Raises:
        ValueError: it has more bits, or there are several in the file.
    """
    with Image.open(file) as image:
        bits = _wide_bits(image)
        if bits:
            raise ValueError(
                f"mode is {bits}; 8 bits a channel are allowed: bring it to the range that "
                "matters, or give floats in a .npz file"
            )
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise ValueError(f"holds {frames} images; one a file is allowed")
        grey = image.mode in ("1", "L", "LA")
        return ImageOps.exif_transpose(image).convert("L" if grey else "RGB")


def _wide_bits(image: Image.Image) -> str:
    """How Pillow calls more than 8 bits a channel; "" for 8.

    Of a grey image it keeps them, and would clip them to 8 bits; of a coloured one it takes the
    upper 8 without a word.
    """
    if image.mode[0] in "IF":
        return image.mode
    tiles = getattr(image, "tile", [])  # of what was opened from a file
    stored = str(tiles[0].args) if tiles else ""
    return stored.strip("'") if ";16" in stored else ""


def _by(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
