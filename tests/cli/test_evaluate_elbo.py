"""What `kq evaluate` prints of a variational autoencoder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from keras_quant.cli.evaluate import evaluate
from keras_quant.jobs import evaluate as job
from keras_quant.jobs.evaluate import Evaluation, OutputEvaluation
from keras_quant.model.tasks import CLASSIFICATION, VARIATIONAL

LOSSES = {"mean": 1.5, "log_variance": 2.25, "pixels": 40.0}


def found() -> Evaluation:
    outputs = [
        OutputEvaluation(
            name=name, task=task, scores={"loss": loss}, agreement=None, difference=None
        )
        for task, (name, loss) in zip(VARIATIONAL, LOSSES.items(), strict=True)
    ]
    return Evaluation(
        file=Path("vae.keras"),
        kernels=("TensorFlow",),
        images=10,
        outputs=tuple(outputs),
        seconds=1.0,
        preprocess=None,
    )


def test_the_losses_of_a_vae_are_added_up_in_nats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "evaluate", lambda path, **options: [found()])
    done = CliRunner().invoke(evaluate, ["vae.keras"])
    assert done.exit_code == 0, done.output
    assert "loss [nats]" in done.output
    total = next(line for line in done.output.splitlines() if "negative ELBO" in line)
    assert "43.75" in total
    as_json = CliRunner().invoke(evaluate, ["vae.keras", "--json"])
    assert [output["name"] for output in json.loads(as_json.stdout)[0]["outputs"]] == list(LOSSES)


def test_other_outputs_are_not_added_up() -> None:
    other = dataclasses.replace(found().outputs[0], task=CLASSIFICATION)
    assert dataclasses.replace(found(), outputs=(other,) * 3).negative_elbo_nats is None
    assert found().negative_elbo_nats == 43.75
