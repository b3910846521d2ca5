"""What residual links are worth: accuracy of a trained model with some of them cut.

Veit et al. 2016, "Residual networks behave like ensembles of relatively shallow networks", cut
branches of trained nets; others cut links, of high blocks of ResNet-18 without much harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_quant.errors import UsageError, close_names
from keras_quant.graph.costs.cost import cost
from keras_quant.jobs.accuracy import Classifier, load_classifiers, right_answers
from keras_quant.lower import lower
from keras_quant.model.logits import AnswerFunction
from keras_quant.model.residuals import Residual, Switches, residuals
from keras_quant.runs.progress import Progress

PARTS = ("link", "branch")
"""What may be cut: the shortcut around a block, or the convolutions beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutBlock:
    """A residual block.

    Attributes:
        name: of its Add layer.
        link: "identity", or "projection" where the shortcut has a kernel.
        macs: multiply-accumulates that only the part needs that is cut.
        alone: accuracy where this block is cut.
        from_here: where it and all deeper ones are.
        up_to_here: where it and all before it are.
    """

    name: str
    link: str
    macs: int
    alone: float
    from_here: float
    up_to_here: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CutRun:
    """One model.

    Attributes:
        accuracy: with nothing cut.
        blocks: in their order.
    """

    run: str
    accuracy: float
    macs: int
    blocks: tuple[CutBlock, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CutStudy:
    """What cutting residual blocks does to models.

    Attributes:
        part: of PARTS, what was cut.
        images: test images that each accuracy is of.
    """

    part: str
    dataset: str
    images: int
    runs: tuple[CutRun, ...]


def cut_residuals(
    paths: Sequence[Path],
    *,
    part: str = "link",
    dataset: str | None = None,
    images: int = 1000,
    trust: bool = False,
    progress: Progress,
) -> CutStudy:
    """Cuts the residual blocks of models: each alone, and one after the other from both ends.

    All models are loaded and looked at before the first is asked. Nothing is trained again, and a
    quantized model keeps its steps.

    Args:
        paths: of runs, or Keras files.
        part: of PARTS.
        dataset: name or path of images with labels; None means each run's own.
        images: of the test images so many, at even distances; 0 means all.
    Raises:
        UsageError: there is no such part, a model has no residual blocks, or runs are of different
            data.
        DataError: images have no labels, or models do not tell their classes apart.
    """
    if part not in PARTS:
        raise UsageError(f"--cut is {part}{close_names(part, PARTS)}; {' or '.join(PARTS)}")
    asked = load_classifiers(paths, dataset, images=images, trust=trust, progress=progress)
    found = [residuals(each.model) for each in asked]
    if without := [str(each.path) for each, blocks in zip(asked, found, strict=True) if not blocks]:
        raise UsageError(
            f"{', '.join(without)}: no residual blocks there, an Add of a branch and a shortcut "
            "around it"
        )
    macs = [{node.name: node.macs for node in cost(lower(each.model)).nodes} for each in asked]
    return CutStudy(
        part=part,
        dataset=asked[0].data.name,
        images=len(asked[0].data.test),
        runs=tuple(
            _cut_run(each, blocks, part, macs=of_nodes, progress=progress)
            for each, blocks, of_nodes in zip(asked, found, macs, strict=True)
        ),
    )


def _cut_run(
    asked: Classifier,
    blocks: tuple[Residual, ...],
    part: str,
    *,
    macs: Mapping[str, int],
    progress: Progress,
) -> CutRun:
    """Cuts the blocks of a model; macs are those of its nodes, by their names."""
    switches, shown = Switches(asked.model, blocks), asked.data.test
    answer = AnswerFunction(switches.model)
    tries = [(), *((block,) for block in blocks)]
    tries += [blocks[place:] for place in range(len(blocks))]
    tries += [blocks[: place + 1] for place in range(len(blocks))]
    accuracies: dict[tuple[str, ...], float] = {}
    with progress.bar(f"cutting {asked.path.name}", len(tries)) as show:
        for number, cut in enumerate(tries, start=1):
            key = tuple(block.name for block in cut)
            if key not in accuracies:
                switches.set({block.name: _kept(block, part) for block in cut})
                right = right_answers(answer, asked.data, shown)
                accuracies[key] = right / len(shown)
            show(number, "")
    names = tuple(block.name for block in blocks)
    return CutRun(
        run=str(asked.path),
        accuracy=accuracies[()],
        macs=sum(macs.values()),
        blocks=tuple(
            CutBlock(
                name=block.name,
                link="identity" if block.is_identity else "projection",
                macs=sum(macs.get(name, 0) for name in getattr(block, part)),
                alone=accuracies[(block.name,)],
                from_here=accuracies[names[place:]],
                up_to_here=accuracies[names[: place + 1]],
            )
            for place, block in enumerate(blocks)
        ),
    )


def _kept(block: Residual, part: str) -> tuple[float, float]:
    """What an Add multiplies its inputs by where a part is cut."""
    cut_first = (block.shortcut == 0) == (part == "link")
    return (0.0, 1.0) if cut_first else (1.0, 0.0)
