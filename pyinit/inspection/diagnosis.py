"""A fault that an inspection has found, in words."""

from dataclasses import asdict, dataclass
from typing import Any

from pyinit.reports.stored import read


@dataclass(frozen=True)
class Diagnosis:
    """A fault, where it begins, why, and what a remedy did.

    Args:
        kind: what it is, such as "vanishing signal"
        layer: the first layer where it goes wrong; with the number of the call, if it is not the first
        until: the layer where it is worst, of what goes on through several; "" of others
        found: what was found, in words
        why: what it comes from, in words; "" if nothing tells
        recipe: the recipe that it was found under; "" for the weights as they were
        rate: the factor by which something changes a layer; NaN for faults of one layer
        remedy: what was tried, and what came of it, in words; "" if nothing was
    """

    kind: str
    layer: str
    found: str
    why: str = ""
    recipe: str = ""
    rate: float = float("nan")
    until: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        text = self.found + (f": {self.why}" if self.why else "")
        return text + (f"; {self.remedy}" if self.remedy else "")

    def to_dict(self) -> dict[str, Any]:
        """The diagnosis as values that JSON has."""
        rate = self.rate if self.rate == self.rate else None
        return {**asdict(self), "rate": rate}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Diagnosis":
        """The diagnosis that ``to_dict`` made the values from."""
        return read(cls, value)
