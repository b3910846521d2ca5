"""Fits the latency model of `kq bench --estimate` to latencies that others measured on Jetsons.

    python benchmarks/fit_jetson.py                 # prints errors, board by board and net by net
    python benchmarks/fit_jetson.py --write         # and stores the parameters in the package

The measurements are in data/jetson_latency.csv, each with its source; what is left out of the fit
is printed with the reason. Nothing is measured here. `--layers FILE` keeps the counted layers of
the nets, so that the next run builds none of them.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from keras_quant.bench.estimate.fit import (
    NOISE_ANYWHERE,
    Observation,
    fit_board,
    fit_parameters,
    left_out,
    ratios,
    spread_of,
)
from keras_quant.bench.estimate.fusion import FusedLayer, fuse
from keras_quant.bench.estimate.latency import Setting
from keras_quant.bench.estimate.parameters import FILE, NAMES, Fitted, Parameters
from keras_quant.cli.output import print_table
from keras_quant.files import write_json
from keras_quant.graph.ir import Graph
from keras_quant.jobs.estimate import LEAST_NETS
from keras_quant.targets.jetson import BOARDS, find_mode

DATA = Path(__file__).parent / "data" / "jetson_latency.csv"

# What is likely before any measurement, and by which factor it may be off. Large products reach
# 50 to 80 % of the peak in cuDNN's and cuBLAS' own figures, and streams 70 to 80 % of a bandwidth;
# a launch takes some microseconds. Depthwise convolutions are known to be far from the peak, and by
# how much is not. Winograd's F(2x2, 3x3) has 2.25 times fewer multiplications, but transforms.
GUESS = Parameters(
    cuda_efficiency=0.6,
    tensor_efficiency=0.6,
    winograd_gain=1.5,
    tile_rounds=0.5,
    memory_efficiency=0.7,
    depthwise_efficiency=0.1,
    launch_us=7.0,
    early_launch_us=12.0,
)
GUESS_FACTORS = Parameters(
    cuda_efficiency=1.35,
    tensor_efficiency=1.35,
    winograd_gain=1.22,
    tile_rounds=2.0,
    memory_efficiency=1.28,
    depthwise_efficiency=2.2,
    launch_us=1.65,
    early_launch_us=1.65,
)

_BOARDS = {
    "AGX Orin 64GB": "agx-orin",
    "AGX Orin": "agx-orin",
    "AGX Xavier 32GB": "agx-xavier",
    "AGX Xavier": "agx-xavier",
    "Xavier NX": "xavier-nx",
    "Orin Nano 8GB Super": "orin-nano",
    "Nano 4GB": "nano",
    "TX2": "tx2",
}
_MODES = {
    "MAXN": "MAXN",
    "MAXN_SUPER": "MAXN_SUPER",
    "MAXN(20W)": "20W_6CORE",
    "10W": "10W",
    "MODE_15W_DESKTOP": "15W_DESKTOP",
    "15W 6CORE": "15W_6CORE",
}
_PRECISIONS = {
    "FP32(TF32)": "fp32",
    "FP16": "fp16",
    "INT8 GPU": "int8",
    "INT8+FP16": "int8",
    "INT8+FP16 (ModelOpt QDQ)": "int8",
}
_NETS = {
    "ResNet-50 v1.5": "resnet50",
    "SSD-MobileNet-v1": "ssd_mobilenet_v1",
    "SSD-ResNet34": "ssd_resnet34",
    "ResNet-18": "resnet18",
    "ResNet-34": "resnet34",
    "MobileNet-v2": "mobilenet_v2",
    "VGG-16": "vgg16",
    "VGG-19": "vgg19",
    "VGG-11": "vgg11",
    "SqueezeNet-1.1": "squeezenet1_1",
    "AlexNet": "alexnet",
    "MNASNet-1.0": "mnasnet1_0",
    "Inception v4": "inception_v4",
    "GoogLeNet": "googlenet",
    "YOLOv8n": "yolov8n",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the measurements, fits, prints, and writes what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--layers", type=Path, help="keep the counted layers of the nets here")
    parser.add_argument("--write", action="store_true", help="store the parameters")
    options = parser.parse_args(arguments)
    observations = read_observations(options.data, options.layers)
    fitted = fit(observations)
    if options.write:
        write_json(FILE, fitted)
        print(f"wrote {FILE}")


def fit(observations: Sequence[Observation]) -> Fitted:
    """Fits all, and with each board and each net left out; prints how far off each was."""

    def fit_some(some: Sequence[Observation]) -> Parameters:
        return fit_parameters(some, GUESS, GUESS_FACTORS, noise=NOISE_ANYWHERE)

    values = fit_some(observations)
    inside = ratios(observations, values)
    without_board = left_out(observations, fit_some, lambda one: one.board)
    without_net = left_out(observations, fit_some, lambda one: one.net.partition("@")[0])
    print_table(
        (
            "board",
            "net",
            "precision",
            "batch",
            "measured ms",
            "fitted",
            "board left out",
            "net left out",
        ),
        [
            (
                *(
                    one.board,
                    one.net,
                    one.setting.precision,
                    one.setting.batch,
                    f"{one.latency_ms:.3f}",
                ),
                *(f"{found[place]:.2f}" for found in (inside, without_board, without_net)),
            )
            for place, one in enumerate(observations)
        ],
        title="estimate / measured",
    )
    print_table(
        ("", "median error", "90 % within a factor of", "worst factor", "Kendall's tau of nets"),
        [
            (
                name,
                f"{spread.median_error:.1%}",
                f"{spread.factor:.2f}",
                f"{spread.worst_factor:.2f}",
                f"{rank_correlation(observations, found):.2f}",
            )
            for name, found in (
                ("fitted", inside),
                ("board left out", without_board),
                ("net left out", without_net),
            )
            for spread in (spread_of(found),)
        ],
    )
    print_table(
        ("parameter", "value", "held for likely before", "within a factor of"),
        [
            (name, *(f"{getattr(one, name):.3g}" for one in (values, GUESS, GUESS_FACTORS)))
            for name in NAMES
        ],
    )
    fitted = Fitted(
        origin=f"{len(observations)} latencies that others published, see docs/estimate.md",
        values=values,
        guess=GUESS,
        guess_factors=GUESS_FACTORS,
        spread=spread_of(np.concatenate([without_board, without_net])),
    )
    print_refits(observations, fit_some, fitted)
    return fitted


def print_refits(
    observations: Sequence[Observation],
    fit_some: Callable[[Sequence[Observation]], Parameters],
    fitted: Fitted,
) -> None:
    """What --fit buys: parameters of the other boards, fitted to all nets of one board but one."""
    rows = []
    for board in dict.fromkeys(one.board for one in observations):
        own = [one for one in observations if one.board == board]
        for precision in dict.fromkeys(one.setting.precision for one in own):
            some = [one for one in own if one.setting.precision == precision]
            if len({one.net for one in some}) < LEAST_NETS:
                continue
            others = [one for one in observations if one.board != board]
            known = replace(fitted, values=fit_some(others))
            refitted = fit_board(some, known, origin=board)
            after = np.abs(ratios(some, refitted.values) - 1)
            before = np.abs(ratios(some, known.values) - 1)
            rows.append(
                (
                    *(board, precision, len(some), f"{np.median(before):.1%}"),
                    *(f"{np.median(after):.1%}", f"{refitted.spread.median_error:.1%}"),
                    f"{refitted.spread.worst_factor:.2f}",
                )
            )
    print_table(
        (
            *("board", "precision", "nets", "before: median error", "after, nets of the fit"),
            *("after, each net left out", "worst factor"),
        ),
        rows,
        title="--fit, from parameters that never saw the board",
    )


def rank_correlation(observations: Sequence[Observation], found: np.ndarray) -> float:
    """Kendall's tau of estimated and measured latencies: the mean over boards and precisions.

    Of each board, power mode, precision and batch with at least three nets; of a net that was
    measured more than once, the first.
    """
    groups: dict[tuple[object, ...], dict[str, tuple[float, float]]] = {}
    for one, ratio in zip(observations, found, strict=True):
        setting = one.setting
        key = (one.board, setting.mode.name, setting.precision, setting.batch)
        groups.setdefault(key, {}).setdefault(one.net, (ratio * one.latency_ms, one.latency_ms))
    taus = [
        kendalltau(*zip(*nets.values(), strict=True)).statistic
        for nets in groups.values()
        if len(nets) >= 3
    ]
    return float(np.mean(taus))


def read_observations(path: Path, kept: Path | None = None) -> list[Observation]:
    """Reads the measurements that can be used, and prints those that cannot, with the reason."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    reasons = [why_left_out(row) for row in rows]
    used = [row for row, reason in zip(rows, reasons, strict=True) if not reason]
    print_table(
        ("board", "net", "precision", "left out, because"),
        [
            (row["board"], row["model"], row["precision"], reason)
            for row, reason in zip(rows, reasons, strict=True)
            if reason
        ],
        title=f"{len(rows)} published figures, of which {len(used)} are used",
    )
    layers = layers_of({_net(row) for row in used}, kept)
    return [_observation(row, layers) for row in used]


