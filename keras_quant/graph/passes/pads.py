"""Pads as part of the windows behind them, and as nodes of their own again.

A pad writes a whole image anew, which a convolution or a pooling that pads by itself need not:
those of ONNX do so by any margins, TFLite's by those of "same" only. Nets that were written for
PyTorch have pads in front of all their convolutions, those of keras.applications of the strided.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.graph.windows import Margins, Pair, meets_pixels, padding_of, window_of

_ROUNDING = ("quantize", "requantize")


def fold_pads(graph: Graph) -> Graph:
    """Gives a graph of the same meaning in which windows pad what pads in front of them did.

    A convolution, a depthwise one and an average pooling read padded pixels as the real 0 that a
    pad puts there. A max pooling does not, so a pad stays in front of it unless nothing that it
    pools is below 0. A pad also stays where some position of a window would meet no pixel, and
    where something else reads it, or the caller. Where padded values are rounded to another grid in
    between, as the sums of narrow nets are, rounded ones are padded.
    """
    graph = _behind_rounding(graph)
    nodes: list[Node] = []
    pads: dict[str, Node] = {}
    for node in graph.nodes:
        pad = pads.get(node.inputs[0])
        if pad is not None and _can_take(graph, pad, node):
            node = _taking(graph, pad, node)
        if _only_pads(node):
            pads[node.output] = node
        nodes.append(node)
    return _without_unread(replace(graph, nodes=tuple(nodes)), pads)


def unfold_pads(graph: Graph, pads_itself: Callable[[Node], bool]) -> Graph:
    """Gives a graph of the same meaning with pads for windows whose margins have no name.

    Margins that are those of "same" or "valid" get that name. The others become a pad, one for
    all windows that pad the same tensor alike. Only a max pooling of what may be below 0 keeps
    them: no pad has a value that never wins.

    Args:
        pads_itself: whether a node may keep margins that have no name.
    """
    nodes: list[Node] = []
    tensors = dict(graph.tensors)
    for node in graph.nodes:
        if has_margins(node):
            margins = node.attrs["padding"]
            node = _with_padding(node, margins, _size(graph.tensors[node.inputs[0]]))
        if (
            has_margins(node)
            and not pads_itself(node)
            and (node.op != "max_pool" or is_never_negative(graph, node))
        ):
            pad, padded = _pad_in_front(graph, node, node.attrs["padding"])
            if padded.name not in tensors:
                nodes.append(pad)
                tensors[padded.name] = padded
            node = replace(node, inputs=(padded.name,), attrs={**node.attrs, "padding": "valid"})
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), tensors=tensors)


def has_margins(node: Node) -> bool:
    """Whether a window pads by margins that have no name."""
    return node.op != "pad" and isinstance(node.attrs.get("padding"), tuple)


def is_never_negative(graph: Graph, node: Node) -> bool:
    """Whether no real that a node reads is below 0, as far as its codes or its maker show."""
    qparams, producer = graph.tensors[node.inputs[0]].qparams, graph.producer(node.inputs[0])
    if qparams is not None:
        return qparams.qmin >= qparams.zero_point
    return producer is not None and (
        producer.op == "relu" or producer.attrs.get("activation", "none") != "none"
    )


def _behind_rounding(graph: Graph) -> Graph:
    """Moves pads behind what rounds their values to a grid with a real 0."""
    nodes: list[Node] = []
    tensors = dict(graph.tensors)
    pads: dict[str, Node] = {}
    for node in graph.nodes:
        pad = pads.get(node.inputs[0])
        if pad is not None and node.op in _ROUNDING and _has_zero(tensors[node.output]):
            rounded = replace(
                tensors[node.output],
                name=f"{node.output}/unpadded",
                shape=tensors[pad.inputs[0]].shape,
            )
            tensors[rounded.name] = rounded
            nodes.append(replace(node, inputs=pad.inputs, output=rounded.name))
            name = f"{node.name}/pad"
            node = replace(pad, name=name, inputs=(rounded.name,), output=node.output)
        if _only_pads(node):
            pads[node.output] = node
        nodes.append(node)
    return _without_unread(replace(graph, nodes=tuple(nodes), tensors=tensors), pads)


def _has_zero(codes: Tensor) -> bool:
    qparams = codes.grid
    return qparams.qmin <= qparams.zero_point <= qparams.qmax


def _only_pads(node: Node) -> bool:
    """Whether a node is a pad that cuts nothing off."""
    return node.op == "pad" and min(map(min, node.attrs["padding"])) >= 0


def _can_take(graph: Graph, pad: Node, node: Node) -> bool:
    if node.op == "pad":
        return _only_pads(node)
    if node.op not in ("conv2d", "depthwise_conv2d", "avg_pool", "max_pool"):
        return False
    if node.op == "max_pool" and not is_never_negative(graph, pad):
        return False
    if node.op == "avg_pool" and node.attrs.get("padding") == "same" and _pads(graph, node):
        return False  # what it pads itself does not count
    return meets_pixels(window_of(node), _margins_with(graph, pad, node))


def _taking(graph: Graph, pad: Node, node: Node) -> Node:
    """A pad's reader that reads what the pad reads."""
    margins = _margins_with(graph, pad, node)
    taken = replace(node, inputs=pad.inputs, layers=(*node.layers, *pad.layers))
    return _with_padding(taken, margins, _size(graph.tensors[pad.inputs[0]]))


