from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from keras_quant.data.npz import read_npy, read_npz
from keras_quant.errors import DataError

Arrays = dict[str, np.ndarray]


def good_arrays() -> Arrays:
    """Six training and three test images of 4x5 grey pixels in three classes."""
    return {
        "x_train": np.arange(120, dtype=np.uint8).reshape(6, 4, 5),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": np.zeros((3, 4, 5), np.uint8),
        "y_test": np.array([[2], [1], [0]]),
    }


def save(folder: Path, arrays: Arrays) -> Path:
    path = folder / "set.npz"
    np.savez(path, **arrays)
    return path


def changed(**arrays: object) -> Arrays:
    return {**good_arrays(), **{name: np.asarray(array) for name, array in arrays.items()}}


def test_grey_images_get_a_channel_axis_and_labels_lose_theirs(tmp_path: Path) -> None:
    arrays = read_npz(save(tmp_path, good_arrays()))
    assert arrays["x_train"].shape == (6, 4, 5, 1) and arrays["x_train"].dtype == np.uint8
    assert arrays["y_test"].tolist() == [2, 1, 0]


def test_float64_images_become_float32(tmp_path: Path) -> None:
    floats = {name: good_arrays()[name] / 7 for name in ("x_train", "x_test")}
    arrays = read_npz(save(tmp_path, changed(**floats)))
    assert arrays["x_train"].dtype == np.float32
    assert arrays["x_train"][1, 0, 0, 0] == np.float32(20 / 7)


def test_class_names_may_name_a_class_without_images(tmp_path: Path) -> None:
    names = np.array(["ant", "bee", "cow", "dog"])
    assert read_npz(save(tmp_path, changed(class_names=names)))["class_names"].tolist()[3] == "dog"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (changed(y_train=[0, 1, 2, 0, 1, 9]), "highest label is 9 but no image has label 3"),
        (changed(y_train=[0, 1, 2, 0, 1, -1]), "y_train: 1 labels are outside .* first is -1"),
        (changed(y_train=[0] * 6), r"has the labels \[0\]; two classes"),
        (changed(y_test=[0, 3, 1]), "classes 0 to 2, the first is 3 at position 1"),
        (changed(y_test=[0.0, 1.0, 2.0]), "y_test: dtype is float64; integer"),
        (changed(y_test=np.ones((3, 3), int)), r"y_test: shape is \(3, 3\); .* a single one are"),
        (
            changed(y_train=np.eye(3, dtype=int)[[0, 1, 2, 0, 1, 2]], y_test=np.eye(4)[:3]),
            r"y_test: .*float64",
        ),
        (changed(x_valid=np.zeros((3, 4, 5)), x_dev=0), "x_valid and x_dev are names of one"),
        (changed(y_test=[0, 1]), "x_test has 3 images but y_test has 2 labels"),
        (changed(x_train=np.zeros((6, 2, 2, 2, 2))), r"x_train: shape .*\(vectors, features\) is"),
        (changed(x_train=np.zeros((6, 20))), r"x_test: images are \(4, 5, 1\) uint8; those of"),
        (changed(x_train=np.full((6, 2), np.inf)), "6 images hold NaN or infinity"),
        (changed(x_train=np.zeros((6, 4, 5), int)), "x_train: dtype is int64; uint8"),
        (changed(x_test=np.zeros((3, 4, 5))), "x_test: images are .*float32; those of x_train"),
        (changed(x_test=np.zeros((3, 5, 5), np.uint8)), r"x_test: images are \(5, 5, 1\)"),
        (changed(x_test=np.zeros((0, 4, 5), np.uint8)), "x_test: is empty"),
        (changed(x_test=np.uint8(3)), r"x_test: shape is \(\)"),
        (changed(x_train=np.full((6, 4, 5), np.nan)), "6 images hold NaN or infinity.*image 0"),
        (changed(x_train=np.full((6, 4, 5), "a")), "x_train: dtype is <U1"),
        (changed(y_test=np.array([0, 1, None])), "y_test: holds Python objects"),
        (changed(class_names=[1, 2, 3]), "class_names: a 1-D array of strings"),
        (changed(class_names=["ant"]), r"class_names: is \['ant'\]; two names or more"),
        (changed(class_names=["ant", "bee", "ant"]), "class_names: .* each once, are needed"),
        (changed(class_names=np.array([], "U1")), r"class_names: is \[\]; two names or more"),
        ({"x_train": np.uint8(3)}, r"x_train: shape is \(\)"),
        ({"x_train": np.zeros((0, 4, 5), np.uint8)}, "x_train: is empty"),
        ({"x_train": np.zeros((1, 4, 5), np.uint8)}, "x_test: is empty"),
        (changed(class_names=["ant", "bee"]), "outside the classes 0 to 1, the first is 2"),
        (changed(x_val=np.zeros((3, 4, 5), np.uint8)), "x_val and y_val go together"),
    ],
)
def test_bad_array_is_named(tmp_path: Path, arrays: Arrays, message: str) -> None:
    path = save(tmp_path, arrays)
    with pytest.raises(DataError, match=rf"set\.npz: .*{message}"):
        read_npz(path)


