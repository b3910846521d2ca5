"""What a format has to do: write a graph, run what was written, and say what it promises."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from keras_quant.graph.ir import Graph
from keras_quant.preprocessing import Preprocessing
from keras_quant.qparams import QParams
from keras_quant.runners import Runner


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a file says of itself, where its format has room for it.

    Attributes:
        name: of the model.
        labels: of the classes, in the order of the first output; () for none.
        preprocessing: what becomes of pixels in front of it; None for nothing known.
    """

    name: str
    labels: Sequence[str] = ()
    preprocessing: Preprocessing | None = None


class Emit(Protocol):
    """Writes a file."""

    def __call__(
        self, graph: Graph, *, outputs: Sequence[str] | None = None, card: Card | None = None
    ) -> bytes:
        """Gives the bytes of a file that takes the graph's inputs, in the graph's layout.

        Args:
            graph: realized.
            outputs: names of the tensors that the file gives; None means the graph's outputs.
            card: what the file says of itself; None means nothing.
        """
        ...


class Package(Protocol):
    """Makes what belongs beside a file."""

    def __call__(
        self,
        graph: Graph,
        *,
        model: bytes,
        samples: Mapping[str, np.ndarray],
        pixels: Mapping[str, np.ndarray] | None,
        preprocessing: Preprocessing | None,
        labels: Sequence[str],
        scheme: str,
    ) -> Mapping[str, bytes]:
        """Gives a folder's files by name, the file itself among them.

        See `emit.bundle.make.make_bundle` for the arguments.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatDef:
    """What a format does, with the options that the user chose.

    Attributes:
        emit: writes a file.
        runner: runs a file, of its bytes or its path.
        stored_shift: what the file adds to each code of a tensor before it stores it.
        check: raises EmitError where a file would not run as it should; None where nothing is
            to be checked.
        limits: gives the largest stored weight codes by node that an ideal graph is to be
            realized with; None for int8's.
        rewrite: gives the graph that the file is of, from the realized graph of the model,
            calibration inputs and what becomes of pixels in front of it; None where that is the
            model's.
        tolerance: the share of codes that may differ from the reference's; None for
            `parity.codes_tolerance`.
        package: makes the file's folder; None for the file alone.
        code_type: in which the file takes the codes of an input that has qparams, each shifted by
            stored_shift; None where it takes floats alone.
        covers: says whether a file that gives more tensors computes all that another one does,
            node by node, so that it answers for it; None where what is asked for may change how
            the rest is computed.
    """

    emit: Emit
    runner: Callable[[bytes | Path], Runner]
    stored_shift: Callable[[QParams], int]
    check: Callable[[Graph, bytes], None] | None = None
    limits: Callable[[Graph], Mapping[str, int]] | None = None
    rewrite: Callable[[Graph, Mapping[str, np.ndarray], Preprocessing | None], Graph] | None = None
    tolerance: Callable[[Graph], float] | None = None
    package: Package | None = None
    code_type: type[np.integer] | None = None
    covers: Callable[[bytes, bytes], bool] | None = None
