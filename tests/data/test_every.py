"""All images of a path are read in order, each with the name of its file or place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_quant.data.every import read_every
from keras_quant.errors import DataError


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(path)


def test_a_folder_of_classes_gives_files_and_labels(tmp_path: Path) -> None:
    for place, name in enumerate(["cat/a.png", "cat/b.png", "dog/a.png"]):
        picture(tmp_path / name, place)
    found = read_every(tmp_path)
    assert found.names == ("cat/a.png", "cat/b.png", "dog/a.png")
    assert found.x[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert found.y.tolist() == [0, 0, 1]
    assert (found.class_names, found.num_classes) == (("cat", "dog"), 2)


def test_images_beside_the_classes_are_read_without_a_label(tmp_path: Path) -> None:
    names = ["cat/a.png", "dog/a.png", "stray.png"]
    for place, name in enumerate(names):
        picture(tmp_path / name, place)
    (tmp_path / "notes.txt").touch()
    found = read_every(tmp_path)
    assert found.names == tuple(names) and found.y.tolist() == [0, 1, -1]
    parts = [f"{part}/{name}" for part in ("other", "train") for name in names[:2]]
    for name in parts:
        picture(tmp_path / "parts" / name, 0)
    found = read_every(tmp_path / "parts")
    assert found.names == tuple(parts) and found.y.tolist() == [-1, -1, 0, 1]


@pytest.mark.parametrize("names", [["a.png", "b.png"], ["one/a.png"], ["a.png", "x/b.png"]])
def test_any_other_folder_gives_files_alone(tmp_path: Path, names: list[str]) -> None:
    for place, name in enumerate(names):
        picture(tmp_path / name, place)
    found = read_every(tmp_path, image_size=(2, 2))
    assert found.names == tuple(names) and found.x.shape == (len(names), 2, 2, 1)
    assert (found.class_names, found.num_classes) == ((), 0)
    assert set(found.y.tolist()) == {-1}


def test_arrays_are_named_by_part_and_place(tmp_path: Path) -> None:
    x = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)
    np.save(tmp_path / "x.npy", x)
    found = read_every(tmp_path / "x.npy")
    assert found.names[-1] == "x_train[4]" and found.x.ravel().tolist() == [0, 1, 2, 3, 4]
    y = np.array([0, 1, 0, 1, 1])
    np.savez(tmp_path / "x.npz", x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])
    found = read_every(tmp_path / "x.npz")
    assert found.names[4:7] == ("x_train[4]", "x_test[0]", "x_test[1]")
    assert (found.y.tolist(), found.num_classes) == ([0, 1, 0, 1, 1, 0, 1], 2)


def test_what_holds_no_images_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no images"):
        read_every(tmp_path)
    with pytest.raises(DataError, match="no such folder, and no .npz or .npy file; .*: mnist"):
        read_every(Path("mnst"))
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"a\.png: cannot be read as an image"):
        read_every(tmp_path)
