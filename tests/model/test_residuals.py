from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

import keras_quant as kq  # noqa: E402
from keras_quant.model.residuals import Switches, residuals  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from keras_quant.zoo import build  # noqa: E402

X = np.random.default_rng(0).random((4, 8, 8, 1), np.float32)
ADDS = ["stage1_block1_add", "stage2_block1_add", "stage3_block1_add"]


@pytest.fixture(scope="module")
def net() -> keras.Model:
    keras.utils.set_random_seed(0)
    return build("resnet8", (8, 8, 1), 10)


def test_blocks_are_found_with_their_links_and_branches(net: keras.Model) -> None:
    found = residuals(net)
    assert [block.name for block in found] == ADDS
    assert [block.is_identity for block in found] == [True, False, False]
    assert "stage2_block1_conv2" in found[1].branch
    assert "stage2_block1_shortcut_conv" in found[1].link
    assert found[0].link == ()


@pytest.mark.slow
def test_a_quantized_net_has_the_same_blocks(net: keras.Model) -> None:
    scheme = kq.scheme_from_bits("w4a4")
    statistics = kq.collect(kq.plan(net, scheme), net, X)
    quantized = kq.quantize(net, scheme, statistics)
    assert [block.name for block in residuals(quantized)] == ADDS
    switches = Switches(quantized, residuals(quantized))
    assert np.array_equal(switches.model(X), quantized(X))


def test_a_cut_link_leaves_what_the_branch_gives(net: keras.Model) -> None:
    blocks = residuals(net)
    switches = Switches(net, blocks)
    branch = 1 - blocks[0].shortcut
    kept = [0.0, 0.0]
    kept[branch] = 1.0
    switches.set({blocks[0].name: (kept[0], kept[1])})
    added = switches.model.get_layer(ADDS[0]).output
    expected = net.get_layer("stage1_block1_bn2").get_output_at(0)  # they share their layers
    found = keras.Model(switches.model.inputs, added)(X)
    assert np.array_equal(found, keras.Model(net.inputs, expected)(X))
    switches.set({})
    assert np.array_equal(switches.model(X), net(X))


def test_halting_and_dense_nets_have_no_links_but_those_around_units() -> None:
    sact = build("sact_resnet", (8, 8, 1), 10, blocks=3)
    expected = [f"stage{stage}_block{block}_add" for stage in (1, 2, 3) for block in (1, 2, 3)]
    assert [block.name for block in residuals(sact)] == expected
    assert residuals(build("lenet5", (8, 8, 1), 10)) == ()
