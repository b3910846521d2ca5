"""The scripts and the README of a bundle: plain text, as functions of what the bundle is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from fractions import Fraction

from keras_quant.graph.ir import Shape
from keras_quant.targets.tensorrt import VERSIONS, Plan

_HEAD = """#!/bin/sh
# {what}
# Needs nothing but trtexec, which JetPack puts into /usr/src/tensorrt/bin.
set -eu
cd "$(dirname "$0")"
TRTEXEC=${{TRTEXEC:-$(command -v trtexec || echo /usr/src/tensorrt/bin/trtexec)}}
command -v "$TRTEXEC" > /dev/null || {{ echo "no $TRTEXEC: set TRTEXEC to where it is"; exit 1; }}

# Runs trtexec, and shows the end of its log where it fails.
run() {{
    log=$1; shift
    "$TRTEXEC" "$@" > "$log" 2>&1 || {{ tail -n 20 "$log"; echo "trtexec failed: $log"; exit 1; }}
}}
"""

_BUILD = """
echo "building model.engine for {what}; the log goes to build.log"
run build.log --onnx={model} --saveEngine=model.engine \\
    {flags} --profilingVerbosity=detailed \\
    {shapes} --iterations=1 --duration=0 --warmUp=0

mkdir -p outputs
sample=0
while [ $sample -lt {samples} ]; do
    run outputs/$sample.log --loadEngine=model.engine {run_flags}{shapes} \\
        --loadInputs={inputs} \\
        --exportOutput=outputs/$sample.json \\
        --iterations=1 --duration=0 --warmUp=0
    sample=$((sample + 1))
done
echo "model.engine has answered {answered}; now: python3 compare.py"
"""

_PROVE = """
echo "building probe.engine, which gives the codes of every layer; the log goes to probe.log"
run probe.log --onnx=probe.onnx --saveEngine=probe.engine \\
    {flags} {shapes} --iterations=1 --duration=0 --warmUp=0

# What it answers lies in proof.partial until all of it is there.
rm -rf proof.partial
mkdir proof.partial
sample=0
while [ $sample -lt {samples} ]; do
    run proof.partial/$sample.log --loadEngine=probe.engine {run_flags}{shapes} \\
        --loadInputs={inputs} \\
        --exportOutput=proof.partial/$sample.json \\
        --iterations=1 --duration=0 --warmUp=0
    sample=$((sample + 1))
done
rm -rf proof
mv proof.partial proof
echo "probe.engine has answered {answered}; now: python3 compare.py"
"""

_BENCH = """
[ -e model.engine ] || {{ echo "run build.sh first"; exit 1; }}
watcher=
end() {{ [ -z "$watcher" ] || kill "$watcher" 2> /dev/null || true; watcher=; }}
trap end EXIT
trap 'exit 130' INT TERM HUP
measure() {{
    name=$1; shift
    run results.partial/$name.log --loadEngine=model.engine {run_flags}{shapes} \\
        --useCudaGraph --useSpinWait --warmUp=500 --duration=10 --percentile=99 \\
        --exportTimes=results.partial/$name.json "$@"
}}
# What is measured lies in results.partial until all of it is there.
rm -rf results.partial
mkdir results.partial
cp manifest.json results.partial/
cat /etc/nv_tegra_release > results.partial/release.txt 2> /dev/null || true
tr -d '\\000' < /proc/device-tree/model > results.partial/model.txt 2> /dev/null || true
nvpmodel -q > results.partial/power_mode.txt 2> /dev/null || true
if command -v tegrastats > /dev/null; then
    tegrastats --interval 200 > results.partial/tegrastats.log 2> /dev/null &
    watcher=$!
else
    echo "no tegrastats: power and temperature are not measured"
fi
echo "throughput, ten seconds: the next batch is enqueued before the last one is done"
# Without copies to and from the GPU, whose time is the same for every file.
measure throughput --noDataTransfers
grep -E "Throughput:|GPU Compute Time:" results.partial/throughput.log || true
echo "latency, ten seconds: one call after the other, with copies"
measure latency --exposeDMA
grep -E "Latency:" results.partial/latency.log || true
end
# Layer by layer; profiling slows the whole down, so it is a run of its own.
run results.partial/profile.log --loadEngine=model.engine {run_flags}{shapes} \\
    --dumpProfile --exportProfile=results.partial/profile.json --separateProfileRun{layer_info}
rm -rf results
mv results.partial results
echo "all of it: results; where keras_quant is: kq import-results FOLDER"
"""

_LAYER_INFO = """ \\
    --profilingVerbosity=detailed --exportLayerInfo=results.partial/layers.json"""

_README = """# {name} for TensorRT {version}{board}

{precision}

1. Copy this folder to the board.
2. `sh build.sh` builds `model.engine` and lets it answer {samples}.
3. `python3 compare.py` compares the answers with the model's. It needs Python 3.6 and numpy; where
   the board has no numpy, copy the folder back and run it elsewhere. It allows a difference of
   {tolerance} of the largest answer: {why}.
{prove}4. `sh bench.sh` measures throughput, latency and each layer, and leaves the folder
   `results`; `kq import-results` makes a record of it, where keras_quant is. On a Jetson run
   `sudo jetson_clocks` first, which fixes the clocks.

Set `TRTEXEC=/path/to/trtexec` where it is neither on PATH nor in /usr/src/tensorrt/bin. An engine
runs only on the kind of GPU and the version of TensorRT that built it.

