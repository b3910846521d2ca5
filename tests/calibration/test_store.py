from __future__ import annotations

import dataclasses
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.calibration.collect import Statistics  # noqa: E402
from keras_quant.calibration.statistics import ImageRanges, observe  # noqa: E402
from keras_quant.calibration.store import load_statistics, save_statistics  # noqa: E402
from keras_quant.errors import DataError  # noqa: E402
from keras_quant.files import FileError  # noqa: E402
from keras_quant.qparams import unsigned  # noqa: E402

VALUES = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
STATISTICS = Statistics(
    model="0123",
    images=50,
    fresh=True,
    tensors={"conv1": observe(VALUES), "block/añadir": observe(VALUES * 9, per_channel=True)},
    pixels=unsigned(8, 1 / 255),
    scales={"conv1": np.array([0.5, 1.0, 3.0])},
)


def assert_equal(a: Statistics, b: Statistics) -> None:
    assert (a.model, a.images, a.fresh) == (b.model, b.images, b.fresh)
    grids = [None if s.pixels is None else dataclasses.astuple(s.pixels) for s in (a, b)]
    assert grids[0] == grids[1]
    assert list(a.tensors) == list(b.tensors)
    np.testing.assert_equal(dict(a.scales), dict(b.scales))
    for x, y in zip(a.tensors.values(), b.tensors.values(), strict=True):
        assert (x.channels is None) == (y.channels is None)
        np.testing.assert_equal(dataclasses.asdict(x), dataclasses.asdict(y))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_statistics(STATISTICS, tmp_path / "statistics.npz")
    return tmp_path / "statistics.npz"


def test_statistics_survive_the_round_trip(file: Path) -> None:
    assert_equal(load_statistics(file), STATISTICS)
    none = dataclasses.replace(STATISTICS, tensors={}, pixels=None)
    save_statistics(none, file)
    assert_equal(load_statistics(file), none)


def test_file_of_the_version_without_ranges_of_images_is_read(file: Path) -> None:
    changed(file, "about", lambda about: np.char.replace(about, '_version": 2', '_version": 1'))
    changed(file, "ranges", lambda ranges: None)
    found = load_statistics(file).tensors
    assert all(tensor.ranges == ImageRanges() for tensor in found.values())


def changed(file: Path, name: str, change: Callable[[np.ndarray], object]) -> None:
    with np.load(file) as archive:
        arrays = dict(archive)
    arrays[name] = change(arrays[name])
    np.savez(file, **{name: array for name, array in arrays.items() if array is not None})


@pytest.mark.parametrize(
    ("name", "change", "helpful"),
    [
        ("about", lambda about: None, "damaged .*about"),
        ("about", lambda about: np.array("[]"), "about is no object"),
        ("about", lambda about: np.array("{"), "damaged"),
        ("about", lambda about: np.array("[" * 50_000), "damaged"),
        ("whole", lambda whole: whole * np.inf, "damaged"),
        ("about", lambda about: np.char.replace(about, '"0123"', "7"), "model: is 7; a text"),
        (
            "about",
            lambda about: np.char.replace(about, '"format_version": 2', '"format_version": 3'),
            "format 3; this kq reads up to 2",
        ),
        ("about", lambda about: np.char.replace(about, '"qmax": 255', '"qmax": 999'), "damaged"),
        ("bins", lambda bins: bins[:1], "damaged"),
        ("ranges", lambda ranges: ranges * np.nan, "ranges of images are no such numbers"),
        ("ranges", lambda ranges: ranges[:, :2], "damaged"),
        ("scales/0", lambda scale: -scale, "scales of channels 0 are no such numbers"),
        ("scales/0", lambda scale: None, "damaged"),
        ("bins", lambda bins: bins[:, 1:], "counts of tensor 0 contradict"),
        ("bins", lambda bins: bins.astype(float), "counts of tensor 0 contradict"),
        ("bins", lambda bins: bins + 1, "counts of tensor 0 contradict"),
        ("moments", lambda moments: moments * np.nan, "moments of 1 channels"),
        ("moments", lambda moments: moments[:, ::-1], "moments of 1 channels"),
        ("whole", lambda whole: whole + [0, 0, 1000], "counts of tensor 0 contradict"),
        ("whole", lambda whole: whole[:, :2], "damaged"),
        ("channels/1", lambda rows: rows[:3], "damaged"),
        ("channels/1", lambda rows: np.tile(rows, 3)[:, :7], "moments of 7 channels"),
        ("channels/1", lambda rows: rows[:, :0], "moments of 0 channels"),
        ("channels/1", lambda rows: rows * np.inf, "moments of 3 channels"),
    ],
)
def test_damaged_file_is_refused_with_what_is_wrong(
    file: Path, name: str, change: Callable[[np.ndarray], object], helpful: str
) -> None:
    changed(file, name, change)
    with pytest.raises(DataError, match=rf"statistics\.npz: .*{helpful}.*Remove it, or leave out"):
        load_statistics(file)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half", b"\x93NUMPY", b"no archive at all"])
def test_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"s\.npz: is no whole \.npz file"):
        load_statistics(tmp_path / "s.npz")


def test_cut_file_is_refused(file: Path) -> None:
    content = file.read_bytes()
    for length in range(0, len(content), len(content) // 20):
        file.write_bytes(content[:length])
        with pytest.raises(DataError, match="Remove it"):
            load_statistics(file)


def test_array_alone_and_pickles_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", VALUES)
    np.savez(tmp_path / "s.npz", about=np.array([{}], object))
    for name in ("s.npy", "s.npz"):
        with pytest.raises(DataError, match="no whole .npz file"):
            load_statistics(tmp_path / name)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"absent\.npz: no such file; give the statistics\.npz of a run"
    ):
        load_statistics(tmp_path / "absent.npz")


def test_no_room_leaves_the_old_file(file: Path) -> None:
    before = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(FileError, match="Files may not be that large there"):
            save_statistics(STATISTICS, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]
