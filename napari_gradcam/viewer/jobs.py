"""One job at a time in a worker thread of Qt's pool, its answers on the main thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from qtpy.QtCore import QObject
from superqt.utils import GeneratorWorker

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_gradcam.progress import Progress
    from napari_gradcam.viewer.contract import Job, Steps


class _Answer(NamedTuple):
    """How a job ended: exceptions travel as values, because superqt swallows a RuntimeError and then never finishes."""

    value: Any = None
    error: Exception | None = None


class _Worker(GeneratorWorker["Progress", None, "_Answer"]):
    """superqt's worker without its ``warnings.catch_warnings``, which is not safe beside other threads that use it.

    It stays in superqt's set of workers: napari asks all of them to quit before it quits itself.
    """

    def run(self) -> None:
        """Drain the generator; called by Qt."""
        self._running = True
        answer = self.work()
        if not self.abort_requested:
            self.returned.emit(answer)
        self._running = False
        self.finished.emit()
        self._finished.emit(self)


class QtJobs(QObject):
    """Runs jobs as :class:`napari_gradcam.viewer.contract.Jobs` says."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._worker: _Worker | None = None
        self._steps: Steps | None = None
        self._answer: _Answer | None = None
        self._current: Job | None = None
        self._next: Job | None = None

    def start(self, job: Job) -> None:
        """Run a job; the one at work is cancelled first, without a word to it, and its late answer is dropped."""
        self._next = job
        if self._worker is None:
            self._begin()
        else:
            self._current = None
            self._worker.quit()

    def cancel(self) -> None:
        """Stop the job at its next pause."""
        waiting, self._next = self._next, None
        if self._worker is not None:
            self._worker.quit()
        # A job that was still waiting for the one before it to stop is told when that one has.
        self._current = self._current or waiting

    def drop(self) -> None:
        """Stop the job without a word; another may follow."""
        self._next = self._current = None
        if self._worker is not None:
            self._worker.quit()

    def _begin(self) -> None:
        job, self._next = self._next, None
        self._current, self._answer = job, None
        if job is None:
            return
        self._steps = job.steps()
        self._worker = _Worker(_relay, self._steps)
        self._worker.yielded.connect(self._on_progress)
        self._worker.returned.connect(self._on_answer)
        self._worker.finished.connect(self._on_finished)  # type: ignore[arg-type]  # superqt says it carries a value
        self._worker.start()

    def _on_progress(self, progress: Progress) -> None:
        if self._current is not None and self._worker is not None and not self._worker.abort_requested:
            self._current.progress(progress)

    def _on_answer(self, answer: _Answer) -> None:
        self._answer = answer

    def _on_finished(self) -> None:
        """Answer, then begin what waits; a cancelled generator is closed here, so that it tidies up."""
        cancelled = self._worker is not None and self._worker.abort_requested
        if self._steps is not None:
            self._steps.close()
        job, answer = self._current, self._answer
        self._worker = self._steps = self._current = self._answer = None
        if self._next is not None:
            self._begin()
        elif job is None:
            return
        elif cancelled or answer is None:
            job.stopped()
        elif answer.error is not None:
            job.failed(answer.error)
        else:
            job.done(answer.value)


def _relay(steps: Steps) -> Generator[Progress, None, _Answer]:
    try:
        return _Answer(value=(yield from steps))
    except Exception as error:
        return _Answer(error=error)
