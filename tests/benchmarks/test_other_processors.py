"""Files of random graphs answer as the reference does on other processors, emulated by qemu."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from emulated_processors import PROCESSORS
from emulated_runner import Emulator, emulate, emulated
from hypothesis import HealthCheck, assume, given, note, settings
from hypothesis import strategies as st
from portability import CACHE

from keras_quant.emit import FORMATS, Format
from keras_quant.errors import EmitError, UsageError
from keras_quant.graph.ir import Graph
from keras_quant.parity import prove
from tests.emit.random_graphs import BODY_OPS, GraphBuilder, random_graph

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]

every_format = pytest.mark.parametrize("form", FORMATS.values(), ids=list(FORMATS))
seeds = st.integers(0, 2**32 - 1)
# One process serves all examples of a processor.
quick = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True}


@pytest.fixture(scope="module", params=PROCESSORS.values(), ids=list(PROCESSORS))
def emulator(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    try:
        with emulate(request.param, CACHE) as started:
            yield started
    except UsageError as error:
        pytest.skip(str(error))


def codes_different(form: Format, emulator: Emulator, builder: GraphBuilder) -> int:
    graph, images = builder.graph(), builder.images(5)
    parity = prove(graph, emulated(form, emulator), emitted(form, graph), images)
    note(str(parity))
    return parity.codes_different


def emitted(form: Format, graph: Graph) -> bytes:
    """What a format refuses is another test's subject."""
    try:
        content: bytes = form.load("emit")(graph)
    except EmitError:
        assume(False)
    return content


@every_format
@settings(max_examples=40, **quick)
@given(seed=seeds)
def test_codes_of_random_networks_are_the_references_there(
    form: Format, emulator: Emulator, seed: int
) -> None:
    assert codes_different(form, emulator, random_graph(seed)) == 0


@every_format
@pytest.mark.parametrize("op", BODY_OPS)
@settings(max_examples=10, **quick)
@given(seed=seeds, power_of_two=st.booleans())
def test_codes_of_each_op_are_the_references_there(
    form: Format, op: str, emulator: Emulator, seed: int, power_of_two: bool
) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in (*rng.integers(1, 9, 2), rng.integers(1, 20)))
    builder = GraphBuilder(rng, shape, power_of_two=power_of_two)
    builder.add_random(op)
    assert codes_different(form, emulator, builder) == 0
