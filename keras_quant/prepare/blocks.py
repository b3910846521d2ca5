"""Which operations of a model are quantized as one, and what a scheme sees of them."""

from __future__ import annotations

from collections.abc import Sequence

from keras_quant.methods.readers import class_name
from keras_quant.model.operations import COMPUTE, PASSING, Operation, Operations
from keras_quant.schemes.scheme import Block


def group_blocks(operations: Operations) -> list[list[Operation]]:
    """Groups each operation with the batch norm and ReLU that it alone feeds.

    Returns: the blocks in the model's order; operations that only pass values on, and softmax, are
        in none.
    """
    block_of: dict[str, list[Operation]] = {}
    blocks = []
    for operation in operations:
        if operation.kind in (*PASSING, "softmax", "quantizer"):
            continue
        before = block_of.get(operation.inputs[0]) if operation.inputs else None
        if (
            before is not None
            and _joins(operation, before)
            and len(operations.readers[before[-1].name]) == 1
        ):
            before.append(operation)
            block_of[operation.name] = before
        else:
            blocks.append([operation])
            block_of[operation.name] = blocks[-1]
    return blocks


def _joins(operation: Operation, block: Sequence[Operation]) -> bool:
    """Whether an operation computes with a block's last values before they are rounded.

    A batch norm is folded into a kernel, or into another batch norm; what it does to values that
    have none, or to those of a ReLU, is a block of its own.
    """
    if block[-1].name != operation.inputs[0]:
        return False
    if operation.kind == "batch_norm":
        return block[0].kind in (*COMPUTE, "batch_norm") and block[-1].kind != "relu"
    return operation.kind == "relu"


def as_scheme_block(block: Sequence[Operation]) -> Block:
    """What the rules of a scheme can match of a block."""
    return Block(
        names=tuple(dict.fromkeys(n for s in block for n in (s.layer_name, s.owner) if n)),
        types=tuple(class_name(operation.layer) for operation in block),
        has_weights=block[0].kind in COMPUTE,
        is_input=block[0].kind == "input",
    )
