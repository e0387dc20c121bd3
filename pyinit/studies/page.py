"""A study as a page for a browser: the verdict in words, pictures, numbers, and how they were made."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from pyinit.reports.page import Cell, Page, Picture, Section, Table, Text, evenly, table_section
from pyinit.studies import arms
from pyinit.studies.comparisons import named
from pyinit.studies.definition import Definition
from pyinit.studies.findings import counts_of, findings_of, side_of
from pyinit.studies.judged import Judged
from pyinit.studies.metrics import cell
from pyinit.studies.perform import loaded
from pyinit.studies.pictures import pictures_of
from pyinit.studies.records import FINISHED, Record
from pyinit.studies.references import reference_to
from pyinit.studies.statistics import Difference, Estimate
from pyinit.studies.wording import counted, number

_DIFFERENCES = 3000  # rows of their table, at most
_ERRORS = 500  # letters of an error


def page_of(result: Judged, command: str = "") -> Page:
    """The page of a study.

    Args:
        result: what came of it
        command: the command that made it, if there was one
    """
    study = result.study
    made = pictures_of(study, result.compared, result.statistics)
    by_title = {each.title: _pictures(each.title, each.text, each.pictures) for each in made}
    first = [by_title.pop(title) for title in ("Values in the end", "Grid") if title in by_title]
    return Page(
        title=study.name,
        summary=study.question or "A study of initializations.",
        facts={
            "arms": f"{len(study.arms)}",
            "seeds": f"{study.seeds}",
            "runs": f"{len(result.records):,}",
            **{
                status: f"{count:,}"
                for status, count in counts_of(result.records).items()
                if status != FINISHED
            },
            "data": _data_name(study),
            "training": f"{counted(study.steps, 'step')}"
            if study.steps
            else counted(study.epochs or 0, "epoch"),
        },
        sections=[
            Section("Verdict", [Text(each.text, head=each.head) for each in findings_of(result)]),
            *first,
            *_values(result),
            *by_title.values(),
            *_differences(result),
            *_gone_wrong(result.records),
            *_settings(study, result.records, command),
        ],
    )


def _pictures(title: str, text: str, pictures: Sequence[Picture]) -> Section:
    return Section(title, [Text(text), *pictures], beside=True)


# ---- tables --------------------------------------------------------------------------------------


def estimate_cell(found: Estimate) -> Cell | None:
    """A mean with its interval as a cell of a table."""
    text, order = estimate_text(found)
    return Cell(text, order) if text else None


def estimate_text(found: Estimate) -> tuple[str, float]:
    """A mean with its interval as text, and the number by which it is sorted."""
    if not found.values:
        return "", 0.0
    is_mean = abs(found.mean) < float("inf")
    middle = found.mean if is_mean else found.median
    width = None if found.low is None or found.high is None else found.high - found.low
    text = number(middle, width)
    if not is_mean and abs(middle) < float("inf"):
        text = f"{text} (median)"
    if found.low is not None and found.high is not None:
        text += f" ({number(found.low, width)} to {number(found.high, width)})"
    return text, middle


def _values(result: Judged) -> Iterator[Section]:
    groups = result.statistics
    if not groups:
        return
    names = list(groups[0].comparisons)
    factors = list(result.study.factors)
    several = len(result.study.training.lrs) > 1
    rows = []
    for group in groups:
        by_metric = [
            {each.arm: each for each in group.comparisons[name].estimates} for name in names
        ]
        for arm in by_metric[0]:
            of = [each[arm] for each in by_metric]
            rate = [result.rates.get((arm, cell(group.factors)))] * several
            seeds = max(len(each.values) for each in of)
            rows.append(
                [arm, *(_shown(group.factors.get(name)) for name in factors), *rate, seeds]
                + [estimate_cell(each) for each in of]
            )
    parts: list[Text | Table] = [
        Text("The mean over the seeds, and its 95% interval by t."),
        Table(["arm", *factors, *["lr"] * several, "seeds", *names], rows),
    ]
    yield Section("Numbers in the end", parts)


def _shown(value: Any) -> Any:
    return str(value) if isinstance(value, bool) else value


def _differences(result: Judged) -> Iterator[Section]:
    rows = [
        [f"{pair.first.arm} against {pair.second.arm}", group.name, name, *difference_cells(pair)]
        for group in result.statistics
        for name, comparison in group.comparisons.items()
        for pair in comparison.differences
        if pair.values
    ]
    if not rows:
        return
    told = ""
    if len(rows) > _DIFFERENCES:
        rows = [row for row in rows if row[2] == rows[0][2]]
        told = f" Shown is {rows[0][2]} alone"
        if len(rows) > _DIFFERENCES:
            told += f", and {_DIFFERENCES:,} of {len(rows):,} pairs, evenly chosen"
            rows = [rows[i] for i in evenly(len(rows), _DIFFERENCES)]
        told += ": `StudyResult.statistics` has all."
    columns = [
        "arms",
        "where",
        "metric",
        "advantage of the first",
        "d",
        "p",
        "seeds",
        "the first is",
    ]
    if not any(row[1] for row in rows):
        columns, rows = columns[:1] + columns[2:], [row[:1] + row[2:] for row in rows]
    text = (
        "Arms are compared seed by seed: the advantage is positive where the first arm is better, with its 95% "
        "interval. d is Cohen's, with Hedges' correction for few seeds. p is of a paired t test, or of a "
        "sign test where runs gave no number, after Holm's correction over all pairs of the metric."
    )
    yield Section("Differences", [Text(text + told), Table(columns, rows)])


def difference_cells(pair: Difference) -> list[Any]:
    """The advantage, the effect, the p-value, the seeds and what follows."""
    width = None if pair.low is None or pair.high is None else pair.high - pair.low
    advantage = None
    if pair.values and abs(pair.mean) < float("inf"):
        text = number(pair.mean, width)
        if pair.low is not None and pair.high is not None:
            text += f" ({number(pair.low, width)} to {number(pair.high, width)})"
        advantage = Cell(text, pair.mean)
    effect = None if pair.corrected_effect is None else float(pair.corrected_effect)
    p = None if pair.test.kind == "none" else pair.p
    return [advantage, effect, p, len(pair.values), _SIDES[side_of(pair)]]


_SIDES = {1: "better", -1: "worse", 0: "not told apart"}


def _gone_wrong(records: Sequence[Record]) -> Iterator[Section]:
    yield from table_section(
        "Runs that did not finish",
        ("arm", "seed", "factors", "lr", "what", "steps", "error"),
        (
            (
                each.arm,
                each.seed,
                named(each.factors),
                each.lr,
                each.status,
                each.steps[-1]["step"] + 1 if each.steps else 0,
                (each.error or "")[:_ERRORS],
            )
            for each in records
            if each.status != FINISHED
        ),
        warns=True,
    )


# ---- how it was made -----------------------------------------------------------------------------


def _settings(study: Definition, records: Sequence[Record], command: str) -> Iterator[Section]:
    rows = [
        ("model", _reference(study.model)),
        *((f"argument {name}", str(value)) for name, value in study.arguments.items()),
        *(_data_rows(study)),
        ("seeds", f"0 to {study.seeds - 1}"),
        ("length", f"{study.steps} steps" if study.steps else f"{study.epochs} epochs"),
        *(
            (each.name, _told(getattr(study.training, each.name)))
            for each in fields(study.training)
        ),
        *((f"factor {name}", _told(values)) for name, values in study.factors.items()),
    ]
    of_arms = [(name, _arm(arm)) for name, arm in study.arms.items()]
    claims = [(str(claim), claim.level, claim.text) for claim in study.claims]
    seen = sorted({(k, v) for each in records for k, v in each.versions.items()})
    seconds = sum(each.seconds for each in records)
    how = f"Training took {seconds:,.3g} seconds, added over all runs."
    how += f"\nThe command: `{command}`" if command else ""
    yield Section("How it was made", [Text(how), Table(["setting", "value"], rows)])
    yield from table_section("Arms", ("arm", "initialization"), of_arms)
    yield from table_section(
        "Claims, as written before the study ran", ("claim", "level", "text"), claims
    )
    yield from table_section("Versions", ("of", "version"), seen)


def _told(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _reference(value: Any) -> str:
    try:
        return str(reference_to(value))
    except ValueError:
        return getattr(value, "__qualname__", type(value).__name__)


def _arm(arm: Any) -> str:
    try:
        plain = arms.plain(arm)
    except ValueError:
        return getattr(arm, "__qualname__", repr(arm))
    if isinstance(plain, Mapping):
        return ", ".join(f"{key} = {value}" for key, value in plain.items())
    return "; ".join(map(_arm, plain)) if isinstance(plain, list) else str(plain)


def _data_name(study: Definition) -> str:
    names = study.factors.get("data", (study.data,))
    return ", ".join(str(getattr(each, "name", None) or _in_memory(each)) for each in names)


def _in_memory(source: Any) -> str:
    return source if isinstance(source, str) else "in memory"


def _data_rows(study: Definition) -> Iterator[tuple[str, str]]:
    for source in study.factors.get("data", (study.data,)):
        data = loaded(study, {"data": source})
        parts = {"to train on": data.training, "to test on": data.test}
        told = [
            f"{len(each.inputs):,} samples {what} (digest {each.digest})"
            for what, each in parts.items()
        ]
        yield "data", f"{data.training.name}: {', '.join(told)}"
