"""What the pictures of a monitor show, and the page around them: values alone."""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence

from pyinit.inspection.monitor.records import Record
from pyinit.reports.page import (
    Chart,
    Number,
    Page,
    Section,
    Series,
    Table,
    Text,
    evenly,
    table_section,
)

_LINES = 8  # of a chart, at most
_STEPS = 400  # of a line, at most

Layers = dict[str, dict[int, Record]]


def pictures(records: Sequence[Record]) -> list[Chart]:
    """The pictures for which there is something to show: lines of layers over steps."""
    layers = _layers(records)
    recorded = sorted({record.step for record in records})
    steps = [recorded[i] for i in evenly(len(recorded), _STEPS)]
    return list(_charts(layers, steps, len(recorded)))


def page(records: Sequence[Record]) -> Page:
    """The records as a page for a browser: pictures, and a table with a row for each layer."""
    layers = _layers(records)
    steps = sorted({record.step for record in records})
    charts = pictures(records)
    wild = [
        (_name(name), min(step for step, record in by_step.items() if _is_wild(record)))
        for name, by_step in layers.items()
        if any(map(_is_wild, by_step.values()))
    ]
    silent = [
        (_name(name),)
        for name, by_step in layers.items()
        if not any(record.calls for record in by_step.values())
    ]
    over = f"steps {steps[0]:,} to {steps[-1]:,}" if steps else "none"
    summary = f"{len(layers)} layers, {len(steps):,} recorded steps"
    return Page(
        title="Training, layer by layer",
        summary=f"pyinit.Monitor: {summary}",
        facts={"layers": f"{len(layers):,}", "recorded steps": f"{len(steps):,}", "from": over},
        sections=[
            *table_section("NaN or infinite", ("layer", "from step"), wild, warns=True),
            *([Section("Over the steps", charts)] if charts else []),
            *([Section("Layers", [Text(_ABOUT_TABLE), _table(layers)])] if layers else []),
            *table_section("Called in no recorded pass", ("layer",), silent),
        ],
    )


_ABOUT_TABLE = (
    "Of all recorded steps: the first, the last, the median and the greatest value. "
    "All records are in what Monitor.save writes as .csv, .json or .parquet."
)


def _layers(records: Sequence[Record]) -> Layers:
    """The records of each layer by their steps."""
    found: Layers = {}
    for record in records:
        found.setdefault(record.layer, {})[record.step] = record
    return found


def _name(layer: str) -> str:
    return layer or "(model)"


def _charts(layers: Layers, steps: Sequence[int], recorded: int) -> Iterator[Chart]:
    depths = {name: i / max(1, len(layers) - 1) for i, name in enumerate(layers)}
    for title, label, value, log, reference, note in _CHARTS:
        lines = {
            name: [value(by_step[step]) if step in by_step else None for step in steps]
            for name, by_step in layers.items()
            if any(value(record) is not None for record in by_step.values())
        }
        if value is _dead:  # most never have any, and would hide the others
            lines = {name: y for name, y in lines.items() if any(y)}
        if not lines:
            continue
        names = list(lines)
        chosen = [names[i] for i in evenly(len(names), _LINES)]
        thinned = [
            f"{some:,} of {all_:,} {what}"
            for some, all_, what in (
                (len(chosen), len(names), "layers"),
                (len(steps), recorded, "recorded steps"),
            )
            if some < all_
        ]
        thin = f"{' and '.join(thinned)}, evenly." if thinned else ""
        yield Chart(
            title,
            x=steps,
            series=[Series(_name(name), lines[name], scale=depths[name]) for name in chosen],
            x_label="step",
            y_label=label,
            log=log,
            reference=reference,
            note=f"{note} {thin}".strip(),
        )


def _std(record: Record) -> Number:
    variance = record.variance
    return variance if variance is None or not variance >= 0 else math.sqrt(variance)


def _dead(record: Record) -> Number:
    return record.dead


def _gradient(record: Record) -> Number:
    return record.gradient_norm


def _update(record: Record) -> Number:
    return record.update_ratio


def _distance(record: Record) -> Number:
    return record.distance


# Title, axis, value, whether it is logarithmic, what is compared with, note.
_CHARTS: tuple[tuple[str, str, Callable[[Record], Number], bool, float | None, str], ...] = (
    ("Standard deviation of the outputs", "std", _std, True, None, ""),
    (
        "Dead channels",
        "share of the channels",
        _dead,
        False,
        None,
        "Zero in all samples and at all positions; layers that never had any are left out.",
    ),
    (
        "Norm of the gradients by the parameters",
        "norm",
        _gradient,
        True,
        None,
        "As the optimizer got them.",
    ),
    (
        "Updates, over the weights",
        "update ratio",
        _update,
        True,
        1e-3,
        "The norm of a step's update over that of the parameters; the dashed line is at the usual 0.001.",
    ),
    (
        "Distance from the start",
        "distance",
        _distance,
        False,
        None,
        "Over the norm of the initial parameters.",
    ),
)

# Heading, value, which of its values over the steps.
_COLUMNS: tuple[tuple[str, Callable[[Record], Number], Callable[[list[float]], float]], ...] = (
    ("std, first", _std, lambda values: values[0]),
    ("std, last", _std, lambda values: values[-1]),
    ("dead, first", _dead, lambda values: values[0]),
    ("dead, last", _dead, lambda values: values[-1]),
    ("gradient, first", _gradient, lambda values: values[0]),
    ("gradient, last", _gradient, lambda values: values[-1]),
    ("gradient, greatest", _gradient, max),
    ("update, median", _update, statistics.median),
    ("update, greatest", _update, max),
    ("distance, last", _distance, lambda values: values[-1]),
)


def _table(layers: Layers) -> Table:
    rows: list[list[str | Number]] = []
    for name, by_step in layers.items():
        records = [by_step[step] for step in sorted(by_step)]
        row: list[str | Number] = [_name(name), sum(record.calls for record in records)]
        for _, value, which in _COLUMNS:
            known = [each for each in map(value, records) if each is not None]
            row.append(which(known) if known else None)
        rows.append([*row, sum(map(_is_wild, records))])
    headings = (heading for heading, _, _ in _COLUMNS)
    return Table(["layer", "calls", *headings, "steps not finite"], rows)


def _is_wild(record: Record) -> bool:
    """Whether a value is NaN or infinite."""
    values = (value(record) for value in (_std, _gradient, _update, _distance))
    return any(each is not None and not math.isfinite(each) for each in values)
