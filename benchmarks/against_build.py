"""How much faster this build is than another commit of it.

The other commit is unpacked beside, and both builds do the same work in turn (A B A B ...), each
time in a process of its own, with this interpreter and its packages. A workload is a script of
`builds/`, which imports what it needs by the names of either build.

Goals: `lower_exactly` at least 4 times as fast as commit a1928f5, with no more biases moved; an
export proven on 10,000 images at least 3 times as fast, in no more memory than one on 500.
"""

from __future__ import annotations

import fnmatch
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from interleaved import paired_ratio
from results import Result, argument_parser, publish

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "benchmarks" / "builds"
PEER = "a1928f5"
THIS = "this build"
LOWERING_GOAL, EXPORT_GOAL = 4.0, 3.0

Record = dict[str, Any]
"""What a workload's script prints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Something that both builds do.

    Attributes:
        name: in the table, and for --only.
        script: of `builds/`: `SCRIPT prepare FOLDER ...` is run once, by the other build, and may
            leave what it wants in the folder; `SCRIPT run FOLDER ...` prints, at last, a line of
            JSON: cpu_s and wall_s; and counts of what this build is to have no more of than the
            other, each with figure, unit, count, and of how many.
        arguments: what the script gets behind the folder.
        at_least: how many times as fast this build is to be.
        by: the time that counts: of the processors, which others on the machine disturb less; or
            the wall's, where this build shares the work over processors and the other does not.
    """

    name: str
    script: str
    arguments: tuple[str, ...]
    at_least: float | None = None
    by: str = "CPU"


LOWERED = ("efficientnet_lite0", "mobilenet_v2", "resnet50")

WORKLOADS = tuple(
    Workload(
        name=f"lower {net} {bits}",
        script="lowering.py",
        arguments=(net, bits),
        at_least=LOWERING_GOAL,
    )
    for net in LOWERED
    for bits in ("w8a8", "w4a8")
) + (
    Workload(
        name="export resnet20 w4a4",
        script="exporting.py",
        arguments=("resnet20", "w4a4", "10000"),
        at_least=EXPORT_GOAL,
        by="wall",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A commit's files.

    Attributes:
        name: in the table.
        root: where keras_quant/ and benchmarks/ are.
    """

    name: str
    root: Path


def main() -> None:
    """Measures and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("--build", default=PEER, metavar="COMMIT", help="to compare with")
    parser.add_argument("--rounds", type=int, default=3, help="of each workload")
    parser.add_argument("--only", metavar="PATTERN", default="*", help="workloads, by name")
    arguments = parser.parse_args()
    chosen = [w for w in WORKLOADS if fnmatch.fnmatch(w.name, arguments.only)]
    if not chosen:
        parser.error(f"no workload is called {arguments.only}; there are {names(WORKLOADS)}")
    with tempfile.TemporaryDirectory() as folder:
        other = unpack(arguments.build, Path(folder) / "build")
        builds = (other, Build(name=THIS, root=ROOT))
        results = []
        for workload in chosen:
            results += compare(workload, builds, Path(folder), rounds=arguments.rounds)
            print(f"{workload.name}: done", file=sys.stderr)
    publish(f"against build {arguments.build}", results, arguments.json)


def names(workloads: Sequence[Workload]) -> str:
    """The names of workloads, in a line."""
    return ", ".join(workload.name for workload in workloads)


def unpack(commit: str, folder: Path, *, repository: Path = ROOT) -> Build:
    """Writes a commit's files into a folder.

    Raises:
        subprocess.CalledProcessError: git knows no such commit.
    """
    archive = subprocess.run(
        ["git", "-C", str(repository), "archive", commit], check=True, stdout=subprocess.PIPE
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        # Python 3.10.12, 3.11.4 and later know filters; Debian 12 has 3.11.2.
        known = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        files.extractall(folder, **known)
    return Build(name=commit, root=folder)


def compare(
    workload: Workload, builds: tuple[Build, Build], folder: Path, *, rounds: int
) -> list[Result]:
    """Runs a workload in two builds in turn; the second is the one that is to be faster."""
    call(builds[0], workload, "prepare", folder)
    records: dict[str, list[Record]] = {build.name: [] for build in builds}
    for _ in range(rounds):
        for build in builds:
            records[build.name].append(json.loads(call(build, workload, "run", folder)))
    return summarize(workload, records)


def summarize(workload: Workload, records: Mapping[str, Sequence[Record]]) -> list[Result]:
    """Makes the lines of a workload: its ratios of times, and what came out in each build.

    Args:
        records: what each build printed, round by round; this build's are the last.
    """
    other, this = records
    results = []
    for clock, key in (("CPU", "cpu_s"), ("wall", "wall_s")):
        goal = workload.at_least if clock == workload.by else None
        seconds = {name: np.array([r[key] for r in found]) for name, found in records.items()}
        ratio = paired_ratio(seconds, other, this, at_least=goal)
        medians = " / ".join(f"{np.median(each):.2f} s" for each in seconds.values())
        figure = f"{workload.name}: {clock} time"
        results.append(replace(ratio, figure=figure, peer=medians))
    for before, after in zip(*(found[-1]["counts"] for found in records.values()), strict=True):
        results.append(
            Result(
                figure=f"{workload.name}: {after['figure']}",
                value=after["count"],
                unit=after["unit"],
                at_most=before["count"],
                peer=f"{before['count']:,} of {before['of']:,}",
            )
        )
    return results


def call(build: Build, workload: Workload, action: str, folder: Path) -> str:
    """Runs a workload's script with a build's modules, and gives the last line that it prints.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    path = os.pathsep.join(map(str, (build.root, build.root / "benchmarks")))
    words = [sys.executable, str(SCRIPTS / workload.script), action, str(folder)]
    done = subprocess.run(
        [*words, *workload.arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    return done.stdout.strip().split("\n")[-1]


if __name__ == "__main__":
    main()
