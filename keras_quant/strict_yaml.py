"""Reading YAML that people write: safely, and with no name twice. Imports PyYAML."""

from __future__ import annotations

from collections import Counter
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """Refuses what plain YAML takes: a name that stands twice, of which the last would count."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)  # before << puts names of others into it
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for name, times in names.items():
            if times > 1:
                raise yaml.composer.ComposerError(
                    None, None, f"{name!r} stands there {times} times", node.start_mark
                )
        return node


def read_yaml(text: str) -> Any:
    """Gives what a text says, as plain data.

    Raises:
        yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError: it is no YAML, or has
            a name twice in one mapping; PyYAML makes dates and numbers of what looks like one,
            though there is no such.
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506
