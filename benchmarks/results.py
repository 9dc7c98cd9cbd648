"""What was measured, with the bar it is held against."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Number:
    """A measured value, and the most it may be.

    Attributes
    ----------
    value
        In `unit`; "×" is a multiple of the floor.
    bar
        None where there is none.
    """

    value: float
    bar: float | None = None
    unit: str = "×"

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without a bar."""
        return None if self.bar is None else self.value <= self.bar

    @property
    def text(self) -> str:
        """The value in words."""
        return f"{_digits(self.value)} {self.unit}"

    @property
    def cell(self) -> str:
        """The value in a table, where multiples of the floor go without saying."""
        return _digits(self.value) if self.unit == "×" else self.text

    @property
    def bar_text(self) -> str:
        """The bar in words."""
        return "" if self.bar is None else f"≤ {_digits(self.bar)} {self.unit}"


@dataclass(frozen=True)
class Result:
    """One way in one case.

    Attributes
    ----------
    case, way
        What was run, and how.
    time, memory
        None where it was not measured.
    note
        What a reader should know if a bar is missed.
    """

    case: str
    way: str
    time: Number | None = None
    memory: Number | None = None
    note: str = ""

    @property
    def numbers(self) -> dict[str, Number]:
        """Those that were measured, by what they are of."""
        found = {"time": self.time, "peak memory": self.memory}
        return {name: number for name, number in found.items() if number is not None}


@dataclass(frozen=True)
class Section:
    """A table: cases down, ways across; with a single case, ways down.

    Attributes
    ----------
    title
        Of the table.
    lead
        What the numbers are.
    results
        In the order of the table.
    """

    title: str
    lead: str
    results: tuple[Result, ...]


def _digits(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.095 else f"{value:.3f}"
