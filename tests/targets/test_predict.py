"""What will cost time: found in small files, and judged by what NVIDIA's builder makes of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from keras_quant.targets.builder import BuiltLayer, builder_is_installed, built_layers
from keras_quant.targets.check import check_tensorrt
from keras_quant.targets.report import is_rejected
from keras_quant.targets.rules import COSTS, RULES
from keras_quant.targets.tensorrt import TensorRTOptions

needs_builder = pytest.mark.skipif(not builder_is_installed(), reason="extra tensorrt is missing")

CHANNELS, SIZE = 32, 8
PRODUCTS = ("correlation", "gemm")


class Chain:
    """A file of codes that is written node by node; `value` is what the last one gives."""

    def __init__(self, channels: int = CHANNELS, *, flat: bool = False) -> None:
        self.shape = [1, channels] if flat else [1, channels, SIZE, SIZE]
        self.constants: dict[str, np.ndarray] = {"zero": np.array(0, np.int8)}
        self.nodes: list[onnx.NodeProto] = []
        self.value = "x"
        self.channels = channels
        self.quantize("first")

    def add(self, op: str, name: str, *more: str, **attributes: object) -> Chain:
        self.nodes.append(helper.make_node(op, [self.value, *more], [name], name, **attributes))
        self.value = name
        return self

    def quantize(self, name: str, *, scale: float = 0.125) -> Chain:
        self.constants[f"{name}_scale"] = np.array(scale, np.float32)
        for op, given in (("QuantizeLinear", f"{name}_q"), ("DequantizeLinear", name)):
            self.add(op, given, f"{name}_scale", "zero")
        return self

    def conv(self, name: str, channels: int = CHANNELS, *, size: int = 3, group: int = 1) -> Chain:
        shape = (channels, self.channels // group, size, size)
        self.channels = channels
        weight = self._weight(name, shape, axis=0)
        return self.add("Conv", name, weight, group=group, pads=[size // 2] * 4)

    def gemm(self, name: str, outputs: int, *, turned: bool = True) -> Chain:
        shape = (outputs, self.channels) if turned else (self.channels, outputs)
        weight = self._weight(name, shape, axis=0 if turned else 1)
        self.channels = outputs
        return self.add("Gemm", name, weight, transB=int(turned))

    def matmul(self, name: str, outputs: int) -> Chain:
        weight = self._weight(name, (self.channels, outputs), axis=1)
        self.channels = outputs
        return self.add("MatMul", name, weight)

    def _weight(self, name: str, shape: tuple[int, ...], *, axis: int) -> str:
        values = np.random.default_rng(0).integers(-7, 8, shape).astype(np.int8)
        self.constants |= {
            f"{name}_w": values,
            f"{name}_w_scale": np.full(shape[axis], 0.01, np.float32),
            f"{name}_w_zero": np.zeros(shape[axis], np.int8),
        }
        inputs = [f"{name}_w", f"{name}_w_scale", f"{name}_w_zero"]
        node = helper.make_node("DequantizeLinear", inputs, [f"{name}_wdq"], axis=axis)
        self.nodes.append(node)
        return f"{name}_wdq"

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "chain",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(self.value, TensorProto.FLOAT, None)],
            initializer=[numpy_helper.from_array(a, name) for name, a in self.constants.items()],
        )
        opset = [helper.make_opsetid("", 13)]
        return helper.make_model(graph, opset_imports=opset, ir_version=7)


def two_layers(between: Callable[[Chain], object]) -> Chain:
    """A convolution, something, and another convolution, all with codes around them."""
    chain = Chain().conv("conv1").quantize("middle")
    between(chain)
    return chain.conv("conv2", size=1).quantize("last")


def skip(*, quantized: bool, rounded: bool = False) -> Chain:
    """A residual block.

    Args:
        quantized: whether its skip connection is codes, or the floats before them.
        rounded: whether its branch is rounded before it is added.
    """
    chain = Chain().conv("conv1").add("Relu", "relu")
    chain.quantize("middle").conv("conv2")
    if rounded:
        chain.quantize("branch")
    other = "relu"
    if quantized:
        chain.constants["skip_scale"] = np.array(0.125, np.float32)
        chain.nodes.append(
            helper.make_node("DequantizeLinear", ["middle_q", "skip_scale", "zero"], ["skip"])
        )
        other = "skip"
    return chain.add("Add", "sum", other).quantize("last").conv("conv3").quantize("end")


def projected() -> Chain:
    """A residual block whose skip connection is a convolution: one of the two has to be rounded."""
    chain = Chain().conv("conv1").quantize("start").conv("projection", size=1)
    chain.value = "start"
    return chain.conv("conv2").quantize("branch").add("Add", "sum", "projection").quantize("last")


def skip_of_the_input() -> Chain:
    """Floats of the input, which were no codes yet, beside their codes."""
    chain = Chain()
    chain.nodes.clear()
    chain.value = "x"
    chain.add("Relu", "relu").quantize("first").conv("conv").add("Add", "sum", "relu")
    return chain.quantize("last")


def island(op: str, **attributes: object) -> Chain:
    return two_layers(lambda chain: chain.add(op, "island", **attributes).quantize("back"))


def requantized() -> Chain:
    return two_layers(lambda chain: chain.quantize("again", scale=0.5))


COSTLY: dict[str, tuple[str, Callable[[], Chain], str]] = {
    "average pooling": (
        "float-island",
        lambda: island("AveragePool", kernel_shape=[2, 2]),
        "islan",
    ),
    "mean": ("float-island", lambda: island("GlobalAveragePool"), "island"),
    "softmax": ("float-island", lambda: island("Softmax", axis=-1), "island"),
    "floats skip": ("float-copy", lambda: skip(quantized=False), "middle_q"),
    "a rounded branch": (
        "separated-addition",
        lambda: skip(quantized=True, rounded=True),
        "branch_q",
    ),
    "another scale": ("requantized", requantized, "again_q"),
    "an odd number": ("padded-channels", lambda: Chain(10).conv("conv").quantize("y"), "conv"),
    "an image": ("padded-channels", lambda: Chain(3).conv("conv").quantize("y"), "conv"),
    "depthwise": ("padded-channels", lambda: Chain().conv("conv", group=32).quantize("y"), "conv"),
    "few inputs": ("small-product", lambda: Chain(15, flat=True).gemm("gemm", 32), "gemm"),
    "few outputs": ("small-product", lambda: Chain(flat=True).gemm("gemm", 3), "gemm"),
    "not turned": (
        "small-product",
        lambda: Chain(flat=True).gemm("gemm", 3, turned=False),
        "gemm",
    ),
    "few of a MatMul": ("small-product", lambda: Chain(flat=True).matmul("gemm", 3), "gemm"),
}
CHEAP: dict[str, Callable[[], Chain]] = {
    "two convolutions": lambda: two_layers(lambda chain: None),
    "a function": lambda: island("Sigmoid"),
    "a larger window": lambda: island("MaxPool", kernel_shape=[2, 2]),
    "codes skip": lambda: skip(quantized=True),
    "a projection": projected,
    "floats of the input": skip_of_the_input,
    "the same scale": lambda: two_layers(lambda chain: chain.quantize("again")),
    "groups of 4": lambda: Chain().conv("conv", group=8).quantize("y"),
    "a tile": lambda: Chain(16, flat=True).gemm("gemm", 16),
    "softmax at the end": lambda: Chain(flat=True).gemm("gemm", 16).add("Softmax", "y", axis=1),
}


def predicted(chain: Chain) -> list[tuple[str, str]]:
    findings = check_tensorrt(chain.model(), TensorRTOptions())
    assert not is_rejected(findings)
    assert {finding.effect for finding in findings} <= {COSTS}
    return [(finding.rule, finding.node) for finding in findings]


def test_every_cost_has_a_file_that_has_it() -> None:
    assert {rule for rule, _, _ in COSTLY.values()} == {
        name for name, rule in RULES.items() if rule.effect == COSTS
    }


@pytest.mark.parametrize("name", COSTLY)
def test_what_costs_time_is_predicted(name: str) -> None:
    rule, build, node = COSTLY[name]
    ((found, where),) = predicted(build())
    assert found == rule
    assert where.startswith(node)


@pytest.mark.parametrize("name", CHEAP)
def test_nothing_is_predicted_of_what_costs_nothing(name: str) -> None:
    assert predicted(CHEAP[name]()) == []


def test_a_file_of_floats_has_no_costs_of_codes() -> None:
    chain = Chain()
    chain.nodes.clear()
    chain.value = "x"
    assert predicted(chain.add("GlobalAveragePool", "mean")) == []


def test_sizes_are_told() -> None:
    def told(name: str) -> str:
        (finding,) = check_tensorrt(COSTLY[name][1]().model(), TensorRTOptions())
        return finding.what

    assert "reads 10 channels; int8 kernels take 4 at a time, so 12 are multiplied" in told(
        "an odd number"
    )
    assert "reads 1 channel in each of 32 groups" in told("depthwise")
    assert told("few inputs").startswith("K is 15 (K inputs, N outputs)")
    assert told("not turned").startswith("N is 3 ")
    assert "which Add 'sum' reads as floats" in told("floats skip")


def layer_with(node: str, layers: tuple[BuiltLayer, ...], *kinds: str) -> BuiltLayer:
    return next(
        one for one in layers if node in one.onnx_nodes and (not kinds or one.kind in kinds)
    )


@needs_builder
@pytest.mark.parametrize("name", [n for n in COSTLY if COSTLY[n][0] == "float-island"])
def test_the_builder_passes_floats_through_an_island(name: str) -> None:
    layers = built_layers(COSTLY[name][1]().model())
    assert any("Float" in one.gives for one in layers if "island" in one.onnx_nodes)


@needs_builder
@pytest.mark.parametrize("name", ["a function", "a larger window"])
def test_the_builder_fuses_what_is_no_island(name: str) -> None:
    layers = built_layers(CHEAP[name]().model())
    assert layer_with("island", layers).gives == ("Int8",)


@needs_builder
def test_the_builder_writes_floats_that_skip_beside_their_codes() -> None:
    copied = layer_with("relu", built_layers(skip(quantized=False).model()))
    assert sorted(copied.gives) == ["Float", "Int8"]
    codes = layer_with("relu", built_layers(skip(quantized=True).model()))
    assert codes.gives == ("Int8",)


@needs_builder
def test_the_builder_rounds_a_branch_and_its_sum() -> None:
    rounded = layer_with("sum", built_layers(skip(quantized=True, rounded=True).model()))
    assert rounded.tactic.count("Roun") == 2
    fused = layer_with("sum", built_layers(skip(quantized=True).model()))
    assert fused.tactic.count("Roun") == 1


@needs_builder
def test_the_builder_rounds_twice_where_the_scale_changes() -> None:
    twice = layer_with("again_q", built_layers(requantized().model()))
    assert twice.tactic.count("Roun") == 2
    once = built_layers(CHEAP["the same scale"]().model())
    assert max(one.tactic.count("Roun") for one in once) == 1


@needs_builder
@pytest.mark.parametrize(
    ("channels", "group", "multiplied"), [(10, 1, 12), (3, 1, 4), (32, 1, 32), (32, 32, 128)]
)
def test_the_builder_pads_channels(channels: int, group: int, multiplied: int) -> None:
    chain = Chain(channels).conv("conv", group=group).quantize("y")
    read, _ = layer_with("conv", built_layers(chain.model()), *PRODUCTS).sizes
    assert read[1] == multiplied
    assert bool(predicted(chain)) == (multiplied != channels)


@needs_builder
@pytest.mark.parametrize(
    ("inputs", "outputs", "padded"), [(15, 32, (16, 32)), (32, 3, (32, 4)), (16, 16, (16, 16))]
)
def test_the_builder_pads_small_products(
    inputs: int, outputs: int, padded: tuple[int, int]
) -> None:
    chain = Chain(inputs, flat=True).gemm("gemm", outputs)
    layer = layer_with("gemm", built_layers(chain.model()), *PRODUCTS)
    assert tuple(size[1] for size in layer.sizes) == padded
    assert layer.reads == ("Int8",)  # none runs in float, as ModelOpt would have it
    assert bool(predicted(chain)) == (padded != (inputs, outputs))
