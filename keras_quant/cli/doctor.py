"""kq doctor: what this machine has, what is missing, and how to get it."""

from __future__ import annotations

import click

from keras_quant.cli.output import json_option, print_json, print_table
from keras_quant.errors import MissingDependencyError


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Check what is installed and what is missing.

    \b
    Example:
      kq doctor
    """
    from keras_quant.jobs.diagnosis import diagnose

    checks = diagnose()
    if as_json:
        print_json(checks)
    else:
        rows = [(check.name, check.found, check.status, check.remedy) for check in checks]
        print_table(("check", "found", "status", "what to do"), rows)
    missing = [check.name for check in checks if check.status == "missing"]
    if missing:
        raise MissingDependencyError(f"required but missing: {', '.join(missing)}")
