"""How the axes of a graph's tensors lie in ONNX files."""

from __future__ import annotations

from collections.abc import Sequence

# By an axis of an image in a file: which of the graph's it is, the batch axis included.
_CHANNELS_FIRST = (0, 3, 1, 2)


def stored_order(perm: Sequence[int]) -> list[int]:
    """A permutation of a graph's axes, without the batch, as one of a file's, with it.

    Images, which have three, are stored with their channels in front.
    """
    order = [0, *(axis + 1 for axis in perm)]
    if len(perm) != len(_CHANNELS_FIRST) - 1:
        return order
    return [_CHANNELS_FIRST.index(order[axis]) for axis in _CHANNELS_FIRST]
