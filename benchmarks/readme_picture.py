"""Draws docs/accuracy.png from the runs that cifar10_resnet20.py left in --out."""

from __future__ import annotations

import argparse
from pathlib import Path

from keras_quant.files import atomic_path
from keras_quant.plots import accuracy_against_size
from keras_quant.runs import records

PICTURE = Path(__file__).parents[1] / "docs" / "accuracy.png"


def main() -> None:
    """Reads every run in the folder, and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the runs")
    folder = parser.parse_args().out
    found = [records.load(path.parent) for path in sorted(folder.glob(f"*/{records.FILE_NAME}"))]
    figure = accuracy_against_size(found, title="ResNet-20 on CIFAR-10 (10,000 test images)")
    with atomic_path(PICTURE) as temporary:
        figure.savefig(temporary, dpi=150)


if __name__ == "__main__":
    main()
