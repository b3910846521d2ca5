"""Which layer of the float model a file's tensor is: by its name, else by what its values are like.

Names of TFLiteConverter, tf2onnx and of our files hold the path of the layers that an operator
stands for ("net/relu1/Relu;net/bn1/FusedBatchNormV3;net/conv1/Conv2D"): the tensor is the last of
them. A model's outputs are those of the other, in their order, and what is only written in another
type stays the same layer. What is left is matched in the order of the operators: by the best
correlation among the layers behind those that its operator's inputs were matched with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_quant.diagnose.contents import CONVERSION, FileContents
from keras_quant.diagnose.layout import layouts
from keras_quant.diagnose.measures import correlation

ALIKE = 0.5
"""The least correlation that tells a layer by its values: half of what the file's differ by follows
float's. Values of layers that have nothing to do with each other are near 0."""
EQUAL = 1e-3
"""By so much may correlations differ, of which the later layer is taken: an identity's, say."""
SURE = 0.95
"""Of layers that a name holds, the one that correlates best by this or more is taken. Behind a
broken layer, values say less than names; then it is the last, as an operator ends with what it is
fused with."""
_STEP = 1e-4
_STAYS = 0.05  # by so much less may values correlate that were only written otherwise
_SAMPLE = 2**16  # values that are correlated, at most

