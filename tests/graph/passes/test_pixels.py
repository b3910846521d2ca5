from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.emit.tflite.options import TFLiteOptions
from keras_quant.errors import GraphError
from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.graph.passes.pixels import PIXELS, take_pixels, takes_pixels
from keras_quant.graph.reference import run_reference
from keras_quant.graph.verify import verify
from keras_quant.pixels import normalize, pixel_grid
from keras_quant.preprocessing import PREPROCESSINGS, RAW, UNIT, Preprocessing
from keras_quant.qparams import QParams, signed, unsigned
from keras_quant.runners.litert import LiteRTRunner

SIZE = 16
# Every pixel in every channel, each channel in another order.
ALL = np.stack(
    [np.random.default_rng(seed).permutation(256).reshape(SIZE, SIZE) for seed in range(3)], axis=-1
).astype(np.uint8)[None]


def rounded(*grids: QParams) -> Graph:
    """A graph that puts out its input, an image of three channels, rounded to some grids."""
    shape = (SIZE, SIZE, 3)
    tensors = [Tensor(name="image", shape=shape)]
    nodes = []
    for number, grid in enumerate(grids):
        tensors.append(Tensor(name=f"codes{number}", shape=shape, qparams=grid))
        nodes.append(
            Node(
                name=f"round{number}",
                op="quantize",
                inputs=("image",),
                output=f"codes{number}",
                layers=(f"round{number}",),
            )
        )
    return Graph(
        name="rounded",
        inputs=("image",),
        outputs=tuple(node.output for node in nodes),
        tensors={tensor.name: tensor for tensor in tensors},
        nodes=tuple(nodes),
    )


def assert_equal_codes(graph: Graph, preprocessing: Preprocessing) -> Graph:
    """Compares pixels in the made graph with their reals in the given one; gives the first."""
    made = take_pixels(graph, preprocessing)
    verify(made)
    wanted = run_reference(graph, {"image": normalize(ALL, preprocessing)})
    given = RAW if takes_pixels(made) else preprocessing
    found = run_reference(made, {made.inputs[0]: normalize(ALL, given)})
    for name in graph.outputs:
        np.testing.assert_array_equal(found[name], wanted[name])
    return made


@pytest.mark.parametrize("name", ["tf", "caffe", "torch"])
def test_a_convolution_gives_each_pixel_the_code_of_its_real(name: str) -> None:
    preprocessing = PREPROCESSINGS[name]
    made = assert_equal_codes(rounded(pixel_grid(preprocessing, 3)), preprocessing)
    assert takes_pixels(made) and made.inputs == ("image_pixels",)
    convolution = made.producer("codes0")
    assert convolution is not None and convolution.layers == ("round0",)
    assert convolution.op == ("conv2d" if name == "caffe" else "depthwise_conv2d")


@pytest.mark.parametrize("name", ["tf", "caffe", "torch"])
def test_a_file_of_uint8_gives_each_pixel_the_code_of_its_real(name: str) -> None:
    preprocessing = PREPROCESSINGS[name]
    graph = rounded(pixel_grid(preprocessing, 3))
    content = emit_tflite(take_pixels(graph, preprocessing), options=TFLiteOptions(input="uint8"))
    runner = LiteRTRunner(content)
    assert runner.info.takes_pixels
    (stored,) = runner.run({runner.inputs[0]: ALL}).values()
    (wanted,) = run_reference(graph, {"image": normalize(ALL, preprocessing)}).values()
    np.testing.assert_array_equal(stored, wanted)  # codes of -127 to 127 are stored as they are


@pytest.mark.parametrize("preprocessing", [UNIT, RAW, Preprocessing(name="x", mean=(128.0,))])
def test_nothing_is_done_where_codes_are_the_pixels(preprocessing: Preprocessing) -> None:
    graph = rounded(pixel_grid(preprocessing, 3))
    assert take_pixels(graph, preprocessing) is graph and not takes_pixels(graph)


def test_fewer_codes_and_several_grids_are_made_of_pixels_too() -> None:
    grids = unsigned(4, 2.0**-3), signed(3, 2.0**-1, narrow_range=True), unsigned(8, 2.0**-7)
    made = assert_equal_codes(rounded(*grids), PREPROCESSINGS["tf"])
    assert [node.op for node in made.nodes] == ["quantize", *["depthwise_conv2d"] * 3]
    first = made.tensors[made.nodes[0].output].qparams
    assert first is PIXELS


three = st.tuples(*[st.floats(60, 180)] * 3)


@given(mean=three, std=st.tuples(*[st.floats(30, 130)] * 3), order=st.sampled_from(["rgb", "bgr"]))
def test_any_numbers_are_exact_on_the_grid_that_is_chosen_for_them(
    mean: tuple[float, ...], std: tuple[float, ...], order: str
) -> None:
    preprocessing = Preprocessing(name="x", mean=mean, std=std, order=order)
    try:
        assert_equal_codes(rounded(pixel_grid(preprocessing, 3)), preprocessing)
    except GraphError as error:
        assert "would get another code" in str(error)  # refused, never wrong


def test_what_integers_cannot_say_is_refused() -> None:
    # The reals of 27 and 228, (k - 127.5) / 127.5, lie within float32's error of a half of a code.
    tie = float(np.float32(100.5 / 127.5 / 20.5))
    with pytest.raises(GraphError, match=r"\d+ of 256 would get another code .*float inputs"):
        take_pixels(rounded(signed(8, tie, narrow_range=True)), PREPROCESSINGS["tf"])


def test_inputs_that_are_no_pixels_are_refused() -> None:
    graph = rounded(unsigned(8, 1 / 255))
    softmax = replace(graph.nodes[0], name="peek", op="softmax", output="peek")
    peek = Tensor(name="peek", shape=(SIZE, SIZE, 3))
    read = replace(graph, nodes=(*graph.nodes, softmax), tensors={**graph.tensors, "peek": peek})
    with pytest.raises(GraphError, match="input 'image' is read as float by peek"):
        take_pixels(read, UNIT)
    vector = {name: replace(t, shape=(3,)) for name, t in graph.tensors.items()}
    assert take_pixels(replace(graph, tensors=vector), UNIT).inputs == ("image",)
    with pytest.raises(GraphError, match=r"input 'image' is \(3,\); \(height, width, channels\)"):
        take_pixels(replace(graph, tensors=vector), PREPROCESSINGS["tf"])
    grey = {name: replace(t, shape=(4, 4, 1)) for name, t in graph.tensors.items()}
    with pytest.raises(GraphError, match="has 1 channels; caffe"):
        take_pixels(replace(graph, tensors=grey), PREPROCESSINGS["caffe"])
