"""What checking a file against a target found; plain data."""

from __future__ import annotations

from dataclasses import dataclass

from keras_quant.targets.rules import COSTS, REJECTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A rule that a file breaks.

    Attributes:
        rule: a key of `rules.RULES`.
        effect: what comes of it, see Rule.
        node: name of the node, or "" for the file.
        op: its operator.
        what: what was found.
        remedy: what to do.
        source: where the rule is documented.
    """

    rule: str
    effect: str
    node: str
    op: str
    what: str
    remedy: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPrecision:
    """How the engine computes one operator of the file.

    Attributes:
        name: of the ONNX node; its output's where it has none.
        op: one of `builder.COMPUTE_OPS`.
        precision: `builder.INT8` or `builder.FLOAT`.
    """

    name: str
    op: str
    precision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderReport:
    """What NVIDIA's parser and builder said.

    Attributes:
        version: of TensorRT for RTX.
        compute_capability: of the GPU that was built for.
        rejected: why there is no engine, a line each; empty where there is one.
        layers: operators that compute, in the file's order; empty without an engine.
    """

    version: str
    compute_capability: str
    rejected: tuple[str, ...]
    layers: tuple[LayerPrecision, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesReport:
    """What of RULES a file breaks."""

    findings: tuple[Finding, ...]


def broken(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Those that say that something is wrong with the file; the others predict what costs time."""
    return tuple(finding for finding in findings if finding.effect != COSTS)


def is_rejected(findings: tuple[Finding, ...]) -> bool:
    """Whether there would be no engine."""
    return any(finding.effect == REJECTED for finding in findings)
