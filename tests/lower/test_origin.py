from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.graph.passes.realize import realize  # noqa: E402
from keras_quant.lower import lower, lower_exactly  # noqa: E402
from keras_quant.lower.lower import lower_with_origins  # noqa: E402
from keras_quant.lower.origin import with_kernel, with_variables  # noqa: E402
from tests.lower.random_nets import images_of, quantized  # noqa: E402
from tests.lower.test_snap import net_of  # noqa: E402


def assert_same_numbers(graph, other) -> None:
    for a, b in zip(graph.nodes, other.nodes, strict=True):
        assert (a.name, a.weight is None, a.bias is None) == (
            b.name,
            b.weight is None,
            b.bias is None,
        )
        if a.bias is not None:
            np.testing.assert_array_equal(a.bias, b.bias)
            assert a.bias.dtype == b.bias.dtype
        if a.weight is not None:
            np.testing.assert_array_equal(a.weight.values, b.weight.values)
            np.testing.assert_array_equal(a.weight.scale, b.weight.scale)


def test_other_values_give_what_lowering_reads_once_the_model_has_them() -> None:
    net = net_of("8")
    model = quantized(net, images_of(net, 32))
    graph, origins = lower_with_origins(model)
    rng = np.random.default_rng(0)
    made = {}
    for name, origin in origins.items():
        bias = origin.bias.numpy() + rng.normal(size=origin.bias.shape).astype(np.float32)
        gamma = None if origin.gamma is None else origin.gamma.numpy() * np.float32(1.125)
        made[name] = with_variables(origin, bias=bias, gamma=gamma)
        origin.bias.assign(bias)
        if gamma is not None:
            origin.gamma.assign(gamma)
    lowered = lower(model)
    assert any(origin.gamma is not None for origin in origins.values())
    assert {node.name for node in lowered.nodes if node.weight} == made.keys()
    for node in lowered.nodes:
        if node.weight is not None:
            is_codes = lowered.tensors[node.output].qparams is not None
            again = with_kernel(node, made[node.name], in_codes=is_codes)
            np.testing.assert_array_equal(again.bias, node.bias)
            np.testing.assert_array_equal(again.weight.scale, node.weight.scale)
            np.testing.assert_array_equal(again.weight.values, node.weight.values)


@pytest.mark.parametrize("activation", ["4", "8"])
def test_the_moved_model_lowers_to_what_its_integers_were_found_for(activation: str) -> None:
    net = net_of(activation)
    model = quantized(net, images_of(net, 32))
    snap = lower_exactly(model)
    assert_same_numbers(realize(lower(model)).graph, snap.graph)
