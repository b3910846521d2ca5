"""Which steps of a model are quantized as one, and what a scheme sees of them."""

from __future__ import annotations

from collections.abc import Sequence

from keras_quant.methods.readers import class_name
from keras_quant.model.steps import COMPUTE, PASSING, Step, consumers
from keras_quant.schemes.scheme import Block


def group_blocks(steps: Sequence[Step]) -> list[list[Step]]:
    """Groups each step with the batch norm and ReLU that it alone feeds.

    Returns: the blocks in the model's order; steps that only pass values on, and softmax, are in
        none.
    """
    reads = consumers(steps)
    block_of: dict[str, list[Step]] = {}
    blocks = []
    for step in steps:
        if step.kind in (*PASSING, "softmax", "quantizer"):
            continue
        before = block_of.get(step.inputs[0]) if step.inputs else None
        if before is not None and _joins(step, before) and len(reads[before[-1].name]) == 1:
            before.append(step)
            block_of[step.name] = before
        else:
            blocks.append([step])
            block_of[step.name] = blocks[-1]
    return blocks


def _joins(step: Step, block: Sequence[Step]) -> bool:
    """Whether a step computes with a block's last values before they are rounded.

    A batch norm is folded into a kernel, or into another batch norm; what it does to values that
    have none, or to those of a ReLU, is a block of its own.
    """
    if block[-1].name != step.inputs[0]:
        return False
    if step.kind == "batch_norm":
        return block[0].kind in (*COMPUTE, "batch_norm") and block[-1].kind != "relu"
    return step.kind == "relu"


def as_scheme_block(block: Sequence[Step]) -> Block:
    """What the rules of a scheme can match of a block."""
    return Block(
        names=tuple(dict.fromkeys(n for s in block for n in (s.layer_name, s.owner) if n)),
        types=tuple(class_name(step.layer) for step in block),
        has_weights=block[0].kind in COMPUTE,
        is_input=block[0].kind == "input",
    )
