"""Whether the newest releases of all that keras_quant needs still pass its fast tests.

The README's commands install the releases of constraints.txt. This installs without it, into an
environment of its own, runs the fast tests there, and lists the releases that are others. Run it
about once a month; where it passes, constraints.txt can be made again, as its head says.

Ends with the tests' exit code.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"


def main() -> int:
    """Installs, tests and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tests", nargs="*", help="instead of all fast tests")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kq-newest-") as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "-q", "-e", f"{ROOT}[dev]"], check=True)
        tested = subprocess.run([python, "-m", "pytest", "-q", *arguments.tests], cwd=ROOT)
        listed = subprocess.run(
            [python, "-m", "pip", "list", "--format", "json"], check=True, stdout=subprocess.PIPE
        )
    found = {_normal(entry["name"]): entry["version"] for entry in json.loads(listed.stdout)}
    for line in differences(CONSTRAINTS.read_text(encoding="utf-8"), found):
        print(line)
    return tested.returncode


def differences(constraints: str, found: Mapping[str, str]) -> list[str]:
    """Lists the releases that constraints do not name.

    Args:
        constraints: the text of the file.
        found: release by package, in lower case with hyphens.
    Returns: "NAME VERSION, constraints.txt has VERSION, ...", by name.
    """
    named: dict[str, list[str]] = {}
    for name, release in re.findall(r"^([\w.-]+)==([^\s;]+)", constraints, re.MULTILINE):
        named.setdefault(_normal(name), []).append(release)
    return [
        f"{name} {release}, constraints.txt has {', '.join(named[name])}"
        for name, release in sorted(found.items())
        if name in named and release not in named[name]
    ]


def _normal(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
