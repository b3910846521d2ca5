"""What learned rounding has come to, kept on disk layer by layer, so that a run can go on."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_quant.calibration.collect import fingerprint
from keras_quant.files import atomic_write, make_folder
from keras_quant.graph.ir import Weight
from keras_quant.prepare.adjust.reconstruct import Finding, Kept
from keras_quant.tf import keras
from keras_quant.version import __version__

FOLDER_NAME = "rounding"


class KeptOnDisk(Kept):
    """Findings in a folder of a run, a file for each unit.

    Args:
        run: the run's folder.
        key: `key_of` all that decides over the findings; those of another key are not found.
    """

    def __init__(self, run: Path, key: str) -> None:
        self._folder = run / FOLDER_NAME / key

    @property
    def is_of_others(self) -> bool:
        """Whether there are findings, and none of this key."""
        try:
            return not self._folder.exists() and any(self._folder.parent.iterdir())
        except OSError:
            return False

    def known(self, names: Sequence[str]) -> Mapping[str, Finding] | None:
        """Those of all of some layers; None where there are none, or the file is damaged."""
        try:
            with np.load(self._file(names), allow_pickle=False) as arrays:
                return {name: _finding(arrays, place) for place, name in enumerate(names)}
        except Exception:  # no file, or broken bytes: any error of zipfile and numpy
            return None

    def keep(self, findings: Mapping[str, Finding]) -> None:
        """Writes those of a unit.

        Raises:
            FileError: the file cannot be written.
        """
        arrays: dict[str, np.ndarray] = {}
        for place, found in enumerate(findings.values()):
            arrays[f"{place}/added"] = found.added
            if found.weight is not None and found.weight.scale is not None:
                arrays[f"{place}/codes"] = found.weight.values
                arrays[f"{place}/scale"] = found.weight.scale
                arrays[f"{place}/bits"] = np.array(found.weight.bits)
        make_folder(self._folder)
        with atomic_write(self._file(list(findings)), "wb") as stream:
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # none is called file

    def _file(self, names: Sequence[str]) -> Path:
        digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
        return self._folder / f"{digest[:16]}.npz"


def key_of(model: keras.Model, images: np.ndarray, settings: Mapping[str, object]) -> str:
    """Tells apart what findings depend on: a quantized model before it, images, settings, version.

    Args:
        settings: plain values, by name.
    """
    digest = hashlib.sha256(fingerprint(model).encode())
    digest.update(f"{images.shape} {images.dtype}\n".encode())
    digest.update(np.ascontiguousarray(images).tobytes())
    digest.update(json.dumps([__version__, dict(settings)], sort_keys=True).encode())
    return digest.hexdigest()[:32]


def forget(run: Path) -> None:
    """Removes all findings from a run's folder; what cannot be removed stays, and does no harm."""
    shutil.rmtree(run / FOLDER_NAME, ignore_errors=True)


def _finding(arrays: Mapping[str, np.ndarray], place: int) -> Finding:
    weight = None
    if f"{place}/codes" in arrays:
        weight = Weight(
            values=arrays[f"{place}/codes"],
            scale=arrays[f"{place}/scale"],
            bits=int(arrays[f"{place}/bits"]),
        )
    return Finding(weight=weight, added=arrays[f"{place}/added"])
