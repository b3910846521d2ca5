"""Realized graphs with random weights, for tests that compare a file with the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.graph.ops import OPS
from keras_quant.qparams import QParams, signed, unsigned

BODY_OPS = (
    *("conv2d", "grouped_conv2d", "depthwise_conv2d", "conv2d_transpose"),
    *("max_pool", "avg_pool", "pad", "requantize", "add", "upsample", "concat"),
    *("multiply", "lookup", "transpose", "add_vector"),
)


class GraphBuilder:
    """Adds random nodes, one after the other, to an image that becomes codes first.

    Args:
        rng: decides everything.
        shape: of the input image, (height, width, channels).
        power_of_two: whether all scales are powers of two, which makes ties frequent.
    """

    def __init__(
        self, rng: np.random.Generator, shape: tuple[int, int, int], *, power_of_two: bool
    ) -> None:
        self._rng = rng
        self._power_of_two = power_of_two
        self._tensors = {"image": Tensor(name="image", shape=shape)}
        self._nodes: list[Node] = []
        self.last = "image"
        self.add_node("quantize", qparams=self.random_qparams())

    def graph(self) -> Graph:
        """The graph so far; its output is the last tensor."""
        return Graph(
            name="random",
            inputs=("image",),
            outputs=(self.last,),
            tensors=self._tensors,
            nodes=tuple(self._nodes),
        )

    def images(self, count: int) -> dict[str, np.ndarray]:
        """Random inputs, some of them beyond the range of the first codes."""
        qparams = self._tensors[self._nodes[0].output].qparams
        shape = (count, *self._tensors["image"].shape)
        span = 1.2 * (qparams.qmax - qparams.qmin) * qparams.scale
        low = (qparams.qmin - qparams.zero_point) * qparams.scale - 0.1 * span
        return {"image": self._rng.uniform(low, low + span, shape).astype(np.float32)}

    def shape(self) -> tuple[int, ...]:
        return self._tensors[self.last].shape

    def qparams(self) -> QParams:
        return self._tensors[self.last].qparams

    def random_scale(self) -> float:
        exponent = int(self._rng.integers(-6, 3))
        return 2.0**exponent * (1 if self._power_of_two else self._rng.uniform(1, 2))

    def random_qparams(self, scale: float | None = None) -> QParams:
        """1 to 8 bits, unsigned or signed, sometimes with a shifted zero point."""
        scale = self.random_scale() if scale is None else scale
        bits = int(self._rng.integers(1, 9))
        kind = self._rng.integers(4)
        if kind <= 1:
            return unsigned(bits, scale)
        if kind == 2:
            return signed(max(bits, 2), scale, narrow_range=bool(self._rng.integers(2)))
        zero_point = int(self._rng.integers(2**bits))
        return QParams(scale=scale, zero_point=zero_point, qmin=0, qmax=2**bits - 1, bits=bits)

    def add_node(
        self, op, *, qparams, inputs=None, attrs=None, weight=None, bias=None, table=None
    ) -> None:
        """Adds a node behind the last tensor; its output shape follows from its op."""
        name = f"{op}_{len(self._nodes)}"
        node = Node(
            name=name,
            op=op,
            inputs=inputs or (self.last,),
            output=f"{name}_out",
            attrs=attrs or {},
            weight=weight,
            bias=bias,
            table=table,
        )
        shape = OPS[op].shape(node, [self._tensors[source].shape for source in node.inputs])
        self._nodes.append(node)
        self._tensors[node.output] = Tensor(name=node.output, shape=shape, qparams=qparams)
        self.last = node.output

    def add_linear(self, op: str, kernel: tuple[int, ...], *, qparams=None, attrs=None) -> None:
        """Adds a node with a kernel of 1 to 8 bits."""
        rng, source = self._rng, self.qparams()
        target = self.random_qparams() if qparams is None else qparams
        largest = 2 ** int(rng.integers(0, 8))
        values = rng.integers(-largest, largest, kernel, endpoint=True).clip(-128, 127)
        taps = np.prod(kernel) if op == "depthwise_conv2d" else np.prod(kernel[:-1])
        taps = taps / kernel[-1] if op == "depthwise_conv2d" else taps
        spread = np.sqrt(taps) * largest * (source.qmax - source.qmin) / 3
        wanted = (target.qmax - target.qmin) / 4 / spread * rng.uniform(0.5, 2, kernel[-1])
        if self._power_of_two:
            wanted = 2.0 ** np.round(np.log2(wanted))
        scale = (wanted * target.scale / source.scale).astype(np.float32)
        bias = rng.normal(0, spread, kernel[-1]).astype(np.int32) if rng.integers(4) else None
        weight = Weight(values=values.astype(np.int8), scale=scale, bits=8)
        self.add_node(op, qparams=target, attrs=attrs, weight=weight, bias=bias)

    def add_head(self, classes: int, *, activation: str = "none", largest: int = 7) -> None:
        """Adds a dense node from codes to floats."""
        features = self.shape()[0]
        rng = self._rng
        weight = Weight(
            values=rng.integers(-largest, largest, (features, classes), endpoint=True).astype(
                np.int8
            ),
            scale=rng.uniform(0.01, 0.1, classes) / self.qparams().scale / np.sqrt(features),
            bits=8,
        )
        bias = rng.normal(size=classes)
        self.add_node(
            "dense", qparams=None, attrs={"activation": activation}, weight=weight, bias=bias
        )

    def add_random(self, op: str) -> None:
        """Adds an op of BODY_OPS with random attributes that fit the last tensor."""
        getattr(self, f"_add_{op}")()

    def _window(self, size: tuple[int, int]) -> dict:
        rng = self._rng
        attrs = {"strides": self._pair(1, 2), "padding": str(rng.choice(["same", "valid"]))}
        height, width = self.shape()[:2]
        if height < size[0] or width < size[1]:
            attrs["padding"] = "same"
        elif rng.integers(3) == 0:
            attrs["padding"] = self._margins(size)
        return attrs

    def _margins(self, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Margins that are less than a window."""
        rows, columns = (self._pair(0, taps - 1) for taps in size)
        return rows, columns

    def _pair(self, low: int, high: int) -> tuple[int, int]:
        return tuple(int(value) for value in self._rng.integers(low, high, 2, endpoint=True))

    def _add_conv2d(self) -> None:
        size = self._pair(1, 4)
        attrs = self._window(size)
        if attrs["strides"] == (1, 1) and attrs["padding"] == "same":
            attrs["dilation"] = self._pair(1, 2)
        kernel = (*size, self.shape()[2], int(self._rng.integers(1, 10)))
        self.add_linear("conv2d", kernel, attrs=attrs)

    def _add_grouped_conv2d(self) -> None:
        """Groups of one channel each, as a depth multiplier makes them, among others."""
        size, channels = self._pair(1, 3), self.shape()[2]
        groups = int(self._rng.choice([n for n in range(1, channels + 1) if channels % n == 0]))
        kernel = (*size, channels // groups, groups * int(self._rng.integers(1, 4)))
        self.add_linear("conv2d", kernel, attrs=self._window(size) | {"groups": groups})

    def _add_conv2d_transpose(self) -> None:
        size, strides = self._pair(1, 4), self._pair(1, 3)
        attrs = {"strides": strides, "padding": str(self._rng.choice(["same", "valid"]))}
        fits = all(taps >= stride for taps, stride in zip(size, strides, strict=True))
        if attrs["padding"] == "same" and fits and self._rng.integers(2):
            attrs["output_padding"] = tuple(
                int(self._rng.integers(1, stride, endpoint=True)) - taps % 2
                for taps, stride in zip(size, strides, strict=True)
            )
        kernel = (*size, self.shape()[2], int(self._rng.integers(1, 6)))
        self.add_linear("conv2d_transpose", kernel, attrs=attrs)

    def _add_depthwise_conv2d(self) -> None:
        size = self._pair(1, 4)
        attrs = self._window(size)
        stride = attrs["strides"][0]
        attrs["strides"] = (stride, stride)  # the only ones that TensorFlow itself allows
        if stride == 1 and attrs["padding"] == "same":
            attrs["dilation"] = self._pair(1, 2)
        self.add_linear("depthwise_conv2d", (*size, self.shape()[2]), attrs=attrs)

    def _add_max_pool(self) -> None:
        size = self._pair(1, 3)
        attrs = {**self._window(size), "pool_size": size}
        self.add_node("max_pool", qparams=self.qparams(), attrs=attrs)

    def _add_avg_pool(self) -> None:
        size = tuple(min(a, b) for a, b in zip(self._pair(1, 3), self.shape()[:2], strict=True))
        padding = ("valid", "same", self._margins(size))[int(self._rng.integers(3))]
        attrs = {"pool_size": size, "strides": self._pair(1, 2), "padding": padding}
        self.add_node("avg_pool", qparams=self._regridded(), attrs=attrs)

    def _add_pad(self) -> None:
        """Margins that grow the image, or that cut it where it is large enough."""
        margins = (self._pair(0, 2), self._pair(0, 2))
        if self._rng.integers(2) and min(self.shape()[:2]) > 4:
            margins = tuple((-before, -after) for before, after in margins)
        self.add_node("pad", qparams=self.qparams(), attrs={"padding": margins})

    def _add_transpose(self) -> None:
        perm = tuple(int(axis) for axis in self._rng.permutation(3))
        self.add_node("transpose", qparams=self.qparams(), attrs={"perm": perm})

    def _add_upsample(self) -> None:
        self.add_node("upsample", qparams=self.qparams(), attrs={"size": self._pair(1, 3)})

    def _add_concat(self) -> None:
        """Beside codes of the same grid in a lower range, and beside itself, on any axis."""
        start, grid, channels = self.last, self.qparams(), self.shape()[2]
        top = grid.zero_point + max(1, (grid.qmax - grid.zero_point) // 2)
        lower = replace(grid, qmax=min(top, grid.qmax))
        self.add_linear("conv2d", (1, 1, channels, channels), qparams=lower)
        attrs = {"axis": int(self._rng.integers(3))}
        self.add_node("concat", qparams=grid, attrs=attrs, inputs=(start, self.last, start))

    def _add_requantize(self) -> None:
        self.add_node("requantize", qparams=self._regridded())

    def _add_add(self) -> None:
        """A shortcut around a 1x1 convolution; the grids differ by powers of two, or not."""
        start, scale, channels = self.last, self.qparams().scale, self.shape()[2]
        ratios = 2.0 ** self._rng.integers(-2, 3, 2) if self._rng.integers(2) else (1.0, 1.0)
        branch = self.random_qparams(scale * float(ratios[0]))
        self.add_linear("conv2d", (1, 1, channels, channels), qparams=branch)
        output = self.random_qparams(scale * float(ratios[1]))
        self.add_node("add", qparams=output, inputs=(start, self.last))

    def _add_add_vector(self) -> None:
        """A sum with one value a channel."""
        start, scale = self.last, self.qparams().scale
        ratios = 2.0 ** self._rng.integers(-2, 3, 2) if self._rng.integers(2) else (1.0, 1.0)
        self.add_node("mean", qparams=self.random_qparams(scale * float(ratios[0])))
        output = self.random_qparams(scale * float(ratios[1]))
        self.add_node("add", qparams=output, inputs=(start, self.last))

    def _add_multiply(self) -> None:
        """With a gate made of it: for each value, or for each channel."""
        start, scale, channels = self.last, self.qparams().scale, self.shape()[2]
        if self._rng.integers(2):
            self.add_node("mean", qparams=self._regridded())
            self.add_linear("dense", (channels, channels))
        else:
            self.add_linear("conv2d", (1, 1, channels, channels))
        # The larger products are near the highest code.
        spread = 2.0 ** int(self._rng.integers(4, 9))
        output = self.random_qparams(scale * self.qparams().scale * spread)
        self.add_node("multiply", qparams=output, inputs=(start, self.last))

    def _add_lookup(self) -> None:
        """Any table: one for all channels, or one for each."""
        source, target = self.qparams(), self.random_qparams()
        rows = [(), (self.shape()[2],)][int(self._rng.integers(2))]
        shape = (*rows, source.qmax - source.qmin + 1)
        table = self._rng.integers(target.qmin, target.qmax, shape, np.int32, endpoint=True)
        self.add_node("lookup", qparams=target, table=table)

    def _regridded(self) -> QParams:
        """The last tensor's grid, up to four times finer or coarser, in another range."""
        ratio = 2.0 ** int(self._rng.integers(-2, 3))
        ratio *= 1 if self._power_of_two else self._rng.uniform(0.7, 1.4)
        return self.random_qparams(self.qparams().scale * ratio)


def random_graph(seed: int) -> GraphBuilder:
    """A network of up to five nodes before a dense layer and a head."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in (*rng.integers(1, 12, 2), rng.integers(1, 9)))
    builder = GraphBuilder(rng, shape, power_of_two=bool(rng.integers(2)))
    for op in rng.choice(BODY_OPS, rng.integers(0, 6)):
        builder.add_random(str(op))
    if rng.integers(2):
        builder.add_node("mean", qparams=builder._regridded())
    else:
        builder.add_node("reshape", qparams=builder.qparams())
    features = builder.shape()[0]
    if rng.integers(2):
        builder.add_linear("dense", (features, int(rng.integers(1, 20))))
    if rng.integers(2):
        builder.add_node("requantize", qparams=builder._regridded())
    largest = int(rng.choice([1, 7, 127]))
    builder.add_head(int(rng.integers(2, 12)), largest=largest)
    return builder


def random_exits(seed: int) -> tuple[GraphBuilder, Graph]:
    """A network of two or three answers, between which lie up to two nodes.

    Returns: what gives its images, and the graph.
    """
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in (*rng.integers(1, 12, 2), rng.integers(1, 9)))
    builder = GraphBuilder(rng, shape, power_of_two=bool(rng.integers(2)))
    answers = []
    for _ in range(int(rng.integers(2, 4))):
        builder.add_random(str(rng.choice(BODY_OPS)))
        if rng.integers(2):
            builder.add_random(str(rng.choice(BODY_OPS)))
        trunk = builder.last
        builder.add_node(str(rng.choice(["mean", "reshape"])), qparams=builder.qparams())
        builder.add_head(3)
        answers.append(builder.last)
        builder.last = trunk
    return builder, replace(builder.graph(), outputs=tuple(answers))


def small_classifier() -> GraphBuilder:
    """A convolution, a mean and a head, whose kernels are exact in all runtimes."""
    builder = GraphBuilder(np.random.default_rng(0), (5, 5, 3), power_of_two=True)
    builder.add_linear("conv2d", (3, 3, 3, 4), qparams=unsigned(4, 0.5))
    builder.add_node("mean", qparams=unsigned(8, 0.03125))
    builder.add_head(5, largest=100)
    return builder
