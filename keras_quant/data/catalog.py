"""The datasets known by name, and where their files are looked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """One line of `kq datasets`.

    Attributes:
        num_train: training images, validation included.
        origin: who made it.
        augment: whether random flips and crops are the default while training.
        built_in: comes with scikit-learn; no file is looked for.
    """

    num_classes: int
    input_shape: tuple[int, int, int]
    num_train: int
    num_test: int
    origin: str
    class_names: tuple[str, ...] = ()
    augment: bool = False
    built_in: bool = False


_FASHION = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
_CIFAR10 = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"
_CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
    crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
    keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse
    mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy
    porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper
    snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television
    tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""  # the fine labels, in the order of the archive's meta file

DATASETS: dict[str, DatasetInfo] = {
    "digits": DatasetInfo(
        num_classes=10,
        input_shape=(8, 8, 1),
        num_train=1438,
        num_test=359,
        origin="UCI optical digits, part of scikit-learn",
        built_in=True,
    ),
    "mnist": DatasetInfo(
        num_classes=10,
        input_shape=(28, 28, 1),
        num_train=60_000,
        num_test=10_000,
        origin="LeCun et al. 1998",
    ),
    "fashion_mnist": DatasetInfo(
        num_classes=10,
        input_shape=(28, 28, 1),
        num_train=60_000,
        num_test=10_000,
        origin="Xiao et al. 2017",
        class_names=tuple(_FASHION.split(",")),
    ),
    "cifar10": DatasetInfo(
        num_classes=10,
        input_shape=(32, 32, 3),
        num_train=50_000,
        num_test=10_000,
        origin="Krizhevsky 2009",
        class_names=tuple(_CIFAR10.split(",")),
        augment=True,
    ),
    "cifar100": DatasetInfo(
        num_classes=100,
        input_shape=(32, 32, 3),
        num_train=50_000,
        num_test=10_000,
        origin="Krizhevsky 2009",
        class_names=tuple(_CIFAR100.split()),
        augment=True,
    ),
}


def npz_places(name: str) -> tuple[Path, ...]:
    """The files that may hold a dataset, in the order in which they are tried."""
    folders = [Path(os.environ["KQ_DATA_DIR"])] if os.environ.get("KQ_DATA_DIR") else []
    folders.append(Path.home() / ".keras" / "datasets")
    return tuple(folder / f"{name}.npz" for folder in folders)


def find_npz(name: str) -> Path | None:
    """The file of a named dataset on this machine; None where there is none."""
    return next((path for path in npz_places(name) if path.is_file()), None)


def is_available(name: str) -> bool:
    """Whether a named dataset can be loaded without a download."""
    return DATASETS[name].built_in or find_npz(name) is not None
