"""A state dict into the network it was saved from, whatever wrappers put before the names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

_WRAPPERS = ("module", "model", "net", "network")
"""Names that wrappers put before the names of a network: ``DataParallel``, Lightning modules, trainers."""

_DEEPEST = 8
"""So many of them may stand before a name."""

_COMPILED = "_orig_mod"
"""What ``torch.compile`` puts into names, wherever a module was compiled."""

_TRAINING = re.compile(
    r"(?:^|_)(?:loss|losses|criterion|criteria|metrics?|accuracy|auroc|ema|swa)(?:_|\d|$)|^(?:train|val|test)_|averaged",
    re.IGNORECASE,
)
"""Names of what a training script keeps beside the network."""

_STALE = re.compile(r"blocks\.\d+\.(?:norm_)?cross_attn\.")
"""Layers of transformers that MONAI once made whether they were used or not; its own loader leaves them out too."""


def load_state(network: nn.Module, state: Mapping[str, Tensor], label: str) -> tuple[str, ...]:
    """Load weights into the network they were saved from, whatever was put before their names.

    Parameters
    ----------
    network
        It keeps its own number format; weights of half precision become single precision in it.
    state
        The weights, as :func:`read_state` gives them.
    label
        How sentences call the file.

    Returns
    -------
    tuple of str
        What a reader must know: entries that are no part of the network.

    Raises
    ------
    GradCamError
        If they are not the weights of this very network.
    """
    wanted = network.state_dict()
    by_name: dict[str, list[str]] = {}
    for raw in state:
        by_name.setdefault(".".join(part for part in raw.split(".") if part != _COMPILED), []).append(raw)
    readings = [_Reading(prefix, wanted, state, by_name) for prefix in _prefixes(by_name)]
    fitting = [reading for reading in readings if reading.fits]
    if not fitting:
        best = max(readings, key=lambda reading: (reading.matched, -len(reading.unknown)))
        raise GradCamError(best.sentence(label))
    chosen = fitting[0]
    if any(_differ(chosen, other) for other in fitting[1:]) or chosen.twice:
        names = chosen.twice[0] if chosen.twice else [one.found[next(iter(one.found))] for one in fitting]
        raise GradCamError(
            f"The weights in {label} fit the network in more than one way ({' and '.join(names[:2])}), and differ; "
            "save the state_dict() of the network alone."
        )
    try:
        network.load_state_dict({name: state[raw] for name, raw in chosen.found.items()})
    except RuntimeError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise GradCamError(f"The weights in {label} do not fit its network: {reason}; give its own weights.") from error
    left = chosen.foreign
    if not left:
        return ()
    count = "1 entry" if len(left) == 1 else f"{len(left)} entries"
    verb, was = ("is", "was") if len(left) == 1 else ("are", "were")
    return (f"{count} of {label} (first {left[0]}) {verb} no part of the network and {was} left out.",)


class _Reading:
    """The entries of a file read with one prefix before the network's own names.

    Attributes
    ----------
    found
        The network's names to those in the file.
    missing, unknown, other
        The network's names that are not there, the file's that the network does not have, and the network's whose
        shapes or kinds of number differ.
    foreign
        The file's names that belong to something beside the network.
    twice
        Names in the file that become one without what ``torch.compile`` put into them, and differ.
    """

    def __init__(
        self, prefix: str, wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], by_name: Mapping[str, list[str]]
    ) -> None:
        self._wanted, self._state = wanted, state
        self.found = {name: by_name[prefix + name][0] for name in wanted if prefix + name in by_name}
        # Files of old or of other libraries lack the counter, which a network at work does not read.
        self.missing = [name for name in wanted if name not in self.found and not name.endswith("num_batches_tracked")]
        self.other = [name for name, raw in self.found.items() if not _alike(wanted[name], state[raw])]
        used = {prefix + name for name in self.found}
        rest = [name for name in by_name if name not in used]
        self.foreign = [by_name[name][0] for name in rest if _is_foreign(name, prefix)]
        self.unknown = [by_name[name][0] for name in rest if not _is_foreign(name, prefix)]
        several = [by_name[name] for name in used if len(by_name[name]) > 1]
        self.twice = [raws for raws in several if any(not _same(state[raws[0]], state[raw]) for raw in raws[1:])]

    @property
    def matched(self) -> int:
        """Entries that fit in name and shape."""
        return len(self.found) - len(self.other)

    @property
    def fits(self) -> bool:
        """Whether these are the network's weights, all of them and nothing else of a network."""
        return not (self.missing or self.unknown or self.other)

    def sentence(self, label: str) -> str:
        """Say what does not fit."""
        details = []
        if self.missing:
            details.append(f"{len(self.missing)} missing (first {self.missing[0]})")
        if strange := self.unknown or self.foreign:
            details.append(f"{len(strange)} unknown (first {strange[0]})")
        if self.other:
            first = self.other[0]
            given, wanted = self._state[self.found[first]], self._wanted[first]
            if given.shape == wanted.shape:
                details.append(f"{len(self.other)} of another kind (first {first}: {given.dtype}, not {wanted.dtype})")
            else:
                shapes = f"{list(given.shape)}, not {list(wanted.shape)}"
                details.append(f"{len(self.other)} of another size (first {first}: {shapes})")
        return (
            f"The weights in {label} do not fit its network: {', '.join(details)}; give the weights of this very "
            "network, or correct what is said of the network."
        )


def _prefixes(names: Mapping[str, Any]) -> list[str]:
    """List what may stand before the network's own names, from nothing to the longest chain of wrappers."""
    chains = {""}
    for name in names:
        chain = ""
        for part in name.split(".")[:-1][:_DEEPEST]:
            if part not in _WRAPPERS:
                break
            chain += part + "."
            chains.add(chain)
    return sorted(chains, key=lambda chain: (len(chain), chain))


def _is_foreign(name: str, prefix: str) -> bool:
    """Tell whether an entry stands beside the network rather than in it."""
    own = name.removeprefix(prefix)
    return not name.startswith(prefix) or bool(_TRAINING.search(own.split(".")[0]) or _STALE.match(own))


def _alike(wanted: Tensor, given: Tensor) -> bool:
    # Counters were once saved with an axis; whole numbers for weights are quantised and mean something else.
    same_size = wanted.shape == given.shape or (wanted.ndim == 0 and given.shape == (1,))
    return same_size and (given.is_floating_point() or not wanted.is_floating_point())


def _differ(one: _Reading, other: _Reading) -> bool:
    return any(not _same(one._state[raw], one._state[other.found[name]]) for name, raw in one.found.items())


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)
