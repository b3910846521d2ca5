from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from keras_quant.model.hdf5 import Content, content_of


def external_link(file: h5py.File, beside: Path) -> None:
    file["group/kernel"] = h5py.ExternalLink(str(beside), "/kernel")


def external_storage(file: h5py.File, beside: Path) -> None:
    file.create_dataset("group/kernel", (4,), "f4", external=[(str(beside), 0, 16)])


def virtual_dataset(file: h5py.File, beside: Path) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(beside), "kernel", (4,))
    file.create_virtual_dataset("group/kernel", layout)


OUTSIDE: dict[str, Callable[[h5py.File, Path], None]] = {
    "is an external link, to /kernel in": external_link,
    "has external storage, in": external_storage,
    "is a virtual dataset, of": virtual_dataset,
}


@pytest.mark.parametrize(("told", "put"), OUTSIDE.items(), ids=OUTSIDE)
def test_what_is_kept_in_another_file_is_told_by_name(
    told: str, put: Callable[[h5py.File, Path], None], tmp_path: Path
) -> None:
    beside = tmp_path / "beside.h5"
    with h5py.File(beside, "w") as file:
        file["kernel"] = np.arange(4, dtype=np.float32)
    with h5py.File(tmp_path / "file.h5", "w") as file:
        put(file, beside)
    with h5py.File(tmp_path / "file.h5") as file:
        assert content_of(file).outside == (f"/group/kernel {told} {beside}",)


def test_links_within_a_file_are_no_fault_and_count_once(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["group/kernel"] = np.zeros((2, 3), np.float32)
        file["group/inside"] = file["/"]
        file["again"] = file["group/kernel"]
        file["soft"] = h5py.SoftLink("/group/kernel")
        assert content_of(file) == Content(outside=(), elements=6, claimed_bytes=24)


def test_datasets_that_are_nowhere_stored_count_as_what_they_claim(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file.create_dataset("kernel", (10**12,), "f4", chunks=(1000,))
        assert content_of(file).claimed_bytes == 4 * 10**12
    assert (tmp_path / "file.h5").stat().st_size < 10_000
