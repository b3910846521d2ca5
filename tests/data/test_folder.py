from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_quant.data.folder import read_folder
from keras_quant.errors import DataError


def save_image(path: Path, *, mode: str = "RGB", size: tuple[int, int] = (6, 4)) -> None:
    """A (width, height) image whose pixels are all 200."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.full((size[1], size[0], 3), 200, np.uint8)
    Image.fromarray(array).convert(mode).save(path)


def save_class(folder: Path, count: int, *, mode: str = "RGB") -> None:
    for number in range(count):
        save_image(folder / f"{number}.png", mode=mode)


def test_classes_are_numbered_by_name_and_a_fifth_is_test(tmp_path: Path) -> None:
    save_class(tmp_path / "dog", 10)
    save_class(tmp_path / "cat", 10)
    arrays = read_folder(tmp_path)
    assert arrays["class_names"].tolist() == ["cat", "dog"]
    assert arrays["x_train"].shape == (16, 4, 6, 3) and arrays["x_train"].dtype == np.uint8
    assert sorted(arrays["y_test"]) == [0, 0, 1, 1]


def test_own_parts_are_kept_apart(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("validation", 2), ("test", 1)):
        for name in ("cat", "dog"):
            save_class(tmp_path / part / name, count)
    arrays = read_folder(tmp_path)
    assert [len(arrays[f"x_{part}"]) for part in ("train", "val", "test")] == [6, 4, 2]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("plane", "train"):
        save_class(tmp_path / name, 5)
    assert read_folder(tmp_path)["class_names"].tolist() == ["plane", "train"]


def test_grey_only_if_all_are_grey(tmp_path: Path) -> None:
    save_class(tmp_path / "cat", 5, mode="L")
    save_class(tmp_path / "dog", 5, mode="1")
    assert read_folder(tmp_path)["x_train"].shape[-1] == 1
    save_image(tmp_path / "dog" / "colour.png")
    x = read_folder(tmp_path)["x_train"]
    assert x.shape[-1] == 3
    # Grey becomes equal red, green and blue; dithering to mode "1" made its pixels 0 or 255.
    assert set(np.unique(x)) <= {0, 200, 255} and (x == x[..., :1]).all()


def test_images_are_resized_to_the_first_or_the_given_size(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        save_class(tmp_path / name, 4)
    save_image(tmp_path / "dog" / "large.jpg", size=(60, 40))
    assert read_folder(tmp_path)["x_train"].shape[1:] == (4, 6, 3)
    assert read_folder(tmp_path, image_size=(9, 8))["x_train"].shape[1:] == (9, 8, 3)


def test_images_are_turned_as_their_exif_data_says(tmp_path: Path) -> None:
    save_class(tmp_path / "cat", 5)
    save_class(tmp_path / "dog", 5)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn a quarter clockwise
    Image.new("RGB", (6, 4)).save(tmp_path / "cat" / "0.png", exif=exif)
    assert read_folder(tmp_path)["x_train"].shape[1:] == (6, 4, 3)


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    save_class(tmp_path / "train" / "cat", 3)
    (tmp_path / "train" / "dog").mkdir()
    save_class(tmp_path / "test" / "cta", 1)
    (tmp_path / "test" / "cat").mkdir()
    (tmp_path / "test" / "cat" / "0.gif").write_bytes(b"GIF")
    (tmp_path / "train" / "cat" / "broken.png").write_bytes(b"\x89PNG")
    Image.new("I;16", (6, 4)).save(tmp_path / "train" / "cat" / "deep.png")
    with pytest.raises(DataError) as caught:
        read_folder(tmp_path)
    message = str(caught.value)
    assert len(message.splitlines()) == 5
    assert "train/dog: has no images" in message
    assert "test/cta: the training images have no such class; close names: cat" in message
    assert "test/cat: 1 entries are no PNG, JPEG, BMP, WebP or TIFF, the first is 0.gif" in message
    assert "train/cat/broken.png: cannot be read as an image" in message
    assert "mode is I;16; 8 bits a channel are allowed" in message


def test_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds nothing; put PNG, .*, one subfolder a class"):
        read_folder(tmp_path)


def test_too_few_images_for_a_test_part_is_told(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        save_class(tmp_path / name, 1)
    with pytest.raises(DataError, match="x_test: is empty"):
        read_folder(tmp_path)


def test_long_list_of_problems_is_cut(tmp_path: Path) -> None:
    save_class(tmp_path / "cat", 1)
    (tmp_path / "dog").mkdir()
    for number in range(30):
        (tmp_path / "dog" / f"{number}.png").touch()
    with pytest.raises(DataError, match="and 20 more problems"):
        read_folder(tmp_path)


@pytest.mark.parametrize("validation", ["val", "valid", "Validation", "dev"])
@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Training", "testing")])
def test_parts_may_have_other_names(tmp_path: Path, train: str, validation: str, test: str) -> None:
    for part, count in ((train, 3), (validation, 2), (test, 1)):
        for name in ("cat", "dog"):
            save_class(tmp_path / part / name, count)
    arrays = read_folder(tmp_path)
    assert [len(arrays[f"x_{part}"]) for part in ("train", "val", "test")] == [6, 4, 2]


def test_folders_that_are_no_part_or_one_part_twice_are_told(tmp_path: Path) -> None:
    for part in ("train", "val", "valid", "tset"):
        for name in ("cat", "dog"):
            save_class(tmp_path / part / name, 2)
    with pytest.raises(DataError) as caught:
        read_folder(tmp_path)
    assert "val and valid are names of one part; keep one" in str(caught.value)
    assert "tset: is no part; close names: test, testing; rename it" in str(caught.value)


def test_a_folder_that_is_no_part_is_left_out_and_it_is_said(tmp_path: Path) -> None:
    for part in ("train", "test", "docs"):
        for name in ("cat", "dog"):
            save_class(tmp_path / part / name, 2)
    said: list[str] = []
    assert len(read_folder(tmp_path, say=said.append)["x_train"]) == 4
    assert said == ["docs/ is no part of the set, and is left out"]


def test_parts_without_a_training_part_are_no_classes(tmp_path: Path) -> None:
    for part in ("val", "test"):
        for name in ("cat", "dog"):
            save_class(tmp_path / part / name, 2)
    with pytest.raises(DataError, match="holds test, val, but no train|holds val, test, but no"):
        read_folder(tmp_path)


def test_a_folder_around_the_set_is_told(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        save_class(tmp_path / "images" / name, 2)
    with pytest.raises(DataError, match="found: images. images/ has several: is that the folder"):
        read_folder(tmp_path)


def test_images_in_folders_of_a_class_are_the_classs_and_it_is_said(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        save_class(tmp_path / name / "images", 5)
    save_class(tmp_path / "dog" / "more" / "yet", 5)
    said: list[str] = []
    arrays = read_folder(tmp_path, say=said.append)
    assert arrays["class_names"].tolist() == ["cat", "dog"]
    assert len(arrays["x_train"]) + len(arrays["x_test"]) == 15
    assert said == ["2 classes hold folders, whose images are theirs; the first is cat"]


@pytest.mark.parametrize("ending", ["bmp", "webp", "tif", "TIFF", "JPG"])
def test_other_kinds_of_images_are_read(tmp_path: Path, ending: str) -> None:
    for name in ("cat", "dog"):
        for number in range(5):
            save_image(tmp_path / name / f"{number}.{ending}")
    x = read_folder(tmp_path)["x_train"]
    assert x.shape == (8, 4, 6, 3) and (np.abs(x.astype(int) - 200) <= 1).all()


def test_images_of_other_sizes_are_told(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        save_class(tmp_path / name, 5)
    said: list[str] = []
    read_folder(tmp_path, say=said.append)
    assert said == []
    save_image(tmp_path / "dog" / "large.png", size=(60, 40))
    save_image(tmp_path / "dog" / "small.png", size=(2, 3))
    read_folder(tmp_path, say=said.append)
    assert said == [
        "images are of 3 sizes, 3x2 to 40x60; all are resized to 4x6 (height x width), that of "
        "the first, cat/0.png"
    ]
    read_folder(tmp_path, image_size=(8, 8), say=said.append)
    assert len(said) == 1  # who asks for a size need not be told


def save_deep(path: Path, color: int, channels: int) -> None:
    """A PNG of 2x2 pixels of 16 bits a channel, which Pillow cannot write: RFC 2083, chapter 11."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    rows = b"".join(b"\0" + bytes([15, 160]) * 2 * channels for _ in range(2))
    header = struct.pack(">IIBBBBB", 2, 2, 16, color, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("color", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_more_than_8_bits_a_channel_are_refused_whatever_the_colour(
    tmp_path: Path, color: int, channels: int
) -> None:
    for name in ("cat", "dog"):
        save_class(tmp_path / name, 5)
    save_deep(tmp_path / "dog" / "deep.png", color, channels)
    with pytest.raises(DataError, match=r"dog/deep.png: .*;16.*; 8 bits a channel are allowed"):
        read_folder(tmp_path)


def test_tiffs_of_16_bits_and_of_several_pages_are_refused(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        save_class(tmp_path / name, 5)
    page = Image.new("L", (6, 4))
    page.save(tmp_path / "cat" / "pages.tif", save_all=True, append_images=[page, page])
    Image.fromarray(np.full((4, 6), 4000, np.uint16)).save(tmp_path / "dog" / "deep.tif")
    with pytest.raises(DataError) as caught:
        read_folder(tmp_path)
    assert "cat/pages.tif: cannot be read as an image (holds 3 images" in str(caught.value)
    assert "dog/deep.tif: cannot be read as an image (mode is I;16" in str(caught.value)