## Inputs and outputs

| name | shape | meaning |
|---|---|---|
{tensors}

## What is in it

| file | what it is |
|---|---|
{files}
{notes}"""


def build_script(
    plan: Plan, *, model: str, shapes: Mapping[str, Shape], files: Sequence[str], samples: int
) -> str:
    """The text of build.sh.

    Args:
        model: the file to build of.
        shapes: input name to shape without the batch axis.
        files: for each input, the sample's file with $sample in place of its number.
        samples: how many there are.
    """
    pairs = zip(shapes, files, strict=True)
    inputs = ",".join(f"{shlex.quote(name)}:{file}" for name, file in pairs)
    body = _BUILD.format(
        what=_goal(plan),
        model=model,
        flags=" ".join(build_flags(plan)),
        run_flags=_run_flags(plan),
        shapes=_shapes(shapes),
        inputs=inputs,
        samples=samples,
        answered=counted(samples, "sample"),
    )
    return _HEAD.format(what="Builds model.engine, and lets it answer the samples.") + body


def prove_script(
    plan: Plan, *, shapes: Mapping[str, Shape], files: Sequence[str], samples: int
) -> str:
    """The text of prove.sh; see `build_script`."""
    pairs = zip(shapes, files, strict=True)
    body = _PROVE.format(
        flags=" ".join(build_flags(plan)),
        run_flags=_run_flags(plan),
        shapes=_shapes(shapes),
        inputs=",".join(f"{shlex.quote(name)}:{file}" for name, file in pairs),
        samples=samples,
        answered=counted(samples, "sample"),
    )
    return _HEAD.format(what="Builds an engine that gives all codes, to be compared.") + body


def bench_script(plan: Plan, *, shapes: Mapping[str, Shape]) -> str:
    """The text of bench.sh."""
    layer_info = _LAYER_INFO if VERSIONS[plan.version].layer_info else ""
    body = _BENCH.format(run_flags=_run_flags(plan), shapes=_shapes(shapes), layer_info=layer_info)
    return _HEAD.format(what="Measures the latency of model.engine.") + body


def readme(
    plan: Plan,
    *,
    name: str,
    samples: int,
    tolerance: float,
    tensors: Sequence[str],
    files: Mapping[str, str],
    notes: Sequence[str],
) -> str:
    """The text of README.md.

    Args:
        tolerance: difference that compare.py allows, as a share of the largest answer.
        tensors: rows of the table of inputs and outputs.
        files: name to meaning.
        notes: what the reader should know, a paragraph each.
    """
    said = "".join(f"\n{note}\n" for note in notes)
    return _README.format(
        name=name,
        version=plan.version,
        board=f" on {plan.board}" if plan.board else "",
        precision=_PRECISIONS[plan.precision].format(reason=plan.reason, goal=_goal(plan)),
        samples=counted(samples, "sample"),
        tolerance=Fraction(tolerance),
        why=_DIFFERENCES[plan.precision],
        prove=_PROVEN if "prove.sh" in files else "",
        tensors="\n".join(tensors),
        files="\n".join(f"| {file} | {meaning} |" for file, meaning in files.items()),
        notes=f"\n## Good to know\n{said}" if notes else "",
    )


def counted(count: int, noun: str) -> str:
    """A number of things: 1 sample, 2 samples."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def build_flags(plan: Plan) -> tuple[str, ...]:
    """What trtexec is told when it builds.

    Layers that stay in float run in float32, without TF32: their rounding is the model's.
    """
    if plan.typed_half:
        return (*_DLA, "--allowGPUFallback") if plan.precision == "dla" else ()
    if plan.precision == "fp16":
        return ("--fp16",)
    if plan.precision == "dla":
        return ("--int8", "--fp16", "--calib=calibration.cache", *_DLA, "--allowGPUFallback")
    version = VERSIONS[plan.version]
    if not version.precision_flags:
        return ("--noTF32",)
    return ("--stronglyTyped" if version.strongly_typed else "--int8", "--noTF32")


_PROVEN = """\
   For a proof of every layer run `sh prove.sh` first: it builds a second engine, whose outputs
   are the codes of all layers; compare.py then says EXACT, or which layer differs first.
"""
_DLA = ("--useDLACore=0",)
_PRECISIONS = {
    "int8": "Layers run in int8, as the Q/DQ in model.onnx say.",
    "fp16": "Layers run in {goal}, and model.onnx is a model of floats: {reason}.",
    "dla": "Layers run in {goal}, and model.onnx is a model of floats: {reason}.",
}
_DIFFERENCES = {
    "int8": "a sum beside a tie may become the next code",
    "fp16": "fp16 rounds what each layer gives",
    "dla": "a DLA rounds weights and activations anew",
}


def _goal(plan: Plan) -> str:
    if plan.precision != "dla":
        return plan.precision
    return f"{'fp16' if plan.typed_half else 'int8'} on the DLA"


def _run_flags(plan: Plan) -> str:
    return f"{' '.join(_DLA)} " if plan.precision == "dla" else ""


def _shapes(shapes: Mapping[str, Shape]) -> str:
    sizes = (f"{name}:{'x'.join(map(str, (1, *shape)))}" for name, shape in shapes.items())
    return shlex.quote(f"--shapes={','.join(sizes)}")
