"""trtexec's log and files, as versions write them; a run that failed is refused."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.bench.engine import parse_engine
from keras_quant.bench.trtexec import (
    parse_log,
    parse_profile,
    parse_times,
    with_engine,
)
from keras_quant.errors import ResultsError
from tests.bench.boards import A_PROFILE, SHARED, SOME_LAYERS, a_log, some_times


@pytest.mark.parametrize(
    ("digits", "version"),
    [("8201", "8.2.1"), ("8502", "8.5.2"), ("100300", "10.3.0"), ("101303", "10.13.3")],
)
def test_each_version_is_read(digits: str, version: str) -> None:
    log = parse_log(a_log(version=digits), "log")
    assert (log.version, log.queries_per_s, log.queries, log.walltime_s) == (version, 400, 4, 3.01)
    assert log.times_ms["Latency"] == {
        "min": 1.25,
        "max": 5.0,
        "mean": 2.5,
        "median": 2.5,
        "percentile(99%)": 3.75,
    }
    assert log.times_ms["GPU Compute Time"]["mean"] == 2.25
    assert ("End-to-End Host Latency" in log.times_ms) == (digits == "8201")


def test_only_the_asked_percentiles_are_there() -> None:
    text = a_log(percentiles="percentile(90%),percentile(99.9%)")
    times = parse_log(text, "log").times_ms["Latency"]
    assert [name for name in times if name.startswith("p")] == [
        "percentile(90%)",
        "percentile(99.9%)",
    ]


def test_an_implicit_batch_counts_images_and_not_calls() -> None:
    log = parse_log(a_log(qps=1600, command="trtexec --loadEngine=x --batch=16"), "log")
    assert log.queries_per_s == 100


FAILED = f"{a_log(verdict='FAILED')}[01/01/2026-10:00:00] [E] Engine could not be created\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (FAILED, "^x.log: trtexec failed: Engine could not be created. Mend that"),
        (a_log().partition("&&&& PASSED")[0], "no line that begins with '&&&& PASSED'"),
        ("", "no line that begins with '&&&& PASSED'"),
        (a_log().replace("Throughput", "Thr"), r"no performance summary \(Throughput\)"),
        (
            "&&&& PASSED TensorRT.trtexec [TensorRT v8502] # trtexec --buildOnly\n",
            r"no performance summary \(Latency, GPU Compute Time, Throughput, Total Host",
        ),
    ],
)
def test_a_log_of_a_run_that_did_not_measure_is_refused(text: str, told: str) -> None:
    with pytest.raises(ResultsError, match=told):
        parse_log(text, "x.log")


@given(st.integers(0, 10_000))
def test_a_log_that_was_cut_is_refused_or_says_the_same(place: int) -> None:
    text = a_log()
    try:
        found = parse_log(text[:place], "cut")
    except ResultsError:
        return
    whole = parse_log(text, "whole")
    assert replace(found, command="") == replace(whole, command="")  # the last line may be cut


@given(st.binary(max_size=50), st.integers(0, 200))
def test_garbage_in_files_is_an_error_of_ours(garbage: bytes, place: int) -> None:
    for parse, text in (
        (parse_log, a_log()),
        (parse_times, some_times(1.0, 2.0)),
        (parse_profile, A_PROFILE),
        (parse_engine, SOME_LAYERS),
    ):
        with contextlib.suppress(ResultsError):
            parse(text[:place] + garbage.decode(errors="replace") + text[place:], "broken")


def test_times_are_those_of_each_call() -> None:
    times = parse_times(some_times(2.0, 3.0), "times")
    assert times.latency.tolist() == [2.0, 3.0]
    assert times.compute.tolist() == [1.8, 0.9 * 3.0]


def test_calls_of_the_warm_up_are_left_out() -> None:
    times = parse_times(some_times(9.0, 9.0, 2.0, 3.0), "times", queries=2)
    assert times.latency.tolist() == [2.0, 3.0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[", "t.json: not JSON"),
        ("{}", "holds a dict; a list is needed, as trtexec --exportTimes and"),
        (json.dumps([{"latencyMs": 1}] * 2), "each call needs latencyMs and computeMs"),
        (json.dumps([3, 4]), "each call needs latencyMs and computeMs"),
        (some_times(1.0), "holds 1 calls, and the log tells of 2"),
        (some_times(1.0, -1.0), "at least two calls, of times above 0"),
        (some_times(1.0, 0.0), "at least two calls, of times above 0"),
    ],
)
def test_broken_times_are_refused(text: str, told: str) -> None:
    with pytest.raises(ResultsError, match=told):
        parse_times(text, "t.json", queries=2)


def test_layers_have_times_types_and_reasons() -> None:
    conv, copy = with_engine(parse_profile(A_PROFILE, "p"), parse_engine(SOME_LAYERS, "l"))
    assert (conv.name, conv.op, conv.types) == ("conv1", "CaskConvolution", "int8 -> fp32")
    assert (conv.time_us, conv.share) == (pytest.approx(300), pytest.approx(0.75))
    assert copy.why == "reformat: values change their layout or type"
    assert copy.time_us == pytest.approx(100)  # TensorRT 8.2 has no medians


@pytest.mark.parametrize(
    "text",
    [
        *("[3]", '[{"name": "a"}]', '[{"averageMs": 1}]', '[{"name": "a", "averageMs": -1}]'),
        *('[{"name": "a", "averageMs": NaN}]', f'[{{"name": "a", "averageMs": {10**400}}}]'),
    ],
)
def test_broken_profiles_are_refused(text: str) -> None:
    with pytest.raises(ResultsError, match=r"p.json: an entry is no layer with a name and a time"):
        parse_profile(text, "p.json")


# By hand from the recordings: version, calls a second, mean latency, mean time of computing.
RECORDED = {
    "agx_xavier_trt8.4_mnist_b16": ("8.4.0", 41087.7 / 16, 0.402238, 0.388221),
    "jetson_trt10.3_resnet50_fp16_noDataTransfers": ("10.3.0", 318.007, 3.14068, 3.14068),
    "nano_tx1_trt8.2.1_culane18_fp32": ("8.2.1", 11.0613, 90.3919, 90.1061),
    "orin_nano_trt8.5.2_yolox_s_leaky_fp16": ("8.5.2", 97.8649, 10.7971, 10.1824),
}


@pytest.mark.skipif(not (SHARED / "trtexec").is_dir(), reason="needs the recordings")
@pytest.mark.parametrize("name", RECORDED)
def test_recorded_logs_are_read(name: str) -> None:
    log = parse_log((SHARED / "trtexec" / f"{name}.log").read_text(), name)
    times = (log.times_ms["Latency"]["mean"], log.times_ms["GPU Compute Time"]["mean"])
    assert (log.version, log.queries_per_s, *times) == RECORDED[name]
    # One call after the other, or overlapping by the copies: the period is what computing takes.
    assert 1e3 / log.queries_per_s == pytest.approx(times[1], rel=0.01)


@pytest.mark.skipif(not (SHARED / "trex").is_dir(), reason="needs the recordings")
def test_a_recorded_engine_is_read() -> None:
    def text(name: str) -> str:
        return (SHARED / "trex" / f"resnet_qat_A100.{name}.json").read_text()

    engine = parse_engine(text("graph"), "graph")
    profile = with_engine(parse_profile(text("profile"), "profile"), engine)
    assert len(profile) == len(engine.layers) == 37
    first = profile[0]
    assert (first.name, first.op, first.types) == ("QuantizeLinear_2", "Reformat", "fp32 -> int8")
    assert first.share == pytest.approx(0.0560748, rel=1e-4)
    summary = json.loads(text("profile.metadata"))["performance_summary"]
    mean = parse_times(text("timing"), "timing").compute.mean()
    # min, max, mean, median, percentile of another run of the same engine.
    assert mean == pytest.approx(summary["GPU Compute Time"][2], rel=0.02)
