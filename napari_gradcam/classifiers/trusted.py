"""A bundle whose makers a person trusts: MONAI's own parser builds it, and code from it runs.

Nothing of this module is used before :mod:`napari_gradcam.classifiers.trust` says so.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from monai.bundle import ConfigParser
from torch import nn

from napari_gradcam.classifiers.allowlist import allowed_target
from napari_gradcam.classifiers.refusing import is_mark, without_downloads
from napari_gradcam.errors import GradCamError
from napari_gradcam.volumes.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


_SHARED_NAMES = frozenset(("scripts",))
"""What MONAI's bundles call the folder of their modules."""


class TrustedConfig:
    """A configuration as MONAI reads it: expressions are evaluated, imports and scripts run.

    Parameters
    ----------
    content
        The mapping as read from the file.
    root
        The bundle's folder, which its expressions call ``bundle_root``.
    """

    def __init__(self, content: Mapping[str, Any], root: Path) -> None:
        self._parser = ConfigParser()
        self._parser.read_config(_offline({**content, "bundle_root": str(root)}))
        self._read = False

    def __contains__(self, key: str) -> bool:
        """Whether the configuration has `key` at its top."""
        return key in self._parser

    def raw(self, key: str) -> Any:
        """Return what stands at ``a::b::0``, references followed but nothing built."""
        return self.follow(self._parser.get(key), key)

    def follow(self, node: Any, key: str) -> Any:
        """Return what `node` stands for if it is a reference, else `node` itself."""
        return self.raw(node[1:]) if isinstance(node, str) and node.startswith("@") else node

    def plain(self, node: Any, key: str) -> Any:
        """Build what `node` stands for: code of a bundle that is trusted may run."""
        return self.build_node(node, key)

    def build_node(self, node: Any, key: str) -> Any:
        """Build `node`, which stands at `key`.

        Raises
        ------
        GradCamError
            If it cannot be built.
        """
        try:
            self._parser.set(node, key)
            self._parser.parse(reset=True)
            return self._parser.get_parsed_content(key)
        except Exception as error:
            # Code of the bundle's own may raise anything.
            cause = error.__cause__ or error
            told = printable((str(cause).strip() or type(cause).__name__).splitlines()[0])
            raise GradCamError(f"The bundle's “{key}” cannot be built: {told}; ask its makers.") from error


@contextmanager
def scripts_of(root: Path) -> Iterator[None]:
    """Let Python find the modules of a bundle, and forget them after.

    Bundles call their modules alike (``scripts``), and Python keeps the first of a name.
    """
    own = {entry.stem for entry in root.iterdir() if entry.is_dir() or entry.suffix == ".py"}
    before = set(sys.modules) - _SHARED_NAMES
    kept = {name: sys.modules.pop(name) for name in _SHARED_NAMES & set(sys.modules)}
    writes = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # a file more, and the bundle would not be the one that is trusted
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes
        if str(root) in sys.path:
            sys.path.remove(str(root))
        for name in [name for name in sys.modules if name not in before and name.partition(".")[0] in own]:
            del sys.modules[name]
        sys.modules.update(kept)


def _offline(node: Any) -> Any:
    """Let networks be built without weights from elsewhere: the bundle's own follow."""
    if isinstance(node, list):
        return [_offline(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {name: item if is_mark(name) else _offline(item) for name, item in node.items()}
    if "_target_" not in node:
        return node
    target = node["_target_"]
    found = allowed_target(target) if isinstance(target, str) else None
    if found is not None and not (isinstance(found, type) and not issubclass(found, nn.Module)):
        return without_downloads(found, node)  # some of MONAI's fetch weights where nothing is said
    return {name: False if name == "pretrained" else item for name, item in node.items()}
