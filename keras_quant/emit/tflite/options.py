"""What a user may choose about a TFLite file."""

from __future__ import annotations

from dataclasses import dataclass

from keras_quant.errors import UsageError

PACKS = ("none", "fast", "smallest")
INPUTS = ("float", "int8", "uint8")
HEADS = ("float", "int8")


@dataclass(frozen=True, slots=True, kw_only=True)
class TFLiteOptions:
    """Choices that change a file's size, its ends or its batch, and none of its codes.

    Attributes:
        pack: which kernels of narrow codes share bytes: "none"; "fast": those that compute as
            fast as from int8, which are dense layers and 1x1 convolutions of stride 1;
            "smallest": all but depthwise ones, which XNNPACK takes in int8 only. The codes
            must have been realized for it, see `emit.tflite.packing.stored_limits`.
        input: what the file is given: "float": what the model was trained on; "int8": the
            codes of that; "uint8": raw pixels, where it is known what becomes of them in front
            of the model, else those codes from 0 on.
        head: what the file answers: "float": logits; "int8": their codes, from a graph that
            `graph.passes.integer_head` made, in which no float is computed.
        batch: images of each call; None means as many as the caller gives.
    """

    pack: str = "fast"
    input: str = "float"
    head: str = "float"
    batch: int | None = None

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {value!r}; {', '.join(allowed)} are allowed"
            for name, value, allowed in (
                ("pack", self.pack, PACKS),
                ("input", self.input, INPUTS),
                ("head", self.head, HEADS),
            )
            if value not in allowed
        ]
        if self.batch is not None and self.batch < 1:
            problems.append(f"batch is {self.batch}; 1 or more, or None for any, is allowed")
        if problems:
            raise UsageError("TFLite options: " + "; ".join(problems))
