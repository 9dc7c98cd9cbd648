"""Jobs run in a worker thread, answer on the main thread, and stop at their next pause."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from napari_gradcam.progress import Progress
from napari_gradcam.viewer.contract import Job
from napari_gradcam.viewer.jobs import QtJobs

if TYPE_CHECKING:
    from collections.abc import Generator


class Log:
    """A job that waits at each step for the test, and what became of it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.go = threading.Semaphore(0)
        self.events: list[Any] = []
        self.threads: set[threading.Thread] = set()
        self.tidied = False
        self._error = error

    def steps(self) -> Generator[Progress, None, str]:
        try:
            for number in range(3):
                yield Progress(number, 3, "working")
                assert threading.current_thread() is not threading.main_thread()
                self.go.acquire(timeout=10)
            if self._error:
                raise self._error
            return "answer"
        finally:
            self.tidied = True

    def job(self) -> Job:
        def note(kind: str) -> Any:
            def noted(*values: Any) -> None:
                self.threads.add(threading.current_thread())
                self.events.append((kind, *values))

            return noted

        return Job(self.steps, note("progress"), note("done"), note("failed"), note("stopped"))

    def free(self) -> None:
        self.go.release(3)

    @property
    def last(self) -> str:
        return str(self.events[-1][0]) if self.events else ""


@pytest.fixture
def jobs(qapp: Any) -> QtJobs:
    return QtJobs()


def test_progress_and_answer_come_on_the_main_thread(jobs: QtJobs, qtbot: Any) -> None:
    log = Log()
    jobs.start(log.job())
    log.free()
    qtbot.waitUntil(lambda: log.last == "done")
    assert log.events == [*(("progress", Progress(n, 3, "working")) for n in range(3)), ("done", "answer")]
    assert log.threads == {threading.main_thread()}


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("superqt swallows these")])
def test_an_exception_is_an_answer_too(jobs: QtJobs, qtbot: Any, error: Exception) -> None:
    log = Log(error)
    jobs.start(log.job())
    log.free()
    qtbot.waitUntil(lambda: log.last == "failed")
    assert log.events[-1] == ("failed", error)


def test_a_cancelled_job_stops_at_its_next_pause_and_tidies_up(jobs: QtJobs, qtbot: Any) -> None:
    log = Log()
    jobs.start(log.job())
    qtbot.waitUntil(lambda: log.last == "progress")
    jobs.cancel()
    log.free()
    qtbot.waitUntil(lambda: log.last == "stopped")
    assert len(log.events) == 2
    assert log.tidied


def test_a_second_job_waits_for_the_first_one_to_stop_and_the_first_one_s_answer_is_dropped(
    jobs: QtJobs, qtbot: Any
) -> None:
    first, second = Log(), Log()
    jobs.start(first.job())
    qtbot.waitUntil(lambda: first.last == "progress")
    jobs.start(second.job())
    second.free()
    qtbot.wait(50)
    assert second.events == []
    first.free()
    qtbot.waitUntil(lambda: second.last == "done")
    assert first.last == "progress"
    assert first.tidied


def test_a_job_that_waits_can_be_cancelled_too(jobs: QtJobs, qtbot: Any) -> None:
    first, second = Log(), Log()
    jobs.start(first.job())
    qtbot.waitUntil(lambda: first.last == "progress")
    jobs.start(second.job())
    jobs.cancel()
    first.free()
    qtbot.waitUntil(lambda: second.last == "stopped")
    assert len(second.events) == 1


def test_a_dropped_job_answers_nothing_and_another_may_follow(jobs: QtJobs, qtbot: Any) -> None:
    first, second = Log(), Log()
    jobs.start(first.job())
    qtbot.waitUntil(lambda: first.last == "progress")
    jobs.drop()
    first.free()
    jobs.start(second.job())
    second.free()
    qtbot.waitUntil(lambda: second.last == "done")
    assert first.last == "progress"
