"""The other classes are explained before anyone asks, without a word, and in the place of nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from napari_gradcam.progress import Progress
from napari_gradcam.viewer import ahead
from napari_gradcam.viewer.ahead import Ahead
from napari_gradcam.viewer.kept import KEPT_AHEAD, KEPT_EXPLANATIONS, Kept, Made, Request
from napari_gradcam.viewer.runs import Runs

if TYPE_CHECKING:
    from collections.abc import Callable

SCORES = {"cat": 0.1, "dog": 0.4, "owl": 0.05, "fox": 0.3, "elk": 0.15}
ASKED = Request("scan", "model", "gradcam")


class Idle:
    """What goes on while nobody asks for anything; a test lets the moment come."""

    def __init__(self, dock: Any, jobs: Any, volume: Any, make_explanation: Any) -> None:
        self.dock, self.jobs, self.volume, self._make = dock, jobs, volume, make_explanation
        self.kept, self.runs = Kept(), Runs(dock, jobs)
        self.explained: list[str] = []
        self.warm = self.still = True
        self.error: Exception | None = None
        self.waiting: Callable[[], None] | None = None
        self.ahead = Ahead(
            self.runs,
            self.kept,
            self._explain,
            lambda classifier, method: self.warm,
            lambda request, volumes: self.still,
            self._later,
        )

    def _later(self, act: Callable[[], None]) -> None:
        self.waiting = act

    def _explain(self, classifier: Any, volumes: Any, target: str, *asked: Any) -> Any:
        yield Progress(0, 1, "Mapping")
        if self.error:
            raise self.error
        self.explained.append(target)
        return self.explanation(target)

    def explanation(self, target: str) -> Any:
        return self._make(self.volume, target=target, scores=SCORES, logits=SCORES)

    def show(self, target: str = "dog", **asked: Any) -> Made:
        """Show a class, and let the moment come."""
        made = Made(ASKED._replace(**asked), (self.volume,), self.explanation(target))
        self.kept.add(made)
        self.ahead.after(made, object())
        if self.waiting is not None:
            self.waiting()
        return made

    def found(self, target: str) -> bool:
        return self.kept.find(ASKED._replace(target=target)) is not None


@pytest.fixture
def idle(
    fake_dock: Any, hand_jobs: Any, make_volume: Any, make_explanation: Any, monkeypatch: pytest.MonkeyPatch
) -> Idle:
    monkeypatch.setattr(ahead, "LEAST_FREE", 0.0)
    return Idle(fake_dock, hand_jobs, make_volume(), make_explanation)


def test_the_most_probable_of_the_others_are_explained_in_their_order(idle: Idle) -> None:
    idle.show()
    idle.jobs.finish()
    assert idle.explained == ["fox", "elk", "cat"]
    assert [idle.found(name) for name in SCORES] == [True, True, False, True, True]


def test_nothing_of_it_is_told(idle: Idle) -> None:
    idle.show()
    assert not idle.runs.busy
    idle.jobs.finish()
    assert idle.dock.said == []
    assert "progress" not in idle.dock.shown


def test_what_goes_wrong_is_not_told_before_someone_asks(idle: Idle) -> None:
    idle.error = RuntimeError("no")
    idle.show()
    idle.jobs.finish()
    assert idle.dock.said == []
    assert idle.jobs.started == 1


def test_it_waits_for_nothing_else_to_go_on(idle: Idle) -> None:
    idle.runs.start(lambda: idle._explain(None, None, "asked"), lambda _: None, ("scan",))
    idle.show()
    idle.jobs.finish()
    assert idle.explained == ["asked"]


def test_real_work_takes_its_place(idle: Idle) -> None:
    idle.show()
    idle.jobs.step()
    idle.runs.start(lambda: idle._explain(None, None, "asked"), lambda _: None, ("scan",))
    idle.jobs.finish()
    assert idle.explained == ["asked"]


def test_the_person_cannot_cancel_what_they_did_not_ask_for(idle: Idle) -> None:
    idle.show()
    idle.runs.cancel()
    assert idle.dock.said == []
    assert idle.jobs.job is not None


def test_it_stops_when_the_scan_is_closed(idle: Idle) -> None:
    idle.show()
    idle.runs.only(())
    assert idle.jobs.job is None
    assert idle.dock.said == []


def test_it_stops_when_another_scan_or_model_is_picked(idle: Idle) -> None:
    idle.show()
    idle.still = False
    idle.jobs.finish()
    assert idle.explained == ["fox"]
    assert not idle.found("fox")


@pytest.mark.parametrize("asked", [{"against": "cat"}, {}])
def test_where_a_class_costs_a_pass_or_is_set_against_another_nothing_is_made(idle: Idle, asked: Any) -> None:
    idle.warm = bool(asked)
    idle.show(**asked)
    assert idle.jobs.started == 0


def test_nothing_is_made_where_memory_is_short(idle: Idle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "LEAST_FREE", 1.0)
    idle.show()
    assert idle.jobs.started == 0


def test_nothing_is_begun_after_the_dock_is_closed(idle: Idle) -> None:
    idle.show()
    idle.ahead.close()
    idle.jobs.finish()
    assert idle.explained == ["fox"]


def test_what_a_person_has_seen_is_not_let_go_for_it(idle: Idle) -> None:
    for number in range(KEPT_EXPLANATIONS):
        idle.show(layer=f"layer {number}")
        idle.jobs.finish()
    assert all(ASKED._replace(layer=f"layer {number}") in idle.kept for number in range(KEPT_EXPLANATIONS))
    assert sum(request.target != "" for request in idle.kept._ahead) == KEPT_AHEAD


def test_what_is_asked_for_later_is_kept_like_all_that_was_seen(idle: Idle) -> None:
    idle.show()
    idle.jobs.finish()
    assert idle.found("fox")
    for number in range(KEPT_AHEAD):
        idle.kept.add_ahead(Made(ASKED._replace(layer=f"{number}"), (idle.volume,), idle.explanation("elk")))
    assert idle.found("fox")
    assert not idle.found("cat")
