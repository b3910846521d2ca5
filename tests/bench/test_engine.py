"""Engines as trtexec describes them, in the JSON of TensorRT 8 to 10 and in that of 11."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.bench import engine as module
from keras_quant.bench.engine import (
    CONVERSION,
    KINDS,
    NOTHING,
    OTHER,
    POINTWISE,
    POOL,
    PRODUCT,
    REFORMAT,
    Engine,
    check_detailed,
    parse_engine,
    with_times,
)
from keras_quant.bench.engine_costs import costs, short_name, totals
from keras_quant.errors import ResultsError

_SENTENCES = {
    "fp32": "Row major linear FP32",
    "fp16": "Thirty-two wide channel vectorized row major FP16 format",
    "int8": "Four wide channel vectorized row major Int8 format",
}
_ELEVEN = {"fp32": "Float", "fp16": "Half", "int8": "Int8"}
VERSIONS = ("10", "11")


def tensor(name: str, datatype: str, version: str) -> dict[str, Any]:
    row: dict[str, Any] = {"Name": name, "Location": "Device", "Dimensions": [1, 8, 4, 4]}
    if version == "11":
        return row | {"Format": "Channel major format (kCHW4)", "Datatype": _ELEVEN[datatype]}
    return row | {"Format/Datatype": _SENTENCES[datatype]}


def layer(
    name: str,
    layer_type: str,
    types: str,
    version: str = "10",
    *,
    reads: str = "x",
    gives: str = "y",
    **more: Any,
) -> dict[str, Any]:
    read, given = types.split(" -> ")
    return {
        "Name": name,
        "LayerType": layer_type,
        "Inputs": [tensor(reads, read, version)],
        "Outputs": [tensor(gives, given, version)],
        "StreamId": 0,
        **more,
    }


def file_of(layers: list[Any], version: str = "10") -> str:
    """A file of --exportLayerInfo."""
    if version == "11":
        rows = [{"Name": "image", "IOMode": "Input", "DataType": "Float"}, {"Name": "logits"}]
        return json.dumps({"Layers": layers, "I/O Tensors": rows, "Engine Metadata": {}})
    return json.dumps({"Layers": layers, "Bindings": ["image", "logits"]})


def some_engine(version: str = "10") -> str:
    """An engine with a layer of every sort; each reads what the one before it gives."""
    rows = [
        ("quantize", "Reformat", "fp32 -> int8", {"Origin": "QDQ"}),
        (
            "conv1.weight + QuantizeLinear_1 + Conv_2 + Relu_3",
            "CaskConvolution",
            "int8 -> int8",
            {
                "Weights": {"Type": "Int8", "Count": 9},
                "Metadata": "\x1e".join(
                    f"[ONNX Layer: {node}]" for node in ("QuantizeLinear_1", "Conv_2", "Relu_3")
                ),
            },
        ),
        ("Reformatting CopyNode for Input Tensor 0 to Conv_5", "Reformat", "int8 -> int8", {}),
        (
            "Conv_5",
            "CaskConvolution",
            "fp16 -> fp16",
            {"Weights": {"Type": "Half"}, "Metadata": "[ONNX Layer: Conv_5]"},
        ),
        ("pool", "TiledPooling", "fp16 -> fp16", {}),
        ("sum", "PointWiseV2", "fp16 -> fp16", {}),
        ("softmax_", "CustomThing", "fp16 -> fp32", {}),
        ("squeezed", "NoOp", "fp32 -> fp32", {}),
    ]
    return file_of(
        [
            layer(name, kind, types, version, reads=f"t{place}", gives=f"t{place + 1}", **more)
            for place, (name, kind, types, more) in enumerate(rows)
        ],
        version,
    )


TIMES = [
    ("quantize", 0.1),
    ("conv1.weight + QuantizeLinear_1 + Conv_2 + Relu_3", 0.4),
    ("Reformatting CopyNode for Input Tensor 0 to Conv_5", 0.05),
    ("Conv_5", 0.2),
    ("pool", 0.1),
    ("sum", 0.1),
    ("softmax_", 0.05),
    ("squeezed", 0.0),
]


@pytest.mark.parametrize("version", VERSIONS)
def test_both_forms_of_the_file_say_the_same(version: str) -> None:
    engine = parse_engine(some_engine(version), "l")
    check_detailed(engine, "l")
    assert engine.io_tensors == ("image", "logits")
    assert [one.kind for one in engine.layers] == [
        *(CONVERSION, PRODUCT, REFORMAT, PRODUCT, POOL, POINTWISE, OTHER, NOTHING)
    ]
    assert [one.precision for one in engine.layers][:4] == [
        *("fp32 to int8", "int8", "int8 to int8", "fp16")
    ]
    assert [one.types for one in engine.layers][:2] == ["fp32 -> int8", "int8 -> int8"]
    assert engine.layers[1].inputs[0].dimensions == (1, 8, 4, 4)


def test_nodes_are_those_of_the_metadata_or_else_of_the_name() -> None:
    told = parse_engine(some_engine(), "l").layers[1]
    assert told.onnx_nodes == ("QuantizeLinear_1", "Conv_2", "Relu_3")
    name = "fc.weight + QuantizeLinear_5 + Gemm_7 + fc.bias + (Unnamed Layer* 3) [Shuffle]"
    row = layer(name, "CaskConvolution", "int8 -> fp32")
    (untold,) = parse_engine(file_of([row]), "l").layers
    assert untold.onnx_nodes == ("QuantizeLinear_5", "Gemm_7")
    assert short_name(untold) == "Gemm_7"


@pytest.mark.parametrize(
    ("name", "layer_type", "types", "more", "kind"),
    [
        ("a", "Reformat", "fp32 -> int8", {}, CONVERSION),
        ("a", "Reformat", "fp32 -> fp16", {"Origin": "REFORMAT"}, REFORMAT),
        ("a", "Reformat", "fp32 -> fp32", {"Origin": "QDQ"}, CONVERSION),
        ("QuantizeLinear_2", "Reformat", "fp32 -> fp32", {}, CONVERSION),
        ("__myl_Fc", "fusion", "int8 -> fp16", {"TacticName": "sm80_xmma_gemm_i8"}, PRODUCT),
        ("_gemm_mha", "kgen", "int8 -> int8", {"TacticName": "_gemm_mha_v2_0x1"}, PRODUCT),
        ("__myl_Add", "fusion", "fp16 -> fp16", {"TacticName": "pointwise"}, OTHER),
        ("k", "kgen", "fp32 -> int8", {"Metadata": "[ONNX Layer: QuantizeLinear_2]"}, CONVERSION),
        ("k", "kgen", "fp32 -> int8", {"Metadata": "[ONNX Layer: Relu_2]"}, POINTWISE),
        ("a", "gemm", "int8 -> int8", {}, PRODUCT),
        ("a", "correlation", "int8 -> int8", {}, PRODUCT),  # TensorRT for RTX 1.7.1
        ("a", "Shuffle", "fp32 -> fp32", {}, REFORMAT),
    ],
)
def test_kinds_of_layers_are_told_apart(
    name: str, layer_type: str, types: str, more: dict[str, Any], kind: str
) -> None:
    (found,) = parse_engine(file_of([layer(name, layer_type, types, **more)]), "l").layers
    assert found.kind == kind


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("a.weight + Conv_9 + PWN(Clip_13)", ["Conv_9", "Clip_13"]),
        ("PWN(PWN(/act/Sigmoid), /act/Mul)", ["/act/Sigmoid", "/act/Mul"]),
        (
            "PWN((Unnamed Layer* 1) [ElementWise], PWN((Unnamed Layer* 2) [Constant] + Relu_3))",
            ["Relu_3"],
        ),
        (
            "n.weight + /n/_weight_quantizer/QuantizeLinear + /n/Conv",
            ["/n/_weight_quantizer/QuantizeLinear", "/n/Conv"],
        ),
        ("{ForeignNode[/head/Constant.../Unsqueeze_2]}", ["/head/Constant to /Unsqueeze_2"]),
        ("[trainStation1]", ["[trainStation1]"]),
    ],
)
def test_names_of_several_nodes_are_taken_apart(name: str, nodes: list[str]) -> None:
    row = layer(name, "CaskConvolution", "int8 -> int8")
    (found,) = parse_engine(file_of([row]), "l").layers
    assert list(found.onnx_nodes) == nodes


def test_a_product_computes_in_the_type_of_its_weights() -> None:
    row = layer("a", "CaskConvolution", "fp32 -> fp32", Weights={"Type": "Int8", "Count": 9})
    (found,) = parse_engine(file_of([row]), "l").layers
    assert (found.precision, found.types) == ("int8", "fp32 -> fp32")


def timed() -> Engine:
    return with_times(parse_engine(some_engine(), "l"), TIMES, "p")


def test_totals_are_those_of_the_layers() -> None:
    engine = timed()
    found = {total.kind: (total.layers, total.share) for total in totals(engine)}
    assert found == {
        "products in int8": (1, pytest.approx(0.4)),
        "products in fp16": (1, pytest.approx(0.2)),
        "reformat": (1, pytest.approx(0.05)),
        "Q/DQ": (1, pytest.approx(0.1)),
        "pooling": (1, pytest.approx(0.1)),
        "pointwise": (1, pytest.approx(0.1)),
        "other": (1, pytest.approx(0.05)),
        "nothing": (1, 0),
    }
    assert sum(total.share or 0 for total in totals(engine)) == pytest.approx(1)


def test_what_costs_time_is_said_in_sentences() -> None:
    assert costs(timed()) == (
        "Most of the time takes Conv_2 + 1 more (products, int8) 40.0%, Conv_5 (products, fp16) "
        "20.0% and quantize (Q/DQ, fp32 to int8) 10.0%.",
        "Reformats, which move values into another layout or float type, are 1 layer and 5.0% of "
        "the time; the slowest is copy for Conv_5 (int8 to int8, 5.0%).",
        "Q/DQ that were fused with no layer are 1 layer and 10.0% of the time; the slowest is "
        "quantize (fp32 to int8, 10.0%).",
        "Products in floats, beside 1 in codes, are 1 layer and 20.0% of the time; the slowest is "
        "Conv_5 (fp16, 20.0%).",
    )


def test_without_a_profile_layers_are_counted() -> None:
    sentences = costs(parse_engine(some_engine(), "l"))
    assert "are 1 layer; the first is copy for Conv_5 (int8 to int8)." in sentences[0]
    assert not any("time takes" in one for one in sentences)


def test_layers_of_one_name_get_their_times_in_turn() -> None:
    rows = [layer("a", "conv", "int8 -> int8"), layer("a", "conv", "int8 -> int8")]
    engine = with_times(parse_engine(file_of(rows), "l"), [("a", 1.0), ("a", 3.0)], "p")
    assert [one.share for one in engine.layers] == [0.25, 0.75]


@pytest.mark.parametrize(
    ("times", "told"),
    [
        ([*TIMES, ("more", 1.0)], "p: tells of 1 layers that the engine has not, as 'more'"),
        (
            TIMES[2:],
            "p: lacks 1 layers of the engine, as 'conv1.weight .*. Give the layers and the",
        ),
    ],
)
def test_a_profile_of_another_engine_is_refused(times: list[tuple[str, float]], told: str) -> None:
    with pytest.raises(ResultsError, match=told):
        with_times(parse_engine(some_engine(), "l"), times, "p")


def test_a_layer_that_is_no_product_may_be_missing_in_a_profile() -> None:
    assert with_times(parse_engine(some_engine(), "l"), TIMES[:-1], "p").layers[-1].time_ms is None
    first = with_times(parse_engine(some_engine(), "l"), TIMES[1:], "p").layers[0]
    assert (first.name, first.time_ms, first.share) == ("quantize", None, None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "l.json: not JSON"),
        ("[3]", "l.json: has no list of Layers; it is a list"),
        ("null", "l.json: has no list of Layers; it is None"),
        ('[{"averageMs": 1}]', "it is a profile .--exportProfile., which belongs behind --profile"),
        ('[{"latencyMs": 1}]', r"it holds times of calls \(--exportTimes\)"),
        ('{"Layers": 3}', "has no list of Layers; it has Layers"),
        ('{"nodes": []}', "has no list of Layers; it has nodes"),
        ("3", "it is 3"),
        ('{"Layers": [{"LayerType": "x"}]}', "l.json: layers are needed, with names"),
        ('{"Layers": [{"Name": "x", "Inputs": [3]}]}', "l.json: layers are needed, with names"),
        (
            '{"Layers": [{"Name": "x", "Inputs": [{"Dimensions": [Infinity]}]}]}',
            "l.json: layers are needed, with names",
        ),
    ],
)
def test_what_is_no_engine_is_refused(text: str, told: str) -> None:
    with pytest.raises(ResultsError, match=told):
        parse_engine(text, "l.json")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (file_of(["conv1", "conv2"]), "tells only the names of 2 layers.*profilingVerbosity=det"),
        (file_of([]), "l.json: has no layer. Build the engine with trtexec --profilingVerb"),
        (file_of([{"Name": "a"}]), "l.json: tells no types of tensors. Build the engine"),
    ],
)
def test_an_engine_without_details_is_refused(text: str, told: str) -> None:
    with pytest.raises(ResultsError, match=told):
        check_detailed(parse_engine(text, "l.json"), "l.json")


@given(st.binary(max_size=30), st.integers(0, 2000))
def test_garbage_in_a_file_is_an_error_of_ours(garbage: bytes, place: int) -> None:
    text = some_engine()
    broken = text[:place] + garbage.decode(errors="replace") + text[place:]
    try:
        engine = parse_engine(broken, "l")
    except ResultsError:
        return
    assert {one.kind for one in engine.layers} <= set(KINDS)


def test_every_kind_has_a_look() -> None:
    pytest.importorskip("matplotlib")
    from keras_quant.plots.engine import _LOOKS

    assert set(_LOOKS) == set(module.KINDS)
