"""Compares what an engine answered to the samples with what the model answers.

Run it in the bundle's folder, behind build.sh: python3 compare.py
It needs Python 3.6 or newer and numpy. Exit code 0: the engine answers as the model does.
"""

import hashlib
import json
import os
import re
import sys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Any


def main(folder: str = os.path.dirname(os.path.abspath(__file__))) -> int:
    """Compares all samples and prints a table. Returns: the exit code."""
    with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as stream:
        manifest = json.load(stream)
    failed = False
    for output in manifest["outputs"]:
        expected = np.load(os.path.join(folder, output["expected"]))
        answers = [answer(folder, index, output["name"]) for index in range(len(expected))]
        failed |= not report(output["name"], expected, np.stack(answers), manifest["tolerance"])
    if manifest.get("proof"):
        failed |= not report_codes(folder, manifest["proof"])
    return 1 if failed else 0


def report_codes(folder: str, proof: "dict[str, Any]") -> bool:
    """Prints whether probe.engine gives the codes of every layer. Returns: whether it may pass."""
    if not os.path.isdir(os.path.join(folder, "proof")):
        print("codes of layers\n  not compared: run prove.sh, then this again")
        return True
    given = []
    for index in range(proof["samples"]):
        with open(os.path.join(folder, "proof", f"{index}.json"), encoding="utf-8") as stream:
            given.append(read_outputs(stream.read()))
    expected = np.load(os.path.join(folder, *proof["codes"].split("/")))
    different, total, first = 0, 0, ""
    for layer in proof["layers"]:
        wanted = expected[layer["codes"]]
        missing = [index for index, answers in enumerate(given) if layer["tensor"] not in answers]
        if missing:
            sys.exit(f"proof/{missing[0]}.json lacks {layer['tensor']}: run prove.sh again")
        found = np.stack([answers[layer["tensor"]] for answers in given])
        total += wanted.size
        # NaN, infinity and what lies beyond int8 are no codes.
        is_code = found == np.clip(np.rint(found), -128, 127)
        exact = found.shape == wanted.shape and bool(is_code.all())
        codes = np.ascontiguousarray(found.astype(np.int8)) if exact else None
        if codes is not None and hashlib.sha256(codes.tobytes()).hexdigest() == layer["sha256"]:
            continue
        wrong = wanted.size if found.shape != wanted.shape else int((found != wanted).sum())
        different += wrong
        said = f"{layer['layer']} ({wrong:,} of {wanted.size:,} codes, {wrong / wanted.size:.3%})"
        first = first or said
    layers = len(proof["layers"])
    print(f"codes of layers\n  compared             {total:,} of {layers} layers")
    if not different:
        print("  EXACT: every code is the model's")
        return True
    share = different / total
    passes = bool(share <= proof["tolerance"])
    print(f"  different            {different:,} ({share:.4%}), allowed {proof['tolerance']:.4%}")
    print(f"  first layer          {first}")
    print("  NOT EXACT, within what sums of floats may" if passes else "  THE CODES ARE OTHERS")
    return passes


def answer(folder: str, index: int, name: str) -> np.ndarray:
    """Reads the answer to one sample from outputs/INDEX.json, which trtexec wrote."""
    path = os.path.join(folder, "outputs", f"{index}.json")
    if not os.path.exists(path):
        sys.exit(f"{path} is missing: run build.sh first")
    with open(path, encoding="utf-8") as stream:
        return read_outputs(stream.read())[name]


def read_outputs(text: str) -> "dict[str, np.ndarray]":
    """Reads the JSON of trtexec --exportOutput.

    It is a list of {"name", "dimensions": "1x10", "values": [...]} (exportJSONOutput of
    samples/common/sampleReporting.cpp in NVIDIA/TensorRT), in which C++ writes nan, -nan and
    inf, which JSON does not know.

    Returns: name to float32 array, without the batch axis of 1.
    """
    text = re.sub(r"-?\bnan(\(\w*\))?", "NaN", text)
    text = re.sub(r"\binf\b", "Infinity", text)
    outputs = {}
    for item in json.loads(text):
        shape = [int(size) for size in item["dimensions"].split("x")]
        outputs[item["name"]] = np.array(item["values"], np.float32).reshape(shape)[0]
    return outputs


def report(name: str, expected: np.ndarray, given: np.ndarray, tolerance: float) -> bool:
    """Prints how two arrays of (samples, ...) differ. Returns: whether they agree.

    A sample may have another first place where the model's own answers for the two places are
    closer than the tolerance.

    Args:
        tolerance: allowed difference as a share of the largest expected value.
    """
    difference = float(np.abs(given - expected).max())
    largest = float(np.abs(expected).max())
    wanted, found = (array.reshape(len(array), -1) for array in (expected, given))
    first = np.take_along_axis(wanted, found.argmax(axis=1)[:, np.newaxis], axis=1)[:, 0]
    behind = wanted.max(axis=1) - first
    agreeing = int((behind == 0).sum())
    print(f"output {name}")
    print(f"  same first place     {agreeing} of {len(expected)} samples")
    print(f"  largest difference   {difference:.3g} of values up to {largest:.3g}")
    print(f"  allowed difference   {tolerance * largest:.3g}")
    # false for nan
    agrees = difference <= tolerance * largest and behind.max() <= tolerance * largest
    print("  the engine answers as the model does" if agrees else "  THE ENGINE ANSWERS OTHERWISE")
    return agrees


if __name__ == "__main__":
    sys.exit(main())
