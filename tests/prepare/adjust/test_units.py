"""Which calls of a quantized model are rounded together."""

from __future__ import annotations

import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods.layers import FixedGrid  # noqa: E402
from keras_quant.model.topology import Call  # noqa: E402
from keras_quant.prepare.adjust.units import MOST_KERNELS, find_units, unit_by_unit  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

L = keras.layers
KINDS = {
    "conv": lambda: L.Conv2D(1, 1),
    "bn": L.BatchNormalization,
    "relu": L.ReLU,
    "grid": lambda: FixedGrid(1.0, 0, 15),
}


def calls(text: str, *, last: str = "") -> list[Call]:
    """Calls of a text such as "conv1<x add1<conv1,x"; the last one is the model's output."""
    found = []
    for word in text.split():
        name, _, inputs = word.partition("<")
        make = KINDS.get(name.rstrip("0123456789"), L.Add)
        found.append(
            Call(
                name=name,
                layer_name=name,
                layer=make(),
                inputs=tuple(inputs.split(",")) if inputs else (),
                input_shapes=(),
                shape=(),
                outputs=(0,) if name == (last or text.split()[-1].partition("<")[0]) else (),
            )
        )
    return found


def divided(text: str, *, last: str = "", apart: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """The names of each unit's calls, by what it reads and its kernels."""
    given = calls(text, last=last)
    kernels = [call.name for call in given if call.name.startswith("conv")]
    together = [name for name in kernels if name not in apart]
    return {
        f"{unit.source}: {' '.join(unit.kernels)}": [call.name for call in unit.calls]
        for unit in find_units(given, kernels, together=together)
    }


BLOCK = (
    "x conv1<x relu1<conv1 conv2<relu1 bn2<conv2 grid2<bn2 conv3<relu1 add<grid2,conv3 grid4<add "
    "conv5<grid4"
)


def test_a_layer_has_the_norms_relu_and_grid_that_alone_read_it() -> None:
    text = "x conv1<x bn1<conv1 bn2<bn1 relu1<bn2 grid1<relu1 conv2<grid1 bn3<conv2 add<bn3,conv2"
    given = calls(text)
    found = [[c.name for c in unit.calls] for unit in find_units(given, ["conv1", "conv2"])]
    assert found == [["conv1", "bn1", "bn2", "relu1", "grid1"], ["conv2"]]


def test_a_norm_behind_a_relu_is_no_part_of_a_layer() -> None:
    given = calls("x conv1<x relu1<conv1 bn1<relu1")
    (unit,) = find_units(given, ["conv1"])
    assert [call.name for call in unit.calls] == ["conv1", "relu1"]


def test_a_block_has_its_shortcut_its_sum_and_what_follows() -> None:
    assert divided(BLOCK) == {
        "x: conv1": ["conv1", "relu1"],
        "relu1: conv2 conv3": ["conv2", "bn2", "grid2", "conv3", "add", "grid4"],
        "grid4: conv5": ["conv5"],
    }


def test_a_kernel_that_is_rounded_alone_dissolves_its_block() -> None:
    assert [*divided(BLOCK, apart=("conv3",))] == [
        "x: conv1",
        "relu1: conv2",
        "relu1: conv3",
        "grid4: conv5",
    ]


def test_values_that_leave_a_region_in_the_middle_make_it_no_block() -> None:
    leaking = BLOCK + " conv6<grid2 add2<conv5,conv6"
    assert "relu1: conv2 conv3" not in divided(leaking)
    assert "relu1: conv2 conv3" not in divided(BLOCK, last="conv2")


def test_of_blocks_inside_each_other_the_outer_one_is_taken() -> None:
    nested = "x conv1<x conv2<conv1 add1<conv1,conv2 conv3<add1 add2<conv3,x"
    assert [*divided(nested)] == ["x: conv1 conv2 conv3"]


def test_a_region_of_too_many_kernels_is_left_for_those_inside() -> None:
    chain = " ".join(f"conv{n}<conv{n - 1}" for n in range(2, MOST_KERNELS + 2))
    text = f"x conv1<x {chain} add1<conv{MOST_KERNELS + 1},conv{MOST_KERNELS} add2<add1,x"
    assert [*divided(text)][-1] == f"conv{MOST_KERNELS}: conv{MOST_KERNELS + 1}"


def test_calls_of_a_unit_follow_each_other() -> None:
    text = "x conv1<x conv9<x bn1<conv1 relu9<conv9 add<bn1,relu9"
    given = calls(text)
    ordered = [call.name for call in unit_by_unit(given, find_units(given, ["conv1", "conv9"]))]
    assert ordered == ["x", "conv1", "bn1", "conv9", "relu9", "add"]