def _margins_with(graph: Graph, pad: Node, node: Node) -> Margins:
    """What a node pads, and what a pad in front of it does, together."""
    own = node.attrs["padding"] if node.op == "pad" else _own_margins(graph, node)
    rows, columns = (
        (before + first, after + last)
        for (before, after), (first, last) in zip(own, pad.attrs["padding"], strict=True)
    )
    return rows, columns


def _pads(graph: Graph, node: Node) -> bool:
    return any(map(any, _own_margins(graph, node)))


def _own_margins(graph: Graph, node: Node) -> Margins:
    return padding_of(window_of(node), _size(graph.tensors[node.inputs[0]]))


def _with_padding(node: Node, margins: Margins, size: Pair) -> Node:
    """A node that pads an image of (height, width) by margins, with their name if they have one.

    An average pooling of padding "same" does not count what it pads, one of margins does.
    """
    padding: str | Margins = margins
    if node.op != "pad":
        names = ("valid",) if node.op == "avg_pool" else ("valid", "same")
        window = window_of(node)
        padding = next(
            (n for n in names if padding_of(replace(window, padding=n), size) == margins), margins
        )
    return replace(node, attrs={**node.attrs, "padding": padding})


def _pad_in_front(graph: Graph, node: Node, margins: Margins) -> tuple[Node, Tensor]:
    source = graph.tensors[node.inputs[0]]
    (top, bottom), (left, right) = margins
    height, width, channels = source.shape
    name = f"{source.name}/padded_{top}_{bottom}_{left}_{right}"
    shape = (top + height + bottom, left + width + right, channels)
    pad = Node(name=name, op="pad", inputs=(source.name,), output=name, attrs={"padding": margins})
    return pad, replace(source, name=name, shape=shape)


def _without_unread(graph: Graph, pads: dict[str, Node]) -> Graph:
    """Leaves out pads that nothing reads any more, and what only they read."""
    read, kept = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if node.output in pads and node.output not in read:
            continue
        read.update(node.inputs)
        kept.append(node)
    left_out = {name for name in pads if name not in read}
    tensors = {name: tensor for name, tensor in graph.tensors.items() if name not in left_out}
    return replace(graph, nodes=tuple(reversed(kept)), tensors=tensors)


def _size(image: Tensor) -> Pair:
    height, width, _ = image.shape
    return height, width
