"""YAML of a stranger: plain values alone, in bounded time and memory."""

from __future__ import annotations

from typing import Any

import yaml

LONGEST = 1 << 17 if yaml.__with_libyaml__ else 1 << 15
"""Letters; the longest configurations of MONAI's model zoo have a fifth of it. Without libyaml, reading is slow."""

_LONGEST_NUMBER = 64
"""Letters of a number; YAML's numbers to the base of sixty take time by the square of their length."""

_MOST_MERGED, _MOST_KEYS = 16, 10_000
"""Mappings that are merged into one, and keys that all that are merged have: merges of merges multiply."""

_DEEPEST = 100
"""Parts within parts; reading deeper ones takes the square of their number, and libyaml's reader ends the process."""

_Base: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


class _Loader(_Base):  # type: ignore[misc]
    """PyYAML's safe loader, which makes plain values only, with bounds."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._merged = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge what a mapping names with ``<<``."""
        merges = [value for key, value in node.value if key.tag == "tag:yaml.org,2002:merge"]
        if any(isinstance(value, yaml.SequenceNode) and len(value.value) > _MOST_MERGED for value in merges):
            raise yaml.constructor.ConstructorError(None, None, "it merges too many mappings", node.start_mark)
        super().flatten_mapping(node)
        self._merged += len(node.value) if merges else 0
        if self._merged > _MOST_KEYS:
            raise yaml.constructor.ConstructorError(None, None, "it merges too many keys", node.start_mark)

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
    try:
        _check_depth(text)
        return yaml.load(text, _Loader)  # the loader above is a safe one
    except yaml.YAMLError:
        raise
    except Exception as error:
        # PyYAML reads what a tag says with Python's own functions, and hands on whatever they raise.
        raise yaml.YAMLError(f"it has a value that cannot be read ({error})") from error


def _check_depth(text: str) -> None:
    """Look through the brackets and indents, part by part: nothing is made of them yet."""
    depth = 0
    for event in yaml.parse(text, _Base):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise yaml.YAMLError("it is nested too deeply")