def test_missing_arrays_are_listed_with_those_that_are_there(tmp_path: Path) -> None:
    path = save(tmp_path, {"images": np.zeros(3), "y_test": np.zeros(3, int)})
    with pytest.raises(DataError, match="lacks x_train, y_train, x_test; it has images, y_test"):
        read_npz(path)


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    path = save(tmp_path, changed(y_test=[0, -1], x_train=np.full((6, 4, 5), np.inf)))
    with pytest.raises(DataError) as caught:
        read_npz(path)
    assert len(str(caught.value).splitlines()) == 3  # infinity, length, label


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def write_text(path: Path) -> None:
    path.write_text("no archive at all")


def flip_a_pixel(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("x_train.npy").header_offset
    content = bytearray(path.read_bytes())
    content[offset + 250] ^= 1  # past the headers of zip (31 to 75 bytes) and npy (128)
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


def write_foreign_member(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in good_arrays():
            archive.writestr(f"{name}.npy", "no array")


def mark_encrypted(path: Path) -> None:
    """Sets the flag in the archive's directory; nothing is encrypted."""
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 8] |= 1  # of the first member, x_train
    path.write_bytes(content)


def put_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def npy_claiming(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def claim_a_shape(path: Path) -> None:
    """More images than any machine has room for, and none in the file."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in good_arrays():
            archive.writestr(f"{name}.npy", npy_claiming((10**15, 4, 5)))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (mark_encrypted, "x_train: is damaged .*encrypted"),
        (put_a_folder, "is a folder"),
        (claim_a_shape, "x_train: is damaged"),
        (truncate, "not a complete .npz file"),
        (write_text, "not a complete .npz file"),
        (flip_a_pixel, "x_train: is damaged .*CRC"),
        (remove, "no such file"),
        (write_foreign_member, "y_test: is damaged"),
    ],
)
def test_damaged_file_is_told(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    path = save(tmp_path, good_arrays())
    spoil(path)
    with pytest.raises(DataError, match=message):
        read_npz(path)


@pytest.mark.parametrize("name", ["valid", "validation", "dev"])
def test_parts_may_have_other_names(tmp_path: Path, name: str) -> None:
    x, y = np.ones((2, 4, 5), np.uint8), np.array([0, 1])
    arrays = read_npz(save(tmp_path, changed(**{f"x_{name}": x, f"y_{name}": y})))
    assert arrays["x_val"].shape == (2, 4, 5, 1) and arrays["y_val"].tolist() == [0, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, bool])
def test_one_hot_labels_become_class_numbers_and_it_is_said(tmp_path: Path, dtype: type) -> None:
    hot = np.eye(4, dtype=dtype)  # a class of which there is no image
    labels = {"y_train": hot[[0, 1, 2, 0, 1, 2]], "y_test": hot[[2, 1, 0]]}
    said: list[str] = []
    arrays = read_npz(save(tmp_path, changed(**labels)), say=said.append)
    assert arrays["y_train"].tolist() == [0, 1, 2, 0, 1, 2]
    assert arrays["y_test"].tolist() == [2, 1, 0]
    assert said == [
        f"y_{part} is one-hot, ({count}, 4): the place of each 1 is the class number"
        for part, count in (("train", 6), ("test", 3))
    ]


@pytest.mark.parametrize("shape", [(3, 8, 9), (1, 7, 7)])
def test_channels_first_are_moved_to_the_end_and_it_is_said(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    x = np.random.default_rng(0).integers(0, 256, (6, *shape)).astype(np.uint8)
    said: list[str] = []
    arrays = read_npz(save(tmp_path, changed(x_train=x, x_test=x[:3])), say=said.append)
    assert np.array_equal(arrays["x_train"], x.transpose(0, 2, 3, 1))
    assert len(said) == 2 and said[0].startswith("x_train is (6, ") and "channels first" in said[0]


@pytest.mark.parametrize("shape", [(3, 4, 64), (1, 100, 8), (8, 8, 3), (5, 5, 16)])
def test_images_that_may_have_their_channels_last_stay_as_they_are(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    x = np.zeros((6, *shape), np.uint8)
    said: list[str] = []
    arrays = read_npz(save(tmp_path, changed(x_train=x, x_test=x[:3])), say=said.append)
    assert arrays["x_train"].shape == (6, *shape) and said == []


def test_vectors_are_left_as_they_are(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(6, 7))
    arrays = read_npz(save(tmp_path, changed(x_train=x, x_test=x[:3])))
    assert arrays["x_train"].dtype == np.float32 and arrays["x_train"].shape == (6, 7)


def npz_of_images() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, images=np.zeros((9, 4, 4), np.uint8))
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"no array", npz_of_images(), npy_claiming((10**15, 4, 4)), npy_claiming((-1, 4, 4))],
    ids=["empty", "text", "npz", "claims images", "negative"],
)
def test_what_is_no_array_of_images_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "images.npy").write_bytes(content)
    # numpy 2.2, the last for Python 3.10, takes a negative length for none.
    with pytest.raises(DataError, match=r"images\.npy: (is no whole array of|x_train: is empty)"):
        read_npy(tmp_path / "images.npy")
