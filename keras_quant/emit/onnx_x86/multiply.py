"""How products of codes are written so that ONNX Runtime computes the reference's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from keras_quant.emit.onnx_x86.emission import Emission, stored_range
from keras_quant.emit.shared.products import product_multiplier
from keras_quant.graph.ir import Node
from keras_quant.qparams import QParams


def emit_multiply(emission: Emission, node: Node) -> None:
    """Codes by QLinearMul where that is exact, else by way of floats; or floats.

    In floats the product of codes less their zero points is exact, and what follows are the two
    steps of `graph.kernels.bind_multiply`.
    """
    output, file, name = emission.output(node), emission.file, f"{node.name}/product"
    if output.qparams is None:
        product = file.operator("Mul", [emission.real(node, 0), emission.real(node, 1)], name)
        emission.write_activated(node, product, str(node.attrs.get("activation", "none")))
        return
    first, second = (emission.graph.tensors[source].grid for source in node.inputs)
    if kernel_is_exact(first, second, output.qparams):
        product = file.operator("Mul", [emission.real(node, 0), emission.real(node, 1)], name)
        emission.quantize(output, product)
        return
    codes = [emission.real(node, index, scale=1.0) for index in (0, 1)]
    product = file.operator("Mul", codes, name)
    multiplier = file.scalar(product_multiplier(first, second, output.qparams))
    steps = file.operator("Mul", [product, multiplier], f"{node.name}/steps")
    emission.quantize(output, steps, scale=1.0)


def kernel_is_exact(first: QParams, second: QParams, output: QParams) -> bool:
    """Whether QLinearMul gives the reference's code for every pair of codes.

    It computes float32(a * b) * ratio + zero_point and rounds then (MLAS, qlmul.cpp); ratio is
    the reference's multiplier, and a and b are codes less their zero points.
    """
    a, b = (np.arange(q.qmin, q.qmax + 1) - q.zero_point for q in (first, second))
    products, ratio = np.unique(np.multiply.outer(a, b)), product_multiplier(first, second, output)
    wanted = _clipped(products.astype(np.float32) * ratio, output)
    return all((codes == wanted).all() for codes in _kernel_codes(products, ratio, output))


def _kernel_codes(products: np.ndarray, ratio: np.float32, output: QParams) -> Iterator[np.ndarray]:
    """The codes less the zero point, without and with fused multiply-add."""
    point = stored_range(output)[2]
    types: tuple[type[np.floating], ...] = (np.float32, np.float64)
    for product in types:
        scaled = products.astype(product) * product(ratio)
        total = (scaled + product(point)).astype(np.float32)
        yield _clipped(np.rint(total) - point, output)


def _clipped(steps: NDArray[np.floating], output: QParams) -> NDArray[np.floating]:
    bounds = output.qmin - output.zero_point, output.qmax - output.zero_point
    codes: NDArray[np.floating] = np.clip(np.rint(steps), *bounds)
    return codes
