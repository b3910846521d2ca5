from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from keras_quant.errors import RunError
from keras_quant.explain.record import FILE_NAME, Explained, Histogram, Maps, load, save
from keras_quant.explain.summary import summary
from tests.explain.explained import explained, histogram


def same(a: Explained, b: Explained) -> bool:
    pairs = [
        (getattr(x, name), getattr(y, name))
        for x, y in zip(a.histograms, b.histograms, strict=True)
        for name in Histogram.__slots__
    ]
    if a.maps is not None and b.maps is not None:
        pairs += [(getattr(a.maps, name), getattr(b.maps, name)) for name in Maps.__slots__]
    return (
        a.header == b.header
        and (a.maps is None) == (b.maps is None)
        and np.array_equal(a.confusion, b.confusion)
        and all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in pairs)
    )


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    save(explained(), tmp_path)
    assert same(load(tmp_path), explained())
    assert [file.name for file in tmp_path.iterdir()] == [FILE_NAME]
    bare = explained(
        confusion=None, maps=None, header=dataclasses.replace(explained().header, layer_names=())
    )
    save(bare, tmp_path)
    assert load(tmp_path).confusion is None and load(tmp_path).maps is None


@pytest.mark.parametrize("kept", [0, 10, 500, -1])
def test_a_damaged_record_is_named_with_what_to_do(kept: int, tmp_path: Path) -> None:
    file = save(explained(), tmp_path)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(RunError, match=r"explain\.npz: damaged .*kq explain .* --overwrite"):
        load(tmp_path)


def with_first(**changes: np.ndarray) -> dict[str, object]:
    return {"histograms": (dataclasses.replace(histogram(), **changes), histogram(16))}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"histograms": (histogram(), dataclasses.replace(histogram(), after=np.zeros(3)))},
         "relu1: its arrays do not go together"),
        (with_first(edges=np.full(7, 2.0)), "conv1: edges and levels are finite floats that rise"),
        (with_first(edges=np.array([*range(6), np.inf])), "conv1: edges and levels are finite"),
        (with_first(levels=np.array([0.0, 2.0, 1.0, 3.0])), "conv1: edges and levels are finite"),
        (with_first(levels=np.arange(4)), "conv1: edges and levels are finite floats that rise"),
        (with_first(before=np.full(6, -1)), "conv1: before and after are counts"),
        (with_first(after=np.zeros(4)), "conv1: before and after are counts, whole numbers"),
        ({"confusion": np.full((2, 3, 3), -1)}, "confusion: is of counts, whole numbers from 0 on"),
        ({"confusion": np.zeros((2, 4, 4), np.int64)}, r"confusion is \(2, 4, 4\), of 3 classes"),
        ({"maps": dataclasses.replace(explained().maps, classes=np.zeros(3, np.int64))},
         "maps: their arrays do not go together"),
        ({"header": dataclasses.replace(explained().header, format_version=9)}, "a newer kq"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_go_together_are_refused(changes, message: str, tmp_path: Path) -> None:
    save(explained(**changes), tmp_path)
    with pytest.raises(RunError, match=message):
        load(tmp_path)


def test_a_run_without_a_record_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no explain\.npz yet; kq explain .* writes it"):
        load(tmp_path)


def test_figures_are_those_of_the_matrices_and_maps() -> None:
    found = summary(explained())
    assert found["kernels"] == 1 and found["rounded_activations"] == 1
    assert found["accuracy_float"] == pytest.approx(19 / 20)
    assert found["accuracy_quantized"] == pytest.approx(17 / 20)
    iou = found["overlap_iou"]
    assert isinstance(iou, list) and 0 <= iou[0] <= 1 and iou[1] is None
    only = summary(explained(confusion=explained().confusion[1:], maps=None))
    assert "accuracy_float" not in only and only["accuracy_quantized"] == pytest.approx(17 / 20)
