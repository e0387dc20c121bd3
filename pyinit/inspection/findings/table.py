"""Findings as a table: a line for each, or for all that repeated blocks have alike."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pyinit.inspection.findings.finding import Finding
from pyinit.reports.table import Line, grouped


@dataclass(frozen=True)
class _Line(Line):
    """A line, and its first finding."""

    first: Finding | None = None


_NUMBER = re.compile(r"[-+]?\d[\d.,]*(e[-+]?\d+)?")


_WIDE = 120  # columns that the table needs


def rendered(findings: Sequence[Finding], summary: str, width: int) -> Iterator[Any]:
    """What rich prints: a table, or a paragraph for each finding where that is too wide."""
    from rich.padding import Padding  # noqa: PLC0415  it takes long to import
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    if width < _WIDE:
        for name, finding in _lines(findings):
            yield Text(f"{finding.code} {name} ({_sureness(finding)})", style="bold")
            what = f"{finding.found}; expected {finding.expected}, because {finding.why}"
            yield Padding(Text(what), (0, 0, 1, 2))
    elif findings:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("code", no_wrap=True)
        for column in ("parameter", "found", "expected", "why"):
            table.add_column(column, overflow="fold")
        table.add_column("sure", no_wrap=True)
        for name, finding in _lines(findings):
            table.add_row(
                finding.code,
                name,
                finding.found,
                finding.expected,
                finding.why,
                _sureness(finding),
            )
        yield table
        yield ""
    yield summary


def _sureness(finding: Finding) -> str:
    return "information" if finding.is_informational else finding.confidence


def _lines(findings: Sequence[Finding]) -> Iterator[tuple[str, Finding]]:
    """Findings that differ in numbers alone, as their parameters' names do, become one, with the first
    one's numbers."""
    lines = []
    for finding in findings:
        alike = _NUMBER.sub("#", f"{finding.found} {finding.expected} {finding.why}")
        lines.append(_Line(finding.parameter, (), finding.code, alike, first=finding))
    for line in grouped(lines):
        assert isinstance(line, _Line)
        assert line.first is not None
        yield line.name, line.first
