"""Files of random graphs answer as the reference does on other processors, emulated by qemu."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from emulated_processors import CACHE, PROCESSORS
from emulated_runner import Emulator, emulate, emulated
from hypothesis import HealthCheck, assume, given, note, settings
from hypothesis import strategies as st

from keras_quant.emit.onnx_x86.emit import emit_onnx_x86
from keras_quant.errors import EmitError, UsageError
from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.proof.formats import EXACT_FORMATS, Format
from keras_quant.proof.parity import prove
from keras_quant.qparams import unsigned
from tests.emit.random_graphs import BODY_OPS, GraphBuilder, random_graph

pytestmark = pytest.mark.slow

every_format = pytest.mark.parametrize("form", EXACT_FORMATS.values(), ids=list(EXACT_FORMATS))
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
    if emulator.processor.architecture == "aarch64":  # see docs/portability.md
        assume(not (form.name == "onnx" and rounds_sums(graph)))
        assume(not (form.name == "tflite" and any(n.op == "multiply" for n in graph.nodes)))
    parity = prove(graph, emulated(form, emulator), emitted(form, graph), images)
    note(str(parity))
    return parity.codes_different


def rounds_sums(graph: Graph) -> bool:
    """Whether a sum's grid is not that of its terms."""
    return any(
        len({graph.tensors[name].qparams.scale for name in (*node.inputs, node.output)}) > 1
        for node in graph.nodes
        if node.op == "add"
    )


def emitted(form: Format, graph: Graph) -> bytes:
    """What a format refuses is another test's subject."""
    try:
        content: bytes = form.definition.emit(graph)
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
def test_codes_of_each_op_are_the_references_there(
    form: Format, op: str, emulator: Emulator
) -> None:
    if (op, form.name, emulator.processor.architecture) == ("multiply", "tflite", "aarch64"):
        pytest.skip("MUL rounds halves up on aarch64, see docs/portability.md")
    prove_op(form, op, emulator)


@settings(max_examples=10, **quick)
@given(seed=seeds, power_of_two=st.booleans())
def prove_op(form: Format, op: str, emulator: Emulator, seed: int, power_of_two: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in (*rng.integers(1, 9, 2), rng.integers(1, 20)))
    builder = GraphBuilder(rng, shape, power_of_two=power_of_two)
    builder.add_random(op)
    assert codes_different(form, emulator, builder) == 0


def halves() -> tuple[Graph, np.ndarray]:
    """Codes added to themselves, on a grid of four times their step: code n gives n / 2."""
    fine, coarse = unsigned(4, 0.25), unsigned(4, 1.0)
    tensors = {"image": None, "codes": fine, "sum": coarse}
    graph = Graph(
        name="halves",
        inputs=("image",),
        outputs=("sum",),
        tensors={n: Tensor(name=n, shape=(16,), qparams=q) for n, q in tensors.items()},
        nodes=(
            Node(name="codes", op="quantize", inputs=("image",), output="codes"),
            Node(name="sum", op="add", inputs=("codes", "codes"), output="sum"),
        ),
    )
    return graph, np.arange(16)


def test_onnx_runtime_rounds_half_sums_up_on_arm(emulator: Emulator) -> None:
    """Its kernel there does (MLAS, qladd.cpp, NEON), which docs/portability.md says."""
    graph, codes = halves()
    runner = emulated(EXACT_FORMATS["onnx"], emulator).definition.runner(emit_onnx_x86(graph))
    found = runner.run({"image": (codes * 0.25).astype(np.float32)[np.newaxis]})["sum"][0]
    on_arm = emulator.processor.architecture == "aarch64"
    np.testing.assert_array_equal(
        found, np.floor(codes / 2 + 0.5) if on_arm else np.rint(codes / 2)
    )
