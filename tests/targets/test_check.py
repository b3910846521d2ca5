"""The rules for ONNX files: one small file that breaks each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from keras_quant.errors import ModelError
from keras_quant.targets.builder import INT8, build, builder_is_installed
from keras_quant.targets.check import check_tensorrt, load_onnx
from keras_quant.targets.report import is_rejected
from keras_quant.targets.rules import COSTS, FLOAT, REJECTED, RULES, SLOW
from keras_quant.targets.tensorrt import TensorRTOptions

CHANNELS = 32
needs_builder = pytest.mark.skipif(not builder_is_installed(), reason="extra tensorrt is missing")


class Net:
    """A quantized convolution behind one operator, whose parts a test may break."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.opset = 13
        self.constants: dict[str, np.ndarray] = {
            "scale": np.array(0.125, np.float32),
            "zero": np.array(0, np.int8),
            "weight": rng.integers(-7, 8, (CHANNELS, CHANNELS, 3, 3)).astype(np.int8),
            "weight_scale": rng.uniform(0.01, 0.02, CHANNELS).astype(np.float32),
            "weight_zero": np.zeros(CHANNELS, np.int8),
        }
        quantized = ["scale", "zero"]
        self.nodes = [
            helper.make_node("QuantizeLinear", ["x", *quantized], ["q"], "q"),
            helper.make_node("DequantizeLinear", ["q", *quantized], ["dq"], "dq"),
            helper.make_node(
                "DequantizeLinear",
                ["weight", "weight_scale", "weight_zero"],
                ["w"],
                "w",
                axis=0,
            ),
            helper.make_node("Conv", ["dq", "w"], ["y"], "conv"),
        ]

    def node(self, name: str) -> onnx.NodeProto:
        return next(node for node in self.nodes if node.name == name)

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, 8, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            initializer=[numpy_helper.from_array(a, name) for name, a in self.constants.items()],
        )
        opset = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opset, ir_version=7)


def opset(net: Net) -> None:
    net.opset = 30


def integer_operator(net: Net) -> None:
    net.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x"], ["a", "b", "c"], "dynamic"))


def zero_point(net: Net) -> None:
    net.constants["zero"] = np.array(3, np.int8)


def zero_point_missing(net: Net) -> None:
    del net.node("q").input[2]
    net.node("q").attribute.append(helper.make_attribute("output_dtype", TensorProto.INT8))


def unsigned_type(net: Net) -> None:
    net.constants["zero"] = np.array(0, np.uint8)


def integer_bias(net: Net) -> None:
    net.constants["bias"] = np.zeros(CHANNELS, np.int32)
    net.nodes.insert(0, helper.make_node("DequantizeLinear", ["bias", "scale"], ["b"], "bias"))
    net.node("conv").input.append("b")


def int4_activation(net: Net) -> None:
    net.constants["zero"] = np.array(0).astype(onnx.helper.tensor_dtype_to_np_dtype(22))


def computed_scale(net: Net) -> None:
    net.nodes.insert(0, helper.make_node("ReduceMax", ["x"], ["top"], "top", keepdims=0))
    net.node("q").input[1] = "top"


def negative_scale(net: Net) -> None:
    net.constants["weight_scale"][3] = -0.01


def per_channel_activation(net: Net) -> None:
    net.constants["scale"] = np.full(CHANNELS, 0.125, np.float32)


def scale_rank(net: Net) -> None:
    net.constants["scale"] = np.array([0.125], np.float32)


def weight_axis(net: Net) -> None:
    net.node("w").attribute[0].i = 1


def float_input(net: Net) -> None:
    pool = helper.make_node("AveragePool", ["dq"], ["mean"], "mean", kernel_shape=[2, 2])
    net.nodes.insert(2, pool)
    net.node("conv").input[0] = "mean"


def float_weight(net: Net) -> None:
    net.constants["weight"] = net.constants["weight"].astype(np.float32)
    net.node("conv").input[1] = "weight"
    net.nodes.remove(net.node("w"))


def separated_activation(net: Net, rectifier: str = "Relu") -> None:
    net.node("conv").output[0] = "sums"
    net.nodes += [
        helper.make_node("QuantizeLinear", ["sums", "scale", "zero"], ["sums_q"], "between"),
        helper.make_node("DequantizeLinear", ["sums_q", "scale", "zero"], ["sums_dq"], "back"),
        helper.make_node(rectifier, ["sums_dq"], ["y"], "activation"),
    ]


def nothing(net: Net) -> None:
    """A file for another place."""


BREAKERS: list[tuple[str, Callable[[Net], None], TensorRTOptions]] = [
    ("opset", opset, TensorRTOptions()),
    ("integer-operator", integer_operator, TensorRTOptions()),
    ("zero-point", zero_point, TensorRTOptions()),
    ("zero-point-missing", zero_point_missing, TensorRTOptions(version="8.5")),
    ("type", unsigned_type, TensorRTOptions()),
    ("type", integer_bias, TensorRTOptions()),
    ("int4", int4_activation, TensorRTOptions()),
    ("scale-not-constant", computed_scale, TensorRTOptions()),
    ("scale-not-positive", negative_scale, TensorRTOptions()),
    ("per-channel-activation", per_channel_activation, TensorRTOptions()),
    ("scale-rank", scale_rank, TensorRTOptions()),
    ("weight-axis", weight_axis, TensorRTOptions()),
    ("float-input", float_input, TensorRTOptions()),
    ("float-weight", float_weight, TensorRTOptions()),
    ("separated-activation", separated_activation, TensorRTOptions()),
    ("quantized-on-float-board", nothing, TensorRTOptions(board="nano")),
    ("quantized-on-dla", nothing, TensorRTOptions(board="orin-nx", dla=True)),
]
# The builder is newer than the versions that want constant scales and three inputs, and knows
# no boards; it takes uint8 with zero point 0, which the documents do not promise.
NOT_THE_BUILDERS = (opset, zero_point_missing, computed_scale, unsigned_type, nothing)


