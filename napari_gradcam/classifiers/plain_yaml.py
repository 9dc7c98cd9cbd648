"""YAML of a stranger: plain values alone, in bounded time and memory."""

from __future__ import annotations

from typing import Any

import yaml

LONGEST = 1 << 18
"""Letters; the longest configurations of MONAI's model zoo have a tenth of it, and PyYAML reads as many in seconds."""

_LONGEST_NUMBER = 64
"""Letters of a number; YAML's numbers to the base of sixty take time by the square of their length."""

_MOST_MERGED, _MOST_KEYS = 16, 10_000
"""Mappings that are merged into one, and keys that it may have then: merges of merges multiply."""

_DEEPEST = 100
"""Brackets within brackets; PyYAML looks through all that are open at each further one."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which makes plain values only, with bounds."""

    def fetch_flow_collection_start(self, token: Any) -> None:
        """Open a bracket."""
        if self.flow_level >= _DEEPEST:
            raise yaml.scanner.ScannerError(None, None, "it is nested too deeply", self.get_mark())
        super().fetch_flow_collection_start(token)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge what a mapping names with ``<<``."""
        for key, value in node.value:
            merged = len(value.value) if isinstance(value, yaml.SequenceNode) else 1
            if key.tag == "tag:yaml.org,2002:merge" and merged > _MOST_MERGED:
                raise yaml.constructor.ConstructorError(None, None, "it merges too many mappings", node.start_mark)
        super().flatten_mapping(node)
        if len(node.value) > _MOST_KEYS:
            raise yaml.constructor.ConstructorError(None, None, "it has too many keys", node.start_mark)

    def construct_number(self, node: yaml.ScalarNode) -> Any:
        """Read a whole number or a floating point number."""
        if len(node.value) > _LONGEST_NUMBER:
            raise yaml.constructor.ConstructorError(None, None, "it has a number that is too long", node.start_mark)
        return self.construct_yaml_int(node) if node.tag.endswith(":int") else self.construct_yaml_float(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)


def read_yaml(text: str) -> Any:
    """Read YAML of one document.

    Raises
    ------
    yaml.YAMLError
        If it is no YAML, asks for Python's objects, or is longer or more entangled than any configuration.
    """
    if len(text) > LONGEST:
        raise yaml.YAMLError(f"it has {len(text):,} letters, too many for a configuration")
    return yaml.load(text, _Loader)  # the loader above is a safe one
