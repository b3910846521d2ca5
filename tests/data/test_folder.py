from __future__ import annotations

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
    (tmp_path / "test" / "cat" / "0.bmp").write_bytes(b"BM")
    (tmp_path / "train" / "cat" / "broken.png").write_bytes(b"\x89PNG")
    Image.new("I;16", (6, 4)).save(tmp_path / "train" / "cat" / "deep.png")
    with pytest.raises(DataError) as caught:
        read_folder(tmp_path)
    message = str(caught.value)
    assert len(message.splitlines()) == 5
    assert "train/dog: has no images" in message
    assert "test/cta: the training images have no such class; close names: cat" in message
    assert "test/cat: 1 entries are neither PNG nor JPEG, the first is 0.bmp" in message
    assert "train/cat/broken.png: cannot be read as an image" in message
    assert "mode is I;16; 8 bits a channel are allowed" in message


def test_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two subfolders .* found: none"):
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
