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

    import numpy as np
    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_gradcam.explanation import Explanation

Later = Callable[[Callable[[], None]], None]
"""Does something soon, once the person has seen what is on the screen; the last of several takes the others' place."""


def at_once(act: Callable[[], None]) -> None:
    """Do something now: where nobody waits for a screen."""
    act()


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


class ScoreRow(NamedTuple):
    """A class as the scores list it.

    Attributes
    ----------
    name
        The class.
    probability
        0 to 1; None before the model has read the scan.
    said, logit
        The probability, and the score before softmax or sigmoid, as they are said.
    """

    name: str
    probability: float | None = None
    said: str = ""
    logit: str = ""


class SpotRow(NamedTuple):
    """A hot spot as the table lists it: every number as it is said."""

    rank: str
    peak: str
    share: str
    volume: str
    position: str
    slice: str
    instance: str = ""


@dataclass(frozen=True, eq=False)
class Profile:
    """The evidence slice by slice, in the order in which the viewer's slider counts the slices of the plane in sight.

    Attributes
    ----------
    plane
        The plane, as a person calls it.
    shares
        Each slice's share of the positive evidence, ``(slices,)``.
    hot
        Whether a slice holds heat above the threshold, ``(slices,)``.
    scores
        For a 2D classifier that read these slices, the probability of the class in each, ``(slices,)``; else None.
    target
        The class.
    """

    plane: str
    shares: NDArray[np.float64]
    hot: NDArray[np.bool_]
    scores: NDArray[np.float64] | None = None
    target: str = ""


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
    target, against
        The class that was explained, and the one it was set against, if any.
    facts
        Pairs of a name and a value.
    sentences
        What a reader of the map must know.
    top, peak
        Raw values at the top of the scale and at the hottest voxel.
    signed
        Whether the scale runs to both sides of 0.
    """

    scores: Mapping[str, ScoreRow]
    target: str
    against: str
    facts: tuple[tuple[str, str], ...]
    sentences: tuple[str, ...]
    top: float
    peak: float
    signed: bool = False


class DockEvents(SignalGroup):
    """What the person did in the dock. Keys are those of the choices; an empty one stands for the default."""

    scan_picked = Signal(str)
    scan_opened = Signal(object)  # Path
    model_picked = Signal(str)
    model_opened = Signal(object)  # Path
    class_picked = Signal(str)  # in the list of what to explain
    class_clicked = Signal(str)  # in the scores, to be explained at once
    layer_picked = Signal(str)
    method_picked = Signal(str)
    channel_picked = Signal(int, str)  # which of the further channels, and the layer
    slicing_picked = Signal(str)
    device_picked = Signal(str)
    explain_pressed = Signal()
    cancel_pressed = Signal()
    look_changed = Signal(Look)
    plane_picked = Signal(Plane)
    space_picked = Signal()  # the view in three dimensions
    planes_linked = Signal(bool)  # three planes at once
    classes_pinned = Signal(object)  # tuple of class names, two at most
    spot_picked = Signal(int)  # row of the table
    spots_saved = Signal(object)  # Path
    slice_picked = Signal(int)
    window_picked = Signal(str)
    save_pressed = Signal()
    beside_pressed = Signal()  # keep the map in sight beside those that follow
    alone_pressed = Signal()


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

    def set_plane(self, plane: Plane | None, *, choosable: bool = True, in_space: bool = False) -> None:
        """Mark the plane in sight, or the view in three dimensions; pictures have one plane, so none can be chosen."""

    def set_scores(self, rows: Sequence[ScoreRow], target: str, pinned: Sequence[str]) -> None:
        """List the classes, the most probable first, mark the one explained and those that are pinned."""

    def set_spots(self, rows: Sequence[SpotRow] | None, system: str) -> None:
        """List the hot spots, None while they are counted; `system` names the axes of their positions."""

    def set_profile(self, profile: Profile | None) -> None:
        """Draw the evidence slice by slice; nothing where there is no map or no plane."""

    def set_slice(self, number: int) -> None:
        """Mark the slice in sight, from 0."""

    def set_windows(self, choices: Sequence[Choice], current: str) -> None:
        """List the grey windows on offer; none for a scan in colours, or none at all."""

    def set_card(self, lines: Sequence[str]) -> None:
        """Show what must stand beside every map: by what it was made, and what it is no good for."""

    def set_compared(self, title: str, facts: Sequence[tuple[str, str]]) -> None:
        """Say what stands beside the map in sight, and how alike the two are; nothing where none does."""

    def set_look(self, look: Look) -> None:
        """Show how heat maps are painted."""

    def set_progress(self, progress: Progress | None, *, explaining: bool = False, left_s: float | None = None) -> None:
        """Show how far the work has come; None where nothing is going on. Explain can be pressed unless it was.

        `left_s` is an estimate of the seconds that are left, where there is one.
        """

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


class Canvases(Protocol):
    """Further canvases beside the viewer's own."""

    def show_planes(self, on: bool) -> None:
        """Show the planes that the viewer does not show, linked to it, or no longer."""

    def show_beside(self, scan: Layer, explanation: Explanation, look: Look, title: str) -> None:
        """Show a map beside the one in sight, over the same slice of the same scan."""

    def hide_beside(self) -> None:
        """Show one map alone."""

    def close(self) -> None:
        """Let go of the viewer."""


class NoCanvases:
    """Where there is no window, there are none."""

    def show_planes(self, on: bool) -> None:
        """Show nothing."""

    def show_beside(self, scan: Layer, explanation: Explanation, look: Look, title: str) -> None:
        """Show nothing."""

    def hide_beside(self) -> None:
        """Hide nothing."""

    def close(self) -> None:
        """Let go of nothing."""


def choices_of(paths: Mapping[str, Path]) -> list[Choice]:
    """Make choices of ``{what a person reads: path}``."""
    return [Choice(label, str(path)) for label, path in paths.items()]
