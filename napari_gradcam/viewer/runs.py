"""The work that is going on: one at a time, told in the dock as it goes on and where it fails."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import notification_manager

from napari_gradcam.errors import GradCamError
from napari_gradcam.progress import Progress
from napari_gradcam.viewer.contract import Job, Tone

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from napari_gradcam.viewer.contract import DockView, Jobs, Steps


TELLING_S, FEW = 2.0, 8
"""An estimate is told of work that has taken and will take longer than this, in more steps than these: the few stages
of a single pass are not alike."""


class Runs:
    """Runs work for a dock.

    Parameters
    ----------
    dock
        Where it is told.
    jobs
        Runs it.

    Attributes
    ----------
    inputs
        Keys of the layers that an explanation is being made of; empty where none is.
    busy
        Whether anything is going on that a person knows of.
    begun
        Whether anything was run yet.
    """

    def __init__(self, dock: DockView, jobs: Jobs) -> None:
        self._dock, self._jobs = dock, jobs
        self._gone = False
        self._began = 0.0
        self.inputs: tuple[str, ...] = ()
        self.busy = self.begun = False

    def start(
        self,
        work: Callable[[], Steps],
        done: Callable[[Any], None],
        inputs: tuple[str, ...] = (),
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """Run work in place of what is going on.

        Parameters
        ----------
        work
            Makes the work.
        done
            Takes its value.
        inputs
            The layers it is for, if it is an explanation.
        failed
            Takes its exception; by default that is told.
        """
        self.inputs, self._gone, self.busy, self.begun = inputs, False, True, True
        self._dock.say("")
        self._began = time.monotonic()
        show = partial(self._show, explaining=bool(inputs))
        show(Progress(0, 0, "Starting"))
        self._jobs.start(Job(work, show, partial(self._on_done, done), failed or self.failed, self._on_stopped))

    def aside(self, work: Callable[[], Steps], done: Callable[[Any], None], inputs: tuple[str, ...]) -> None:
        """Do what nobody waits for, without a word, if nothing is going on; whatever is started takes its place."""
        if not self.busy:
            self.inputs = inputs
            self._jobs.start(Job(work, _silent, done, _silent, lambda: None))

    def _show(self, progress: Progress, *, explaining: bool) -> None:
        passed = time.monotonic() - self._began
        left = passed / progress.done * (progress.total - progress.done) if progress.done else 0.0
        told = left if passed > TELLING_S and left > TELLING_S and progress.total > FEW else None
        self._dock.set_progress(progress, explaining=explaining, left_s=told)

    def cancel(self) -> None:
        """Stop at the next pause, as the person asked."""
        if not self.busy:
            return
        self._dock.say("Stopping after this step…")
        self._jobs.cancel()

    def only(self, layers: Collection[str]) -> None:
        """Stop what is for a layer that is gone."""
        if not set(self.inputs) <= set(layers):
            self._gone = True
            self._jobs.cancel()

    def drop(self) -> None:
        """Stop without a word."""
        self._jobs.drop()
        self.stopped()

    def stopped(self) -> None:
        """Show that nothing is going on."""
        self.inputs, self.busy = (), False
        self._dock.set_progress(None)
        self._dock.say("")

    def failed(self, error: Exception) -> None:
        """Tell what went wrong: in its own sentence, or as a fault of ours with napari's notification."""
        self.stopped()
        if isinstance(error, GradCamError):
            self._dock.say(str(error), Tone.ERROR)
            return
        self._dock.say(
            f"Grad-CAM met an error it did not expect ({type(error).__name__}: {error}); napari's notification has the "
            "details to report.",
            Tone.ERROR,
        )
        notification_manager.receive_error(type(error), error, error.__traceback__)

    def _on_done(self, done: Callable[[Any], None], value: Any) -> None:
        self.stopped()
        done(value)

    def _on_stopped(self) -> None:
        self.stopped()
        self._dock.say("Cancelled: the scan was closed." if self._gone else "Cancelled.")


def _silent(_: object) -> None:
    """Tell nobody: what goes wrong is told once a person asks for it."""


def counting_of(count: Callable[[], Any], take: Callable[[Any], None]) -> Job:
    """Make a job of something that is counted at one go, and told to nobody while it is."""

    def steps() -> Steps:
        yield from ()  # a job is a generator, and this one has no pauses
        return count()

    def nothing(*_: object) -> None:
        pass

    return Job(steps, nothing, take, _raise, nothing)


def _raise(error: Exception) -> None:
    raise error
