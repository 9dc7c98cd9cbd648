"""The explanations that were made: which of them is shown, and when one is no longer of what the layers hold."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.volumes import Volume

KEPT_EXPLANATIONS = 8
"""So many explanations are kept, so that going back to one needs no second run; each holds a map of the scan's size."""

KEPT_AHEAD = 3
"""So many more are kept that nobody has asked for yet."""

DEFAULT = ""
"""The key of the class with the highest score, of the model's own layer, of its own plane, and of no layer at all."""

AUTOMATIC = "auto"
"""The key of the best device there is."""


class Request(NamedTuple):
    """What is to be explained, by the keys of the choices.

    `others` are the layers of the further channels; `against` is the class that the target is set against, if any.
    """

    scan: str
    model: str
    method: str
    target: str = DEFAULT
    layer: str = DEFAULT
    plane: str = DEFAULT
    device: str = AUTOMATIC
    others: tuple[str, ...] = ()
    against: str = ""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The viewer's layers that are read, the scan's first."""
        return (self.scan, *self.others)

    @property
    def asked(self) -> tuple[str | None, str, str | None, str | None, str, str]:
        """What is asked of :func:`napari_gradcam.viewer.steps.explain_steps`, in its order."""
        named = (self.target or None, self.method, self.layer or None, self.plane or None)
        return (*named, self.device, self.against)


class Made(NamedTuple):
    """An explanation, what was asked for, and what the layers held, in the order of ``request.inputs``."""

    request: Request
    volumes: tuple[Volume, ...]
    explanation: Explanation


class Kept:
    """Explanations by what was asked for, the oldest of too many let go; and the one that each scan shows.

    What was made before anyone asked has its own few places, so that it takes none of what a person has seen.
    """

    def __init__(self) -> None:
        self._made: OrderedDict[Request, Made] = OrderedDict()
        self._ahead: OrderedDict[Request, Made] = OrderedDict()
        self._shown: dict[str, Made] = {}

    def find(self, request: Request) -> Made | None:
        """Give what was made for a request; one that was made ahead has been asked for from now on."""
        ahead = self._ahead.pop(request, None)
        if ahead is not None:
            self.add(ahead)
        made = self._made.get(request)
        return made._replace(request=request) if made is not None else None

    def __contains__(self, request: Request) -> bool:
        """Whether there is something for a request."""
        return request in self._made or request in self._ahead

    def add_ahead(self, made: Made) -> None:
        """Keep an explanation that nobody has asked for yet."""
        self._ahead[made.request] = made
        while len(self._ahead) > KEPT_AHEAD:
            self._ahead.popitem(last=False)

    def add(self, made: Made) -> None:
        """Keep an explanation, also for whoever asks for its class by name."""
        named = made.request._replace(target=made.explanation.target)
        self._made[made.request] = self._made[named] = made
        while len({id(one.explanation) for one in self._made.values()}) > KEPT_EXPLANATIONS:
            self._made.popitem(last=False)

    def show(self, made: Made) -> bool:
        """Note what a scan shows from now on; tell whether it is the first."""
        first = made.request.scan not in self._shown
        self._shown[made.request.scan] = made
        return first

    def shown(self, scan: str) -> Made | None:
        """Give what a scan shows."""
        return self._shown.get(scan)

    def check(self, scan: str, now: Mapping[str, Volume]) -> bool:
        """Forget what was made of a scan when a layer held another volume than `now`, by the layers' keys.

        Tells whether it forgot what is shown.
        """
        before = self.shown(scan)
        self._forget(lambda made: made.request.scan == scan and _is_of_another(made, now))
        return before is not self.shown(scan)

    def only(self, layers: Collection[str]) -> None:
        """Forget what was made of layers that are gone."""
        self._forget(lambda made: not all(key in layers for key in made.request.inputs))

    def _forget(self, stale: Callable[[Made], bool]) -> None:
        for kept in (self._made, self._ahead):
            for request in [request for request, made in kept.items() if stale(made)]:
                del kept[request]
        for scan in [scan for scan, made in self._shown.items() if stale(made)]:
            del self._shown[scan]


def _is_of_another(made: Made, now: Mapping[str, Volume]) -> bool:
    read = zip(made.request.inputs, made.volumes, strict=True)
    return any(now.get(key, volume) is not volume for key, volume in read)
