"""What is written once, and what must not be shared."""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

from keras_quant.emit.tflite.flatbuffer import AlignedBuffer, Shared, SharingBuilder


def numbers(builder: SharingBuilder, values: list[int]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependInt32(value)
    return builder.EndVector()


def test_equal_numbers_are_written_once() -> None:
    builder = SharingBuilder(0)
    first = numbers(builder, [1, 2, 3])
    size = builder.Offset()
    assert numbers(builder, [1, 2, 3]) == first
    assert builder.Offset() == size
    assert numbers(builder, [1, 2]) != first


def test_strings_and_equal_tables_are_written_once() -> None:
    builder = SharingBuilder(0)
    assert builder.CreateString("conv") == builder.CreateString("conv")
    pads = [Shared(schema.PadOptionsT()).Pack(builder) for _ in range(2)]
    assert pads[0] == pads[1]
    adds = [Shared(schema.AddOptionsT(fusedActivationFunction=kind)) for kind in (0, 1)]
    assert adds[0].Pack(builder) != adds[1].Pack(builder)


def test_vectors_of_tables_are_never_shared() -> None:
    """Offsets of equal bytes point from other places, so to other tables."""
    builder = SharingBuilder(0)
    vectors = []
    for text in ("a", "b"):
        written = builder.CreateString(text)
        builder.StartVector(4, 1, 4)
        builder.PrependUOffsetTRelative(written)
        vectors.append(builder.EndVector())
    assert vectors[0] != vectors[1]


def test_data_are_aligned_also_where_equal_bytes_lie_unaligned() -> None:
    builder = SharingBuilder(0)
    data = bytes(range(16))
    numbers(builder, [1])
    builder.StartVector(1, len(data), 1)
    for value in reversed(data):
        builder.PrependUint8(value)
    plain = builder.EndVector()
    buffer = AlignedBuffer(data=data).Pack(builder)
    builder.Finish(buffer)
    assert plain != buffer
    content = bytes(builder.Output())
    read = schema.BufferT.InitFromPackedBuf(content)
    assert bytes(read.data) == data
    assert any(content.startswith(data, start) for start in range(0, len(content), 16))
