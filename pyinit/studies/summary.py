"""A study in a terminal: the verdict in words, the values in the end, and how arms differ."""

from collections.abc import Iterator
from typing import Any

from pyinit.reports.page import Cell
from pyinit.reports.table import columns
from pyinit.studies.findings import findings_of
from pyinit.studies.judged import Judged
from pyinit.studies.metrics import cell
from pyinit.studies.page import difference_cells, estimate_text
from pyinit.studies.wording import number

_LEAST = 1e-4  # of p-values that are told
_ROWS = 24  # of a table, at most


def summary_of(result: Judged) -> Any:
    """The summary as something that rich prints."""
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    parts: list[Any] = [Text(result.study.name, style="bold")]
    if result.study.question:
        parts.append(Text(result.study.question, style="italic"))
    for finding in findings_of(result):
        parts += ["", Text(finding.head, style="bold"), *([finding.text] if finding.text else [])]
    for table in (_values(result), _differences(result)):
        parts += [part for each in table for part in ("", each)]
    return Group(*parts)


def _values(result: Judged) -> Iterator[Any]:
    groups = result.statistics
    if not groups:
        return
    names = list(groups[0].comparisons)
    several = len(result.study.training.lrs) > 1
    table = columns("arm", *result.study.factors, *["lr"] * several)
    for name in names:
        table.add_column(name, justify="right")
    rows = []
    for group in groups:
        of = [{each.arm: each for each in group.comparisons[name].estimates} for name in names]
        for arm in of[0]:
            factors = [str(group.factors.get(name, "")) for name in result.study.factors]
            found = result.rates.get((arm, cell(group.factors)))
            rate = ["" if found is None else f"{found:g}"] * several
            rows.append([arm, *factors, *rate, *(estimate_text(each[arm])[0] for each in of)])
    table.caption = "Means over the seeds (and their 95% intervals by t)."
    table.caption_justify = "left"
    yield from _cut(table, rows, "rows")


def _differences(result: Judged) -> Iterator[Any]:
    factors = ["where"] if len(result.statistics) > 1 else []
    table = columns("difference", *factors, "metric")
    for name in ("advantage of the first", "d", "p"):
        table.add_column(name, justify="right")
    rows = []
    for group in result.statistics:
        for name, comparison in list(group.comparisons.items())[:1]:
            for pair in filter(lambda each: each.values, comparison.differences):
                advantage, effect, p, *_ = difference_cells(pair)
                rows.append(
                    [
                        f"{pair.first.arm} against {pair.second.arm}",
                        *([group.name] if factors else []),
                        name,
                        advantage.text if isinstance(advantage, Cell) else "",
                        "" if effect is None else f"{effect:.2f}",
                        "" if p is None else number(p) if p >= _LEAST else f"< {_LEAST:.4f}",
                    ]
                )
    if rows:
        yield from _cut(table, rows, "pairs")


def _cut(table: Any, rows: list[list[str]], what: str) -> Iterator[Any]:
    for row in rows[:_ROWS]:
        table.add_row(*row)
    yield table
    if len(rows) > _ROWS:
        yield f"{len(rows) - _ROWS} further {what} are in the report."
