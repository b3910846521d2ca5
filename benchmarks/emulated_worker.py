"""Runs models in an emulated Python: reads requests on stdin, answers on stdout, a JSON line each.

A request is {"model": path} with "inputs" and "outputs" (paths of .npz files) where it is to
be run; models stay loaded. The answer says what computes: {"inputs", "kernels", "versions"}, or
{"error"}. Needs numpy and the runtimes, no TensorFlow.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np

from keras_quant.proof.formats import format_of
from keras_quant.runners import Runner

Models = dict[str, Runner]


def main() -> None:
    """Answers until stdin ends; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    models: Models = {}
    for line in sys.stdin:
        try:
            answer = _answer(models, **json.loads(line))
        except Exception as error:  # whatever it is, the next model may do better
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def _answer(
    models: Models, *, model: str, inputs: str | None = None, outputs: str | None = None
) -> dict[str, object]:
    if model not in models:
        form = format_of(Path(model))
        assert form is not None, model
        models[model] = form.definition.runner(Path(model))
    runner = models[model]
    if inputs is not None and outputs is not None:
        with np.load(inputs) as given:
            np.savez(outputs, **runner.run(dict(given)))
    return {
        "inputs": runner.inputs,
        "kernels": runner.info.kernels,
        "versions": dict(runner.info.versions),
    }


if __name__ == "__main__":
    main()
