"""Whatever net is trained at whatever bits: the exported files answer as the model does."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, note, seed, settings

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.errors import EmitError  # noqa: E402
from keras_quant.graph.ir import Graph  # noqa: E402
from keras_quant.lower import lower_exactly  # noqa: E402
from keras_quant.model.logits import AnswerFunction  # noqa: E402
from keras_quant.proof.formats import EXACT_FORMATS, FORMATS, Format  # noqa: E402
from keras_quant.proof.parity import prove_all  # noqa: E402
from tests.lower.codes import count_differences  # noqa: E402
from tests.lower.random_nets import Net, images_of, nets, quantized  # noqa: E402

IMAGES = 32
# Keras sums in float32, in an order of its own: where a sum, or an average, ends next to the
# middle of two codes, it may take the other one. Measured on 550 nets, 250 of them of gates,
# averages and functions: 0 codes of 546, and at most 2.2e-5 of those of the other four.
FLOAT32_ROUNDING = 1e-3
quick = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def prove(net: Net) -> None:
    images = images_of(net, IMAGES)
    model = quantized(net, images)
    snap = lower_exactly(model)
    keras = dict(zip(snap.graph.outputs, AnswerFunction(model)(images), strict=True))
    inputs = {snap.graph.inputs[0]: images}
    files = list(_files(snap.graph))
    different, compared = count_differences(model, snap.graph, images)
    assert different <= math.ceil(FLOAT32_ROUNDING * compared)
    proofs = prove_all(snap.graph, files, inputs, keras=keras)
    for (form, _), parity in zip(files, proofs, strict=True):
        note(f"{form.name}: {parity}; Keras differs in {different} of {compared} codes")
        assert parity.passed
        assert parity.codes_different == 0 or form.name not in EXACT_FORMATS
        if different == parity.codes_different == 0:
            assert parity.keras_top1_agreement == 1


def _files(graph: Graph) -> Iterator[tuple[Format, bytes]]:
    """Files of all formats; one may refuse scales far apart, or what it could not do exactly."""
    for form in FORMATS.values():
        try:
            yield form, form.definition.emit(graph)
        except EmitError as error:
            assert form.name not in EXACT_FORMATS or "Calibrate the output's scale" in str(error)
            note(f"{form.name}: {error}")


@pytest.mark.slow
@settings(max_examples=6, derandomize=True, **quick)
@given(nets)
def test_files_of_a_random_net_answer_as_the_model(net: Net) -> None:
    prove(net)


@pytest.mark.slow
@pytest.mark.parametrize("part", [1, 2])  # which two processes can share
def test_files_of_many_random_nets_answer_as_the_models(part: int) -> None:
    @seed(part)
    @settings(max_examples=13, database=None, **quick)
    @given(nets)
    def files_answer_as_the_model(net: Net) -> None:
        prove(net)

    files_answer_as_the_model()
