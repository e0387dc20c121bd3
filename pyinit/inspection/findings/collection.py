"""All that a check found, and what is ignored of it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar, overload

from pyinit.inspection.findings.finding import KINDS, Finding
from pyinit.inspection.findings.table import rendered
from pyinit.reports.printed import Printed

_CODE = re.compile(r"PI\d+|pi\d{3}")  # what can only be meant as one


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
class Findings(Printed, Sequence[Finding]):
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

    width_as_text: ClassVar[int] = 160

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

    def __rich_console__(self, _: Any, options: Any) -> Iterator[Any]:
        yield from rendered(self.findings, self.summary, options.max_width)

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
