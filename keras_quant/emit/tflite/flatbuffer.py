"""A flatbuffer builder for small files: aligned data, and nothing written twice."""

from __future__ import annotations

from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

BUFFER_ALIGNMENT = 16  # schema.fbs: Buffer.data has force_align: 16


class SharingBuilder(flatbuffers.Builder):
    """Writes equal strings, and equal vectors of numbers, once.

    Tables may point to one vector as often as they like. A quantized convolution has a zero
    point of 8 bytes for each channel, twice, and all of them are 0.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._written: dict[tuple[int, bytes], int] = {}
        self._strings: dict[str, int] = {}
        self._tables: dict[tuple[type, str], int] = {}
        self._vector: tuple[int, int, int] | None = None

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:  # noqa: N802
        """Begins a vector; it may turn out to be one of numbers."""
        self._vector = (self.Offset(), elemSize * numElems, alignment)
        start: int = super().StartVector(elemSize, numElems, alignment)
        return start

    def PrependUOffsetTRelative(self, off: int) -> None:  # noqa: N802
        """Writes an offset: it holds for one place, so its vector cannot be shared."""
        self._vector = None
        super().PrependUOffsetTRelative(off)

    def EndVector(self, numElems: int | None = None) -> int:  # noqa: N802
        """Ends a vector; where an equal one was written, takes this one back."""
        written: int = super().EndVector(numElems)
        vector, self._vector = self._vector, None
        if vector is None:
            return written
        before, num_bytes, alignment = vector
        start = self.Head() + flatbuffers.number_types.UOffsetTFlags.bytewidth
        content = bytes(self.Bytes[self.Head() : start + num_bytes])
        shared = self._written.setdefault((alignment, content), written)
        if shared != written:
            self.head = len(self.Bytes) - before
        return shared

    def CreateString(  # noqa: N802
        self, s: str, encoding: str = "utf-8", errors: str = "strict"
    ) -> int:
        """Writes a string, or finds it."""
        if s not in self._strings:
            self._strings[s] = super().CreateString(s, encoding, errors)
        return self._strings[s]

    def once(self, table: Any) -> int:
        """Writes one of the schema's objects, or finds an equal one."""
        key = type(table), repr(vars(table))
        if key not in self._tables:
            self._tables[key] = table.Pack(self)
        return self._tables[key]


class Shared:
    """An object of the schema that is written once, for all that point to an equal one."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def Pack(self, builder: SharingBuilder) -> int:  # noqa: N802 - the schema's name
        return builder.once(self._table)


class AlignedBuffer(schema.BufferT):
    """A buffer whose bytes start at a multiple of 16, which BufferT does not see to."""

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802 - the schema's name
        builder.StartVector(1, len(self.data), BUFFER_ALIGNMENT)
        head = builder.Head() - len(self.data)
        builder.head = head
        builder.Bytes[head : head + len(self.data)] = self.data
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        end: int = schema.BufferEnd(builder)
        return end