_SUFFIXES = re.compile(r"(_QuantizeLinear_Output|_DequantizeLinear_Output|_QuantizeLinear_Input)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatLayer:
    """A layer of the float model.

    Attributes:
        name: unique.
        kind: its class, or the operator's type.
        inputs: names of the layers that it reads.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What a tensor was found to be.

    Attributes:
        layer: name of the float model's.
        by: "name", "output" or "values".
        correlation: of both on the images that were looked at.
    """

    layer: str
    by: str
    correlation: float


def match(
    contents: FileContents,
    layers: Sequence[FloatLayer],
    expected: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    *,
    outputs: Sequence[str] = (),
) -> dict[str, Match]:
    """Finds the layers that a file's tensors are.

    Args:
        layers: each after those that it reads.
        outputs: names of the layers whose values are the float model's outputs, in their order.
        expected: their values on some images, (images, ..., channels).
        found: the tensors' on the same images, reals, as the file lays them out.
    Returns: by key; tensors that none fits are left out.
    """
    search = _Search(contents, layers, expected, found)
    for operator in contents.operators:
        search.match_by_name(operator.output)
    if len(outputs) == len(contents.outputs):
        for key, layer in zip(contents.outputs, outputs, strict=True):
            search.match_output(key, layer)
    search.match_same()
    for operator in contents.operators:
        search.match_by_values(operator.output)
    search.drop_steps()
    return search.matches


class _Search:
    def __init__(
        self,
        contents: FileContents,
        layers: Sequence[FloatLayer],
        expected: Mapping[str, np.ndarray],
        found: Mapping[str, np.ndarray],
    ) -> None:
        self._contents, self._expected, self._found = contents, expected, found
        self._layers = {layer.name: layer for layer in layers}
        self._places = {name: place for place, name in enumerate(self._layers)}
        self._before = _ancestors(layers)  # by layer, all that lie in front of it
        self._reads = {one.output: one.inputs for one in contents.operators}
        self._readers = _followers(layers)
        self.matches: dict[str, Match] = {}

    def match_by_name(self, key: str) -> None:
        if key not in self._found:
            return
        named = self._named(self._contents.tensors[key].name)
        best = self._best(key, named, exact=True)
        if best is not None and best[1] < SURE:
            best = self._best(key, named, exact=True, equal=2)
        beyond = self._best(key, self._chain(named), exact=True)
        if beyond is not None and (best is None or beyond[1] > max(SURE, best[1] + EQUAL)):
            best = beyond
        if best is None:
            best = self._best(key, named, exact=False)
            best = best if best is not None and best[1] >= SURE else None
        self._take(key, best, "name")

    def match_output(self, key: str, layer: str) -> None:
        if key in self._found and key not in self.matches:
            self._take(key, self._best(key, [layer], exact=False), "output")

    def match_same(self) -> None:
        """Carries what is known over operators that compute nothing, forth and back."""
        ways = [
            (one.inputs[0], one.output)
            for one in self._contents.operators
            if one.computes == CONVERSION or one.moves
        ]
        for source, target in (*ways, *((b, a) for a, b in reversed(ways))):
            known = self.matches.get(source)
            if known is not None and target in self._found and target not in self.matches:
                best = self._best(target, [known.layer], exact=False)
                if best is not None and best[1] >= known.correlation - _STAYS:
                    self._take(target, best, known.by)

    def drop_steps(self) -> None:
        """Forgets tensors that are like a layer, of which a later one is more like it."""
        later: dict[str, float] = {}
        for operator in reversed(self._contents.operators):
            known = self.matches.get(operator.output)
            if known is None:
                continue
            if known.correlation < later.get(known.layer, -1) - _STEP:
                del self.matches[operator.output]
            else:
                later.setdefault(known.layer, known.correlation)

    def match_by_values(self, key: str) -> None:
        if key in self.matches or key not in self._found:
            return
        before = self._matched_before(key)
        taken = {one.layer for one in self.matches.values()}
        candidates = [
            name
            for name in self._layers
            if name not in taken and before <= self._before[name] and self._is_in_front(name, key)
        ]
        best = self._best(key, candidates, exact=False)
        if best is None or (self._is_input(best[0]) and not self._as_large(key, best[0])):
            return  # what becomes of pixels in a file is no layer
        if best[1] >= (ALIKE if self._fits(key, best[0]) else SURE):
            self._take(key, best, "values")

    def _is_input(self, layer: str) -> bool:
        return not self._layers[layer].inputs

    def _as_large(self, key: str, layer: str) -> bool:
        found, wanted = (float(np.abs(x).max()) for x in (self._found[key], self._expected[layer]))
        return wanted / 2 <= found <= 2 * wanted

    def _fits(self, key: str, layer: str) -> bool:
        """Whether axes are neither joined nor split."""
        ways = layouts(self._found[key], self._expected[layer].shape, exact=True)
        return next(ways, None) is not None

    def _take(self, key: str, best: tuple[str, float] | None, by: str) -> None:
        if best is not None:
            self.matches[key] = Match(layer=best[0], by=by, correlation=best[1])

    def _best(
        self, key: str, names: Iterable[str], *, exact: bool, equal: float = EQUAL
    ) -> tuple[str, float] | None:
        """The layer that correlates best, of equal ones the last; None where no shape fits."""
        found = []
        for name in dict.fromkeys(names):
            wanted = self._expected[name]
            for values in layouts(self._found[key], wanted.shape, exact=exact):
                step = max(1, wanted.size // _SAMPLE)
                pair = (wanted.reshape(-1)[::step], values.reshape(-1)[::step])
                found.append((correlation(*pair), self._places[name], name))
        if not found:
            return None
        most = max(found)[0]
        alike = [one for one in found if one[0] >= most - equal]
        best = max(alike, key=lambda one: one[1])
        return best[2], best[0]

    def _named(self, name: str) -> list[str]:
        """Layers whose names a tensor's holds, as parts of a path."""
        whole = _SUFFIXES.sub("", name)
        parts: set[str] = {whole}
        for path in whole.split(";"):
            steps = [step.split(":")[0].removesuffix("_quant") for step in path.split("/")]
            if steps[-1] in ("ReadVariableOp", "ReadVariableOp1", "resource"):
                continue  # a constant, which several layers may share
            parts.update(steps)
            parts.update(f"{a}_{b}" for a, b in zip(steps, steps[1:], strict=False))
        return [layer for layer in self._layers if layer in parts]

    def _chain(self, names: Sequence[str]) -> list[str]:
        """What lies before and behind the layers in single file: files fuse them, or leave some out
        and keep their names, as of a ReLU that the codes' range stands for."""
        found = []
        for name in names:
            shape, before = self._expected[name].shape, self._layers[name].inputs
            while len(before) == 1 and self._expected[before[0]].shape == shape:
                if len(self._readers[before[0]]) > 1 or not self._layers[before[0]].inputs:
                    break
                found.append(before[0])
                before = self._layers[before[0]].inputs
            readers = self._readers[name]
            while len(readers) == 1 and self._expected[readers[0]].shape == shape:
                if len(self._layers[readers[0]].inputs) > 1:
                    break
                found.append(readers[0])
                readers = self._readers[readers[0]]
        return found

    def _matched_before(self, key: str) -> set[str]:
        """The layers of the nearest tensors in front of one that were matched."""
        return {self.matches[one].layer for one in nearest(key, self._reads, self.matches)}

    def _is_in_front(self, name: str, key: str) -> bool:
        """Whether a layer lies behind none that a tensor behind this one was matched with."""
        behind = [
            one.layer
            for other, one in self.matches.items()
            if key in self._reads.get(other, ()) and one.by == "name"
        ]
        return all(name in self._before[layer] for layer in behind)


def nearest(
    key: str, reads: Mapping[str, Sequence[str]], known: Mapping[str, object]
) -> tuple[str, ...]:
    """The nearest tensors in front of one that something is known of."""
    found: dict[str, None] = {}
    waiting, seen = list(reads.get(key, ())), set()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        if one in known:
            found[one] = None
        else:
            waiting += reads.get(one, ())
    return tuple(found)


def _ancestors(layers: Sequence[FloatLayer]) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for layer in layers:
        found[layer.name] = frozenset(layer.inputs).union(
            *(found[name] for name in layer.inputs if name in found)
        )
    return found


def _followers(layers: Sequence[FloatLayer]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {layer.name: [] for layer in layers}
    for layer in layers:
        for name in layer.inputs:
            if name in found:
                found[name].append(layer.name)
    return found
