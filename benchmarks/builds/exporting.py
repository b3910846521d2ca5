"""How long a build takes to export a network, which is to prove its files, and the memory for it.

    python exporting.py prepare FOLDER NET BITS IMAGES    (of the older build)
    python exporting.py run FOLDER NET BITS IMAGES

The three targets, on CIFAR-10 test images. The network is calibrated, and not trained. It is
exported on few images first: what is loaded when it is used first is no part of the times, and the
memory of the few is what that of all is compared with.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

SEED, CALIBRATION_IMAGES, FEW = 0, 512, 500


def main() -> None:
    """Prepares or runs; what is printed last is a JSON record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("prepare", "run"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("net")
    parser.add_argument("bits")
    parser.add_argument("images", type=int)
    arguments = parser.parse_args()
    path = arguments.folder / f"{arguments.net}-{arguments.bits}-cifar10.keras"
    if arguments.action == "prepare":
        prepare(path, arguments.net, arguments.bits)
    else:
        print(json.dumps(run(path, arguments.images)))


def prepare(path: Path, net: str, bits: str) -> None:
    """Saves a fake-quantized model, of which all builds export the same copy."""
    from either import save_model
    from quantized import fake_quantized  # the build's own, of benchmarks/

    from keras_quant.data import load_dataset
    from keras_quant.tf import keras
    from keras_quant.zoo import build

    if path.exists():
        return
    data = load_dataset("cifar10")
    keras.utils.set_random_seed(SEED)
    source = build(net, data.input_shape, data.num_classes)
    save_model(fake_quantized(source, bits, data.train.x[:CALIBRATION_IMAGES]), path)


def run(path: Path, images: int) -> dict[str, Any]:
    """Exports the model twice, and says what the second time took and found."""
    out = path.with_suffix("")
    _export(path, out, FEW)
    few_mb = _peak_mb()
    cpu, wall = time.process_time(), time.perf_counter()
    _export(path, out, images)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    proofs = json.loads((out / "parity.json").read_text()).values()
    return {
        "cpu_s": cpu,
        "wall_s": wall,
        "counts": [
            {
                "figure": "different",
                "count": sum(proof["codes_different"] for proof in proofs),
                "of": sum(proof["codes_compared"] for proof in proofs),
                "unit": "codes",
            },
            {
                "figure": f"memory beyond that of {FEW} images",
                "count": _peak_mb() - few_mb,
                "of": _peak_mb(),
                "unit": "MB",
            },
        ],
    }


def _export(path: Path, out: Path, images: int) -> None:
    from either import FORMATS, Progress, export_path

    export_path(
        path,
        list(FORMATS.values()),
        dataset="cifar10",
        out=out,
        images=images,
        baselines=False,
        overwrite=True,
        trust=False,
        progress=Progress(quiet=True),
    )


def _peak_mb() -> int:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
