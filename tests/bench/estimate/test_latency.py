"""The formula of the model, against sums done by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keras_quant.bench.estimate.fusion import FusedLayer, fuse
from keras_quant.bench.estimate.latency import (
    Setting,
    describe_work,
    latencies_ms,
    layer_times,
    precision_of,
)
from keras_quant.bench.estimate.parameters import Parameters
from keras_quant.targets.jetson import BOARDS, find_mode
from tests.bench.estimate.graphs import residual

ONES = Parameters(
    cuda_efficiency=0.5,
    tensor_efficiency=0.25,
    winograd_gain=2.0,
    tile_rounds=1.0,
    memory_efficiency=0.5,
    depthwise_efficiency=0.125,
    launch_us=3.0,
    early_launch_us=7.0,
)


def a_setting(board: str, precision: str, batch: int = 1) -> Setting:
    return Setting(
        board=BOARDS[board], mode=find_mode(board, None), precision=precision, batch=batch
    )


def a_layer(**fields: object) -> FusedLayer:
    known = {
        "name": "layer",
        "nodes": ("layer",),
        "kind": "matrix",
        "rows": 1280,
        "columns": 640,
        "taps": 1,
        "depth": 64,
        "unit_stride": True,
        "groups": 1,
        "macs": 1280 * 640 * 64,
        "weights": 640 * 64,
        "read": 1280 * 64,
        "written": 1280 * 640,
    }
    return FusedLayer(**{**known, **fields})


def times(layer: FusedLayer, setting: Setting) -> tuple[float, float, float]:
    found = layer_times(describe_work([([layer], setting)]), ONES)
    return float(found.arithmetic[0]), float(found.memory[0]), float(found.launch[0])


def test_a_product_of_matrices_is_what_was_computed_by_hand() -> None:
    # Orin Nano: 8 SMs of 1024 fp16 multiply-adds at 1020 MHz, 128 bit at 2 x 3199 MHz.
    arithmetic, memory, launch = times(a_layer(), a_setting("orin-nano", "fp16"))
    rounds = 1 + 8 / (10 * 10)  # 1280 / 128 by 640 / 64 tiles
    assert arithmetic == pytest.approx(1280 * 640 * 64 / (0.25 * 8 * 1024 * 1020) * rounds)
    values = 640 * 64 + 1280 * 64 + 1280 * 640
    assert memory == pytest.approx(2 * values / (0.5 * 2 * 3199 * 16))
    assert launch == 3.0


def test_a_batch_multiplies_rows_and_activations_but_not_weights() -> None:
    one = describe_work([([a_layer()], a_setting("orin-nano", "fp16"))])
    four = describe_work([([a_layer()], a_setting("orin-nano", "fp16", batch=4))])
    assert four.macs == 4 * one.macs and four.rounds == one.rounds / 4
    assert four.bytes == 4 * one.bytes - 3 * 2 * 640 * 64


@pytest.mark.parametrize(("precision", "padded"), [("fp32", 4), ("fp16", 8), ("int8", 16)])
def test_channels_are_padded_to_what_a_tensor_core_takes(precision: str, padded: int) -> None:
    first = a_layer(taps=49, depth=49 * 3, columns=64, rows=16)
    work = describe_work([([first], a_setting("orin-nano", precision))])
    assert work.macs == 16 * 64 * 49 * padded


def test_cuda_cores_pad_no_channels_and_have_winograd_for_3x3_of_stride_1() -> None:
    three = a_layer(taps=9, depth=9 * 3)
    work = describe_work([([three], a_setting("nano", "fp16"))])
    assert work.macs == 1280 * 640 * 27
    plain, _, launch = times(
        dataclasses.replace(three, unit_stride=False), a_setting("nano", "fp16")
    )
    quick, _, _ = times(three, a_setting("nano", "fp16"))
    assert plain == pytest.approx(2 * quick) and launch == 7.0
    # Tensor cores have none.
    on_tensor_cores = [
        times(dataclasses.replace(three, unit_stride=unit), a_setting("orin-nano", "fp16"))
        for unit in (True, False)
    ]
    assert on_tensor_cores[0] == on_tensor_cores[1]


def test_a_depthwise_convolution_runs_on_cuda_cores() -> None:
    layer = a_layer(kind="depthwise", groups=32, columns=1, macs=10**6)
    arithmetic, _, _ = times(layer, a_setting("orin-nano", "fp16"))
    assert arithmetic == pytest.approx(10**6 / (0.125 * 8 * 128 * 1020))


def test_what_only_moves_values_takes_no_arithmetic() -> None:
    arithmetic, memory, _ = times(a_layer(kind="values", macs=0), a_setting("nano", "fp16"))
    assert arithmetic == 0 < memory


def test_a_net_takes_the_sum_of_its_layers() -> None:
    layers, setting = fuse(residual()), a_setting("agx-orin", "fp16")
    both = [(layers, setting), (layers[:1], setting)]
    work = describe_work(both)
    found = layer_times(work, ONES)
    total = np.maximum(found.arithmetic, found.memory) + found.launch
    expected = [total[: len(layers)].sum() / 1e3, total[len(layers)] / 1e3]
    assert latencies_ms(work, ONES) == pytest.approx(expected)


def test_floats_in_a_graph_of_codes_run_in_fp16_under_int8() -> None:
    setting = a_setting("orin-nano", "int8")
    assert precision_of(a_layer(integer=False), setting) == "fp16"
    assert precision_of(a_layer(integer=True), setting) == "int8"
    assert precision_of(a_layer(integer=None), setting) == "int8"
    assert precision_of(a_layer(integer=False), a_setting("orin-nano", "fp32")) == "fp32"


def test_lower_clocks_take_longer() -> None:
    slow = dataclasses.replace(a_setting("orin-nano", "fp16"), mode=find_mode("orin-nano", "15W"))
    fast = a_setting("orin-nano", "fp16")
    quick, late = (times(a_layer(), setting) for setting in (fast, slow))
    assert late[0] == pytest.approx(quick[0] * 1020 / 612)
    assert late[1] == pytest.approx(quick[1] * 3199 / 2133)
