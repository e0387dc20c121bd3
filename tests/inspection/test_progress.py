"""A bar for long work: after two seconds, on a terminal, and gone in the end."""

from typing import Any

import pytest

from pyinit.inspection import progress


class Bar:
    """Remembers what was asked of it."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")

    def add_task(self, what: str, *, total: None) -> int:
        assert total is None  # its length is not known
        self.calls.append(what)
        return 0

    def update(self, _: int, description: str) -> None:
        self.calls.append(description)


@pytest.fixture
def bar(monkeypatch: pytest.MonkeyPatch) -> Bar:
    made = Bar()
    monkeypatch.setattr(progress, "_bar", lambda: made)
    return made


def test_short_work_shows_nothing(bar: Bar, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.5, 1.9])
    monkeypatch.setattr(progress, "monotonic", lambda: next(clock))
    with progress.progress() as shown:
        shown.step("one")
        shown.step("two")
    assert not bar.calls


def test_long_work_shows_its_steps_and_the_bar_goes(
    bar: Bar, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 2.1])
    monkeypatch.setattr(progress, "monotonic", lambda: next(clock))
    with progress.progress() as shown:
        for step in ("one", "two", "three"):
            shown.step(step)
    assert bar.calls == ["start", "two", "three", "stop"]