def broken(breaker: Callable[[Net], None]) -> onnx.ModelProto:
    net = Net()
    breaker(net)
    return net.model()


def test_every_rule_has_a_file_that_breaks_it() -> None:
    assert {rule for rule, _, _ in BREAKERS} == {
        name for name, rule in RULES.items() if rule.effect != COSTS
    }


def test_a_good_file_breaks_no_rule() -> None:
    assert check_tensorrt(Net().model(), TensorRTOptions()) == ()


@pytest.mark.parametrize(("rule", "breaker", "options"), BREAKERS)
def test_a_broken_rule_is_found(
    rule: str, breaker: Callable[[Net], None], options: TensorRTOptions
) -> None:
    findings = check_tensorrt(broken(breaker), options)
    assert {finding.rule for finding in findings} == {rule}
    assert is_rejected(findings) == (RULES[rule].effect == REJECTED)
    assert all(finding.source and finding.remedy and finding.what for finding in findings)


@needs_builder
@pytest.mark.parametrize(
    ("rule", "breaker"), [(rule, b) for rule, b, _ in BREAKERS if b not in NOT_THE_BUILDERS]
)
def test_nvidias_builder_agrees(rule: str, breaker: Callable[[Net], None]) -> None:
    report = build(broken(breaker))
    if RULES[rule].effect == SLOW:
        assert report.rejected == ()
    elif RULES[rule].effect == FLOAT:
        assert report.rejected == ()
        assert [layer.precision for layer in report.layers] != [INT8]
    else:
        assert report.rejected


@needs_builder
def test_builder_runs_a_good_file_in_int8() -> None:
    report = build(Net().model())
    assert report.rejected == ()
    assert [(layer.name, layer.op, layer.precision) for layer in report.layers] == [
        ("conv", "Conv", INT8)
    ]


@needs_builder
def test_builder_tells_nodes_without_names_apart() -> None:
    model = Net().model()
    for node in model.graph.node:
        node.name = ""
    assert [(layer.name, layer.precision) for layer in build(model).layers] == [("y", INT8)]


@pytest.mark.parametrize("passing", ["MaxPool", "Identity"])
def test_operators_that_only_move_values_need_no_quantization(passing: str) -> None:
    net = Net()
    attributes = {"kernel_shape": [2, 2]} if passing == "MaxPool" else {}
    net.nodes.insert(2, helper.make_node(passing, ["dq"], ["moved"], "moved", **attributes))
    net.node("conv").input[0] = "moved"
    assert check_tensorrt(net.model(), TensorRTOptions()) == ()


@pytest.mark.parametrize("content", [b"", b"no model"])
def test_a_damaged_file_is_explained(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="bad.onnx: not an ONNX file"):
        load_onnx(tmp_path / "bad.onnx")
    with pytest.raises(ModelError, match=r"none\.onnx: no such file"):
        load_onnx(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="is a folder; give an .onnx file"):
        load_onnx(tmp_path)


def add_bias(net: Net) -> None:
    net.constants["bias"] = np.zeros((1, CHANNELS, 1, 1), np.float32)
    net.nodes.insert(4, helper.make_node("Add", ["conv_y", "bias"], ["sums"], "add"))
    net.node("conv").output[0] = "conv_y"


def add_residual(net: Net) -> None:
    net.nodes.insert(4, helper.make_node("Add", ["conv_y", "dq"], ["sums"], "add"))
    net.node("conv").output[0] = "conv_y"
    net.constants["weight"] = net.constants["weight"][:, :, :1, :1]  # of the residual's shape


def read_codes_elsewhere(net: Net) -> None:
    net.nodes.append(helper.make_node("DequantizeLinear", ["sums_q", "scale", "zero"], ["z"], "z"))


def read_reals_elsewhere(net: Net) -> None:
    net.nodes.append(helper.make_node("Sigmoid", ["sums_dq"], ["z"], "z"))


def quantize_behind(net: Net) -> None:
    net.node("activation").input[0] = "sums"
    net.node("between").input[0] = "rectified"
    net.node("activation").output[0] = "rectified"
    net.node("back").output[0] = "y"
    net.nodes.insert(4, net.nodes.pop())


@pytest.mark.parametrize("rectifier", ["Relu", "Clip"])
@pytest.mark.parametrize("change", [nothing, add_bias])
def test_quantization_between_a_layer_and_its_activation_is_found(
    change: Callable[[Net], None], rectifier: str
) -> None:
    net = Net()
    separated_activation(net, rectifier)
    change(net)
    (finding,) = check_tensorrt(net.model(), TensorRTOptions())
    assert (finding.rule, finding.node, finding.op) == (
        "separated-activation",
        "between",
        "QuantizeLinear",
    )
    assert finding.what.endswith(f"between Conv 'conv' and {rectifier} 'activation'")


@pytest.mark.parametrize(
    "change", [quantize_behind, add_residual, read_codes_elsewhere, read_reals_elsewhere]
)
def test_quantization_that_others_need_is_left_alone(change: Callable[[Net], None]) -> None:
    net = Net()
    separated_activation(net)
    change(net)
    assert check_tensorrt(net.model(), TensorRTOptions()) == ()


def test_quantization_in_front_of_another_function_is_left_alone() -> None:
    net = Net()
    separated_activation(net, "Sigmoid")
    assert check_tensorrt(net.model(), TensorRTOptions()) == ()
