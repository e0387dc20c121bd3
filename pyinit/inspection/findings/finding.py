"""What a check finds: findings, and the kinds of them, each known by a code."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

from pyinit.reports.table import as_text

if TYPE_CHECKING:
    from pyinit.inspection.subject import Subject

Confidence = Literal["certain", "likely", "possible"]

_WIDTH = 160  # of findings as text


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


_CODE = re.compile(r"PI\d{3}")


def check_ignore(ignore: Mapping[str, str] | None) -> Mapping[str, str]:
    """What ``check`` takes as ``ignore``.

    Raises:
        TypeError: if it is no mapping of strings to strings.
        ValueError: for a code that no kind has, or an empty reason.
    """
    ignore = {} if ignore is None else ignore
    if not isinstance(ignore, Mapping):
        raise TypeError(
            "ignore must map codes or patterns of parameters' names to reasons, "
            f"got {type(ignore).__name__}"
        )
    for what, reason in ignore.items():
        if not isinstance(what, str) or not isinstance(reason, str):
            raise TypeError(f"ignore must map strings to strings, got {what!r}: {reason!r}")
        if _CODE.fullmatch(what) and what not in KINDS:
            raise ValueError(
                f"ignore: no finding has the code {what}; known are {', '.join(KINDS)}"
            )
        if not reason.strip():
            raise ValueError(f"ignore: {what!r} needs a reason, got an empty one")
    return ignore


@dataclass(frozen=True)
class Findings(Sequence[Finding]):
    """What a check found: a sequence of findings, in the order of their codes.

    Args:
        findings: those that are not ignored
        ignored: those that ``ignore`` names, with its reasons
        tensors: how many parameters and buffers were looked at
        what: what was checked, in words
        graph: how the order of layers was found; None if nothing asked for it

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> layer = nn.Linear(4, 4)
        >>> _ = nn.init.ones_(layer.weight)
        >>> findings = pyinit.check(layer)
        >>> print(findings.summary)
        Linear: 2 parameters and buffers, 1 finding
        >>> [finding.code for finding in findings], findings.failures == findings.findings
        (['PI103'], True)
    """

    findings: tuple[Finding, ...] = ()
    ignored: tuple[tuple[Finding, str], ...] = ()
    tensors: int = 0
    what: str = "model"
    graph: str | None = None

    @classmethod
    def of(
        cls,
        found: Sequence[Finding],
        ignore: Mapping[str, str],
        tensors: int,
        what: str,
        graph: str | None,
    ) -> "Findings":
        """Those that are left, and those that are ignored."""
        reasons = [_reason(finding, ignore) for finding in found]
        return cls(
            tuple(f for f, reason in zip(found, reasons, strict=True) if reason is None),
            tuple((f, r) for f, r in zip(found, reasons, strict=True) if r is not None),
            tensors,
            what,
            graph,
        )

    @property
    def failures(self) -> tuple[Finding, ...]:
        """Those that are not informational."""
        return tuple(finding for finding in self.findings if not finding.is_informational)

    @property
    def codes(self) -> set[str]:
        """Of all findings."""
        return {finding.code for finding in self.findings}

    @property
    def summary(self) -> str:
        """How many there are, in one line."""
        failures = len(self.failures)
        parts = [
            f"{self.what}: {self.tensors} parameters and buffers",
            f"{failures} {'finding' if failures == 1 else 'findings'}",
        ]
        informational = len(self.findings) - failures
        if informational:
            parts.append(f"{informational} for information")
        if self.ignored:
            parts.append(f"{len(self.ignored)} ignored")
        return ", ".join(parts)

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Finding, ...]: ...
    def __getitem__(self, index: int | slice) -> Finding | tuple[Finding, ...]:
        return self.findings[index]

    def __len__(self) -> int:
        return len(self.findings)

    def __rich_console__(self, *_: Any) -> Iterator[Any]:
        from pyinit.inspection.findings.table import rendered  # noqa: PLC0415  rich is slow to import

        yield from rendered(self)

    def __str__(self) -> str:
        return as_text(self, _WIDTH).rstrip()

    def to_dict(self) -> dict[str, Any]:
        """Everything, as values that JSON has."""
        return {
            "checked": self.what,
            "tensors": self.tensors,
            "graph": self.graph,
            "failures": len(self.failures),
            "findings": [finding.to_dict() for finding in self.findings],
            "ignored": [finding.to_dict() | {"reason": reason} for finding, reason in self.ignored],
        }


def _reason(finding: Finding, ignore: Mapping[str, str]) -> str | None:
    for what, reason in ignore.items():
        if what == finding.code or fnmatchcase(finding.parameter, what):
            return reason
    return None
