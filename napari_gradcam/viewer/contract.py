"""What dock and controller say to one another; no Qt and no napari, so that either can be tested with a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from psygnal import Signal, SignalGroup

from napari_gradcam.progress import Progress
from napari_gradcam.viewer.look import Look
from napari_gradcam.volumes.orientation import Plane

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Steps = Generator[Progress, None, Any]
"""Work that pauses between its stages, where it can be cancelled; it runs in a worker thread."""


class Choice(NamedTuple):
    """An entry of a list: what the person reads, and what it stands for."""

    label: str
    key: str


class ChannelRow(NamedTuple):
    """The list of layers for a channel of the model's input that the scan does not give."""

    label: str
    choices: tuple[Choice, ...]
    current: str


class CodeAsked(NamedTuple):
    """What a model asks for that would run code from it.

    Attributes
    ----------
    name
        The name of its file or folder.
    findings
        Triples: where it stands, what it asks for, why that is refused.
    digest
        SHA-256 of its contents, in hexadecimal digits: what a person would trust.
    """

    name: str
    findings: tuple[tuple[str, str, str], ...]
    digest: str


class Tone(Enum):
    """How a sentence is meant."""

    NOTE = "note"
    ERROR = "error"


@dataclass(frozen=True)
class Result:
    """What the dock tells of an explanation.

    Attributes
    ----------
    scores
        ``{class name: probability as it is said}``, in the classifier's order.
    target
        The class that was explained.
    facts
        Pairs of a name and a value.
    sentences
        What a reader of the map must know.
    top, peak
        Raw values at the top of the scale and at the hottest voxel.
    """

    scores: Mapping[str, str]
    target: str
    facts: tuple[tuple[str, str], ...]
    sentences: tuple[str, ...]
    top: float
    peak: float


class DockEvents(SignalGroup):
    """What the person did in the dock. Keys are those of the choices; an empty one stands for the default."""

    scan_picked = Signal(str)
    scan_opened = Signal(object)  # Path
    model_picked = Signal(str)
    model_opened = Signal(object)  # Path
    class_picked = Signal(str)
    layer_picked = Signal(str)
    method_picked = Signal(str)
    channel_picked = Signal(int, str)  # which of the further channels, and the layer
    slicing_picked = Signal(str)
    device_picked = Signal(str)
    explain_pressed = Signal()
    cancel_pressed = Signal()
    look_changed = Signal(Look)
    plane_picked = Signal(Plane)


class DockView(Protocol):
    """Shows state and sends what the person did; setting a state sends nothing back."""

    events: DockEvents

    def set_scans(self, choices: Sequence[Choice], current: str) -> None:
        """List the scans."""

    def set_models(self, choices: Sequence[Choice], current: str) -> None:
        """List the models."""

    def set_classes(self, choices: Sequence[Choice], current: str) -> None:
        """List the classes of the model."""

    def set_layers(self, choices: Sequence[Choice], current: str) -> None:
        """List the model's layers that can be a target."""

    def set_methods(self, choices: Sequence[Choice], current: str) -> None:
        """List the methods."""

    def set_channels(self, first: str, rows: Sequence[ChannelRow]) -> None:
        """Name the channels that the scan gives, and show a list for each further one; nothing and none as a rule."""

    def set_slicings(self, choices: Sequence[Choice], current: str) -> None:
        """List the planes that a 2D model may cut the scan along; hide the list where there are none."""

    def set_devices(self, choices: Sequence[Choice], current: str) -> None:
        """List the devices that the network may run on."""

    def set_about(self, facts: Sequence[tuple[str, str]]) -> None:
        """Tell what the model says of itself, name by name; nothing before it is loaded."""

    def set_plane(self, plane: Plane | None, *, choosable: bool = True) -> None:
        """Mark the plane in sight; of pictures, which have one alone, none can be chosen."""

    def set_look(self, look: Look) -> None:
        """Show how heat maps are painted."""

    def set_progress(self, progress: Progress | None, *, explaining: bool = False) -> None:
        """Show how far the work has come; None where nothing is going on. Explain can be pressed unless it was."""

    def set_result(self, result: Result | None, notices: Sequence[str] = ()) -> None:
        """Show what was found; where nothing was yet, what must be known of the scan."""

    def say(self, sentence: str, tone: Tone = Tone.NOTE) -> None:
        """Show one sentence in place of the last one."""


@dataclass(frozen=True)
class Job:
    """Work for a thread, and what to do on the main thread as it goes on. One of the last three is called, and once.

    Attributes
    ----------
    steps
        Makes the work; both are run in the thread.
    progress
        Takes what the work yields.
    done, failed, stopped
        Take its value, its exception, or nothing if it was cancelled.
    """

    steps: Callable[[], Steps]
    progress: Callable[[Progress], None]
    done: Callable[[Any], None]
    failed: Callable[[Exception], None]
    stopped: Callable[[], None]


class Jobs(Protocol):
    """Runs one job at a time, away from the event loop."""

    def start(self, job: Job) -> None:
        """Run a job; the one at work is cancelled first, without a word to it, and its late answer is dropped."""

    def cancel(self) -> None:
        """Stop the job at its next pause."""

    def drop(self) -> None:
        """Stop the job without a word; another may follow."""


def choices_of(paths: Mapping[str, Path]) -> list[Choice]:
    """Make choices of ``{what a person reads: path}``."""
    return [Choice(label, str(path)) for label, path in paths.items()]
