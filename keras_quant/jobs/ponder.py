"""Where a net whose positions halt computes how much: over images, and what that would save."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_quant.anytime.ponder import reached, spread, units_at
from keras_quant.data import Split
from keras_quant.data.dataset import NO_LABEL
from keras_quant.errors import UsageError
from keras_quant.graph.costs.cost import cost
from keras_quant.jobs.loaded import load_with_data
from keras_quant.jobs.named_images import are_a_datasets, images_to_answer
from keras_quant.lower import lower
from keras_quant.model.adaptive import HaltingUnit, halting_units, with_masks
from keras_quant.model.tasks import CLASSIFICATION, find_tasks
from keras_quant.pixels import normalize
from keras_quant.preprocessing import Preprocessing
from keras_quant.runners.batches import IMAGES_AT_ONCE
from keras_quant.runs.progress import Progress
from keras_quant.tf import keras


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePonder:
    """One stage, over all images.

    Attributes:
        units: residual units that it has.
        mean_units: that a position goes through.
        on: for each unit share of the positions that it changes, 1 for the first.
    """

    name: str
    units: int
    mean_units: float
    on: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ponder:
    """Where a net computes how much.

    Attributes:
        images: how many were looked at.
        accuracy: of the last output; None without labels.
        macs: multiply-accumulates that the net's files compute for each image, all positions.
        needed_macs: those that masks leave, on average.
        least_macs, most_macs: of the images that need the least and the most.
        least_image, most_image: which these are.
    """

    images: int
    accuracy: float | None
    stages: tuple[StagePonder, ...]
    macs: int
    needed_macs: float
    least_macs: float
    most_macs: float
    least_image: str
    most_image: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PonderMaps:
    """Some images with the units that each of their pixels goes through.

    Attributes:
        names: of the images.
        x: as the data have them, (images, height, width, channels).
        units: int (images, height, width), of all stages together.
        fewest, most: that there can be.
    """

    names: tuple[str, ...]
    x: np.ndarray
    units: np.ndarray
    fewest: int
    most: int


def ponder(
    path: Path,
    *,
    images: str | None = None,
    count: int = 0,
    maps: int = 0,
    trust: bool = False,
    progress: Progress,
) -> tuple[Ponder, PonderMaps]:
    """Looks where a run's model, or a Keras file's, computes how much.

    Args:
        images: a path, all images of which are looked at; or a dataset's name, None for the run's:
            its test images are.
        count: of the images the first so many; 0 means all.
        maps: images to give maps of, from the one that needs the least to the one that needs most.
    Raises:
        UsageError: the model has no units that positions may skip.
        DataError: there are no images, or the model takes others.
    """
    named = images if are_a_datasets(images) else None
    model, data = load_with_data(
        path, dataset=named, preprocess=None, trust=trust, say=progress.say
    )
    units = halting_units(model)
    if not units:
        raise UsageError(
            f"{path}: no position of its model halts; one that does is trained by kq train "
            "--model sact_resnet"
        )
    shown = images_to_answer(
        path,
        images,
        shape=model.input_shape[1:],
        classes=data.num_classes,
        data=data,
        progress=progress,
    )
    rows = slice(0, count or len(shown.x))
    names, part = shown.names[rows], Split(x=shown.x[rows], y=shown.y[rows])
    looked = _Looked(model, units)
    right: list[bool] = []
    with progress.bar("looking", len(part)) as show:
        for start in range(0, len(part), IMAGES_AT_ONCE):
            batch = part.at(slice(start, start + IMAGES_AT_ONCE))
            labels = looked.add(np.asarray(data.reals(batch.x), np.float32))
            right += (labels == batch.y)[batch.y != NO_LABEL].tolist()
            show(min(start + IMAGES_AT_ONCE, len(part)), "")
    tasks = find_tasks([tuple(output.shape[1:]) for output in model.outputs], data)
    judged = right if tasks[-1] == CLASSIFICATION else []
    found = looked.summary(names, float(np.mean(judged)) if judged else None)
    return found, looked.maps(names, part.x, maps)


def masked_dense_note(
    model: keras.Model, images: np.ndarray, preprocessing: Preprocessing | None
) -> str:
    """What a file of a model does not save that has positions that halt; "" for other models.

    Args:
        images: uint8 pixels or float32.
        preprocessing: what pixels become, see `pixels.normalize`.
    """
    units = halting_units(model)
    if not units:
        return ""
    looked = _Looked(model, units)
    for start in range(0, len(images), IMAGES_AT_ONCE):
        looked.add(normalize(images[start : start + IMAGES_AT_ONCE], preprocessing))
    needed = float(looked.needed().mean())
    return (
        f"masked-dense: files compute all units at all positions, {looked.macs:,} MACs an image, "
        "and multiply the change of those that have halted by 0, so that no time is saved; a "
        f"kernel that skips positions would need {needed:,.0f} ({needed / looked.macs:.1%}) on "
        f"average of {len(images):,} test images"
    )


class _Looked:
    """Masks of the images so far.

    Attributes:
        macs: that the whole net computes for an image.
    """

    def __init__(self, model: keras.Model, units: tuple[HaltingUnit, ...]) -> None:
        self._units, self._outputs = units, len(model.outputs)
        self._ask = with_masks(model, units)
        self._macs = {node.name: node.macs for node in cost(lower(model)).nodes}
        self.macs = sum(self._macs.values())
        self._masks: list[list[np.ndarray]] = [[] for _ in units]

    def add(self, reals: np.ndarray) -> np.ndarray:
        """Looks at some images; gives the class of the last output's largest value."""
        answers = self._ask(reals)
        for kept, mask in zip(self._masks, answers[self._outputs :], strict=True):
            kept.append(mask[..., 0] > 0)
        return np.asarray(answers[self._outputs - 1].reshape(len(reals), -1).argmax(axis=1))

    def needed(self) -> np.ndarray:
        """Multiply-accumulates that each image needs, float64 (images,)."""
        total = 0.0
        for unit, mask in zip(self._units, self._all(), strict=True):
            for name in (unit.inner, *unit.at_positions):
                where = reached(mask) if name == unit.inner else mask
                total = total - self._macs[name] * (1 - where.mean(axis=(1, 2)))
        return np.asarray(self.macs + total)

    def summary(self, names: tuple[str, ...], accuracy: float | None) -> Ponder:
        needed = self.needed()
        least, most = int(needed.argmin()), int(needed.argmax())
        return Ponder(
            images=len(names),
            accuracy=accuracy,
            stages=tuple(
                StagePonder(
                    name=stage,
                    units=1 + len(masks),
                    mean_units=float(units_at(masks).mean()),
                    on=(1.0, *(float(mask.mean()) for mask in masks)),
                )
                for stage, masks in self._by_stage().items()
            ),
            macs=self.macs,
            needed_macs=float(needed.mean()),
            least_macs=float(needed[least]),
            most_macs=float(needed[most]),
            least_image=names[least],
            most_image=names[most],
        )

    def maps(self, names: tuple[str, ...], x: np.ndarray, count: int) -> PonderMaps:
        """Maps of some images at even distances in the order of what they need."""
        count = min(count, len(names))
        order = np.argsort(self.needed(), kind="stable")
        chosen = order[np.linspace(0, len(order) - 1, count).astype(int)]
        size, stages = (x.shape[1], x.shape[2]), self._by_stage()
        units = [spread(units_at([m[chosen] for m in masks]), size) for masks in stages.values()]
        return PonderMaps(
            names=tuple(names[place] for place in chosen),
            x=x[chosen],
            units=np.sum(units, axis=0),
            fewest=len(stages),
            most=sum(1 + len(masks) for masks in stages.values()),
        )

    def _all(self) -> list[np.ndarray]:
        return [np.concatenate(kept) for kept in self._masks]

    def _by_stage(self) -> dict[str, list[np.ndarray]]:
        found: dict[str, list[np.ndarray]] = {}
        for unit, mask in zip(self._units, self._all(), strict=True):
            found.setdefault(unit.stage, []).append(mask)
        return found
