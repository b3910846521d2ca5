"""Which files Keras' answers decide on: those of the model's graph, and of it with other inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore:The .keras.constraints.serialize"),
]

from quantized import fake_quantized  # noqa: E402

from keras_quant.data import load_dataset  # noqa: E402
from keras_quant.emit.tflite.options import TFLiteOptions  # noqa: E402
from keras_quant.jobs.preprocess import declare  # noqa: E402
from keras_quant.lower import Snap, lower_exactly  # noqa: E402
from keras_quant.proof.evidence import Answers, Evidence, gather  # noqa: E402
from keras_quant.proof.formats import FORMATS  # noqa: E402
from keras_quant.proof.gate import prove_formats  # noqa: E402
from keras_quant.proof.parity import Parity  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from keras_quant.zoo import build  # noqa: E402

TFLITE = FORMATS["tflite"]
IMAGES = 20


@pytest.fixture(scope="module")
def lowered() -> tuple[Snap, Evidence]:
    """A small net, and evidence of its own answers."""
    keras.utils.set_random_seed(0)
    data = declare(load_dataset("digits"), asked="unit")
    source = build("mlp", data.input_shape, data.num_classes, units=16)
    model = fake_quantized(source, "4", data.train.x[:100])
    snap = lower_exactly(model)
    return snap, gather(model, data, images=IMAGES)


def reversed_answers(right: Callable[[np.ndarray], Answers]) -> Callable[[np.ndarray], Answers]:
    """Another model's answers: the logits of the classes, the other way round."""
    return lambda images: tuple(answers[:, ::-1] for answers in right(images))


def parity_of(snap: Snap, evidence: Evidence, options: TFLiteOptions) -> Parity:
    form = TFLITE.with_options(options)
    return prove_formats(snap, [form], evidence, progress=Progress(quiet=True)).parities[form]


@pytest.mark.parametrize("given", ["float", "uint8"])
def test_a_file_that_does_not_answer_as_keras_fails(
    lowered: tuple[Snap, Evidence], given: str
) -> None:
    snap, evidence = lowered
    options = TFLiteOptions(input=given)
    assert parity_of(snap, evidence, options).passed
    other = dataclasses.replace(evidence, keras=reversed_answers(evidence.keras))
    parity = parity_of(snap, other, options)
    assert not parity.passed
    assert all("of Keras" in failure for failure in parity.failures)


def test_a_file_made_to_answer_otherwise_is_held_to_its_own_graph(
    lowered: tuple[Snap, Evidence],
) -> None:
    snap, evidence = lowered
    other = dataclasses.replace(evidence, keras=reversed_answers(evidence.keras))
    parity = parity_of(snap, other, TFLiteOptions(input="uint8", head="int8"))
    assert parity.passed and parity.keras_top1_agreement < 0.5
