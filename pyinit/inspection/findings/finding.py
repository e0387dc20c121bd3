"""A finding, and the kinds of them, each known by a code."""

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from pyinit.inspection.subject import Subject

Confidence = Literal["certain", "likely", "possible"]


class Finding(NamedTuple):
    """Something that a check found.

    Args:
        code: the code of its kind; ``docs/check.md`` has a page for each
        parameter: the qualified name of the parameter or buffer
        found: what is there
        expected: what should be there
        why: the reason
        confidence: ``"certain"``, ``"likely"`` or ``"possible"``
        is_informational: whether it may well be meant, as it always may if it is only possible

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> layer = nn.Linear(4, 4)
        >>> _ = nn.init.ones_(layer.weight)
        >>> finding = pyinit.check(layer)[0]
        >>> finding.code, finding.parameter, finding.confidence
        ('PI103', 'weight', 'certain')
        >>> print(finding.found)
        all 16 elements are 1
    """

    code: str
    parameter: str
    found: str
    expected: str
    why: str
    confidence: Confidence
    is_informational: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As values that JSON has."""
        return self._asdict()

    def __str__(self) -> str:
        note = ", for information" if self.is_informational else ""
        return (
            f"{self.code} {self.parameter}: {self.found}; expected {self.expected}, "
            f"because {self.why} ({self.confidence}{note})"
        )


Found = tuple[str, str, str, str, Confidence]
"""Parameter, found, expected, why and confidence: a finding without its kind."""


class Kind(NamedTuple):
    """A kind of findings.

    code, name: by which it is known, to programs and to people
    is_informational: whether none of them says that something is wrong
    find: yields what is found in a subject; its documentation is the page
    """

    code: str
    name: str
    is_informational: bool
    find: Callable[["Subject"], Iterator[Found]]

    @property
    def page(self) -> str:
        """What it finds, why that is bad, an example, and what to do instead: Markdown."""
        return f"## {self.code}: {self.name}\n\n{inspect.getdoc(self.find)}\n"

    def __call__(self, subject: "Subject") -> Iterator[Finding]:
        for found in self.find(subject):
            yield Finding(self.code, *found, self.is_informational or found[-1] == "possible")


KINDS: dict[str, Kind] = {}


def kind(
    code: str, name: str, *, is_informational: bool = False
) -> Callable[[Callable[["Subject"], Iterator[Found]]], Kind]:
    """Decorator: makes a function from a subject to what is found a kind of findings."""

    def add(find: Callable[["Subject"], Iterator[Found]]) -> Kind:
        KINDS[code] = made = Kind(code, name, is_informational, find)
        return made

    return add