def why_left_out(row: dict[str, str]) -> str:
    """Why a figure is no latency of a known net in a known state; "" where it is one."""
    if "DLA" in row["precision"] or "DLA" in row["power_mode"]:
        return "a DLA computed, alone or beside the GPU"
    if "end-to-end" in row["metric"]:
        return "holds what the program does besides"
    if not row["batch"].isdigit():
        return "its batch is not stated"
    if row["model"] not in _NETS:
        return "the net has no public definition without what follows it, or is not built here"
    if row["power_mode"] not in _MODES:
        return "its power mode is not stated, or the figure was taken beside engines on DLAs"
    return ""


def _net(row: dict[str, str]) -> str:
    """The net's name, with its image size where that is not the net's own."""
    name, size = _NETS[row["model"]], row["input"].partition("x")[0]
    return f"{name}@{size}" if name == "mobilenet_v2" and size != "224" else name


def _observation(row: dict[str, str], layers: dict[str, tuple[FusedLayer, ...]]) -> Observation:
    board = _BOARDS[row["board"]]
    batch, value = int(row["batch"]), float(row["value"])
    return Observation(
        net=_net(row),
        board=board,
        layers=layers[_net(row)],
        setting=Setting(
            board=BOARDS[board],
            mode=find_mode(board, _MODES[row["power_mode"]]),
            precision=_PRECISIONS[row["precision"]],
            batch=batch,
        ),
        latency_ms=1e3 * batch / value if row["unit"] == "img/s" else value,
    )


def layers_of(names: set[str], kept: Path | None) -> dict[str, tuple[FusedLayer, ...]]:
    """The fused layers of nets, counted, or read from what an earlier run kept."""
    if kept is not None and kept.is_file():
        content = json.loads(kept.read_text(encoding="utf-8"))
        if names <= content.keys():
            return {
                name: tuple(
                    FusedLayer(**{**layer, "nodes": tuple(layer["nodes"])})
                    for layer in content[name]
                )
                for name in names
            }
    found = {name: fuse(_graph(name)) for name in sorted(names)}
    if kept is not None:
        write_json(kept, {name: [asdict(layer) for layer in net] for name, net in found.items()})
    return found


def _graph(name: str) -> Graph:
    from jetson_nets import NETS

    from keras_quant.lower import lower
    from keras_quant.zoo import MODELS, build

    if name in NETS:
        return lower(NETS[name]())
    plain, _, size = name.partition("@")
    info = MODELS[plain]
    images = (int(size), int(size), 3) if re.fullmatch(r"\d+", size) else info.images
    return lower(build(plain, images, info.classes))


if __name__ == "__main__":
    main()
