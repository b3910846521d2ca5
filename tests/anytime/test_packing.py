"""Packed codes are what was packed, in as few bytes as their bits need."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.anytime.packing import bits_of, handed_on, pack, packed_bytes, unpack
from keras_quant.errors import DataError
from keras_quant.runs.stages import Port, StageFile

FOUR_BITS = Port(name="codes", dtype="int8", shape=(3,), scale=1.0, lowest=-128, highest=-113)
FLOATS = Port(name="floats", dtype="float32", shape=(2, 2))


def test_two_codes_of_four_bits_are_a_byte() -> None:
    codes = np.array([[-128, -113, -127], [-120, -128, -113]], np.int8)
    packed = pack({"codes": codes}, (FOUR_BITS,))
    assert packed.tolist() == [[0x0F, 0x10], [0x80, 0xF0]]
    assert packed_bytes((FOUR_BITS,)) == 2


@given(data=st.data())
def test_what_is_unpacked_is_what_was_packed(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    ports, values = [], {}
    images = data.draw(st.integers(1, 3))
    for number in range(data.draw(st.integers(1, 3))):
        dtype = data.draw(st.sampled_from(["int8", "uint8", "float32"]))
        shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
        port = Port(name=f"port{number}", dtype=dtype, shape=shape)
        if dtype == "float32":
            values[port.name] = rng.normal(size=(images, *shape)).astype(np.float32)
        else:
            info = np.iinfo(dtype)
            lowest = data.draw(st.integers(int(info.min), int(info.max) - 1))
            highest = data.draw(st.integers(lowest + 1, int(info.max)))
            port = replace(port, lowest=lowest, highest=highest)
            drawn = rng.integers(lowest, highest, (images, *shape), endpoint=True)
            values[port.name] = drawn.astype(dtype)
        ports.append(port)
    packed = pack(values, ports)
    assert packed.shape == (images, packed_bytes(ports))
    bits = sum(bits_of(port) * int(np.prod(port.shape)) for port in ports)
    assert bits <= 8 * packed_bytes(ports) < bits + 8 * len(ports)
    found = unpack(packed, ports)
    for port in ports:
        assert found[port.name].dtype == port.dtype
        np.testing.assert_array_equal(found[port.name], values[port.name])


def test_a_range_that_is_not_recorded_is_that_of_the_type() -> None:
    port = Port(name="codes", dtype="int8", shape=(2,), scale=1.0)
    packed = pack({"codes": np.array([[-128, 127]], np.int8)}, (port,))
    assert packed.tolist() == [[0, 255]]


@pytest.mark.parametrize("code", [-112, 127])
def test_what_is_no_code_is_not_sent(code: int) -> None:
    with pytest.raises(DataError, match="'codes' holds a value .* codes, -128 to -113"):
        pack({"codes": np.array([[-128, code, -128]], np.int8)}, (FOUR_BITS,))


def test_what_is_no_code_is_not_taken() -> None:
    narrow = replace(FOUR_BITS, highest=-115)
    with pytest.raises(DataError, match="'codes' holds a value .* codes, -128 to -115"):
        unpack(np.array([[0x0F, 0x10]], np.uint8), (narrow,))


def a_stage(inputs: tuple[Port, ...], outputs: tuple[Port, ...]) -> StageFile:
    return StageFile(
        file="stage.tflite",
        sha256="a" * 64,
        answer=outputs[0].name,
        inputs=inputs,
        outputs=outputs,
        macs=1,
        bit_operations=1,
    )


def test_what_skips_a_stage_is_handed_on_and_what_is_made_there_is_not() -> None:
    image, skipping, inner, other = (replace(FLOATS, name=name) for name in "isno")
    answers = [replace(FLOATS, name=f"answer{place}") for place in range(3)]
    files = (
        a_stage((image,), (answers[0], skipping, other)),
        a_stage((other,), (answers[1], inner)),
        a_stage((inner, skipping), (answers[2],)),
    )
    assert [port.name for port in handed_on(files, 1)] == ["o", "s"]
    assert [port.name for port in handed_on(files, 2)] == ["n", "s"]
