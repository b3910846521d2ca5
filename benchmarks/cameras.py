"""What several cameras know together: one view, the largest score, the mean, and learned layers.

python benchmarks/cameras.py models/lenet-w4a8 --out runs/cameras

The images of the run's data as three cameras might see them, written as folders of PNG files:
those that validated the run, of which kq anytime concat makes its three parts, and test images,
which judge. Cameras are

    alike       whole images, moved by 2 pixels to the left, not at all, and to the right
    damaged     the left 14 columns, the right 14, and all below noise of 100 of 255
    one blind   the first two of alike, and one that sees noise alone

Thresholds of one view, of the largest and of the mean are those of kq anytime thresholds, which are
chosen on clean single images; those of concat are its own. Writes exits.json and concat.json into
the run, the latter of the last three cameras. No goal: what is learned can be worse.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from results import Result, argument_parser, publish

from keras_quant.anytime.concat import concat_of
from keras_quant.anytime.rules import exits_taken, outcome, sureness
from keras_quant.anytime.runner import all_answers
from keras_quant.anytime.views import AGGREGATIONS, CONCAT, Aggregate, Concat, aggregated
from keras_quant.data import Split
from keras_quant.data.every import read_every
from keras_quant.files import make_folder
from keras_quant.jobs.anytime import Asked, Opened, choose_thresholds, open_stages
from keras_quant.jobs.concat import ConcatSettings, learn_concat
from keras_quant.jobs.paths import dataset_of
from keras_quant.runners.batches import IMAGES_AT_ONCE
from keras_quant.runs.progress import Progress

Camera = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""What it sees of uint8 (images, height, width, channels), and draws noise from."""

MOVED, NOISE = 2, 100


def _moved(columns: int) -> Camera:
    return lambda x, rng: np.roll(x, columns, axis=2)


def _part(columns: slice) -> Camera:
    def see(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        seen = np.zeros_like(x)
        seen[:, :, columns] = x[:, :, columns]
        return seen

    return see


def _noisy(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(np.rint(x + NOISE * rng.standard_normal(x.shape)), 0, 255).astype(np.uint8)


def _blind(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, x.shape, np.uint8)


CAMERAS: Mapping[str, tuple[Camera, ...]] = {
    "alike": (_moved(-MOVED), _moved(0), _moved(MOVED)),
    "damaged": (_part(slice(14)), _part(slice(14, None)), _noisy),
    "one blind": (_moved(-MOVED), _moved(0), _blind),
}


def main() -> None:
    """Writes the views, learns, and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("run", type=Path, help="a run with stages, of 28x28 pixels, say")
    parser.add_argument("--out", type=Path, required=True, help="folder for the views")
    parser.add_argument("--images", type=int, default=5000, help="test images")
    given = parser.parse_args()
    data, opened, results = dataset_of(given.run, None), open_stages(given.run), []
    clean = choose_thresholds(given.run, Asked(), progress=Progress())
    for name, cameras in CAMERAS.items():
        folder = given.out / name.replace(" ", "_")
        learned_on = _written(folder / "learn", data.validation, cameras)
        judged_on = _written(folder / "test", data.test.spread(given.images), cameras)
        first, *others = map(str, learned_on)
        settings = ConcatSettings(views=tuple(others))
        record = learn_concat(given.run, first, settings, progress=Progress())
        layers = concat_of(record)
        ways: dict[str, Aggregate] = {each: each for each in AGGREGATIONS} | {CONCAT: layers}
        answers, labels = _answers(opened, judged_on)
        rows = {f"view {place}": each for place, each in enumerate(answers, start=1)}
        rows |= {each: _together(answers, way) for each, way in ways.items()}
        for each, scores in rows.items():
            thresholds = record.thresholds if each == CONCAT else clean.thresholds
            results.append(_result(f"{name}, {each}", scores, labels, opened, thresholds))
    results.append(_time(layers, answers))
    publish(f"{given.run.name}, {len(labels):,} test images", results, given.json)


def _written(folder: Path, split: Split, cameras: tuple[Camera, ...]) -> list[Path]:
    """Folders of what each camera sees, with a folder a class."""
    found = []
    for number, camera in enumerate(cameras):
        seen = camera(split.x, np.random.default_rng([number, len(split)]))
        for label in np.unique(split.y):
            make_folder(folder / f"camera{number + 1}" / str(label))
        for place, (pixels, label) in enumerate(zip(seen, split.y, strict=True)):
            path = folder / f"camera{number + 1}" / str(label) / f"{place:05}.png"
            Image.fromarray(pixels[..., 0]).save(path)
        found.append(folder / f"camera{number + 1}")
    return found


def _answers(opened: Opened, folders: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """What each exit answers, (views, exits, things, classes), and labels."""
    views = []
    for folder in folders:
        found = read_every(folder)
        batches = [
            all_answers(opened.loaded, opened.inputs(found.x[start : start + IMAGES_AT_ONCE]))
            for start in range(0, len(found.x), IMAGES_AT_ONCE)
        ]
        views.append(np.concatenate(batches, axis=1))
    return np.stack(views), found.y


def _together(answers: np.ndarray, how: Aggregate) -> np.ndarray:
    """(exits, things, classes)."""
    return np.stack(
        [
            [aggregated(answers[:, place, thing], how, exit_number=place) for thing in things]
            for place, things in enumerate([range(answers.shape[2])] * answers.shape[1])
        ]
    )


def _result(
    figure: str,
    scores: np.ndarray,
    labels: np.ndarray,
    opened: Opened,
    thresholds: tuple[float, ...],
) -> Result:
    correct = scores.argmax(axis=-1) == labels
    taken = exits_taken(sureness(scores, "entropy"), np.array(thresholds))
    ended = outcome(correct, taken, opened.macs())
    return Result(
        figure=figure,
        value=100 * float(correct[-1].mean()),
        unit="%",
        peer=f"exit 1 {correct[0].mean():.2%}; with thresholds {ended.accuracy:.2%}, "
        f"{ended.exit_shares[0]:.1%} end at exit 1",
    )


def _time(layers: Concat, answers: np.ndarray) -> Result:
    """How long a layer takes, in Python."""
    scores, took = answers[:, 0, 0], []
    for _ in range(5000):
        started = time.perf_counter()
        layers.layers[0].answer(scores)
        took.append(1e6 * (time.perf_counter() - started))
    return Result(
        figure="a layer of concat",
        value=float(np.median(took)),
        unit="us",
        best=min(took),
        peer=f"{len(scores)} views of {scores.shape[-1]} classes, numpy",
    )


if __name__ == "__main__":
    main()
