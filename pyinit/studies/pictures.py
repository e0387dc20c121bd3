"""What the pictures of a study show: values alone, which a page and matplotlib draw."""

import math
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from inspect import getdoc
from statistics import fmean, median
from typing import Any, NamedTuple

from pyinit.reports.page import Chart, Heat, Number, Picture, Series, evenly
from pyinit.studies.comparisons import Group, combinations_of, named
from pyinit.studies.curves import band
from pyinit.studies.definition import Definition, argument_of, is_plain_number
from pyinit.studies.evidence import measure_of, runs_of
from pyinit.studies.metrics import metric
from pyinit.studies.records import DIVERGED, FAILED, FINISHED, Record
from pyinit.studies.references import resolve
from pyinit.studies.samples import Measure, is_number
from pyinit.studies.statistics import Estimate, estimate

_CURVES = 4  # combinations of factors that have learning curves, at most
_LAYERED = 2  # and pictures by depth
_WINDOWS = 60  # points of a curve over steps, at most
_PLACES = 300  # layers of a picture, at most
_STEPS = 10  # recorded steps of a picture, at most
_TRACKED = 4  # steps at which gradients are shown by depth, at most
_HEATS = 6  # heat maps, at most
_FINE = 4  # points of a line from column to column
_METRICS = 4  # of which the values in the end have a picture, at most
_BEYOND = 10.0  # times the greatest value of runs that finished: a curve is not followed further
_WIDE = 30.0  # as far apart, losses need a logarithmic axis
_RANGE = "Median of the seeds; the band is from the least to the greatest."


class Pictures(NamedTuple):
    """Pictures under a heading.

    title: the heading, one of ``TITLES``
    text: what the reader must know of all of them
    pictures: the pictures
    """

    title: str
    text: str
    pictures: Sequence[Picture]

    @property
    def noted(self) -> Sequence[Picture]:
        """The pictures for where there is no text: the first one bears it."""
        first, *others = self.pictures
        return [replace(first, note=f"{first.note} {self.text}".strip()), *others]


_Drawn = tuple[str, Sequence[Picture]]  # the text and the pictures


@dataclass(frozen=True)
class _Runs:
    """The runs that are shown: those of one learning rate an arm that did not fail; and their statistics."""

    study: Definition
    groups: Sequence[Group]
    arms: Sequence[str]
    records: Sequence[Record]

    def of(self, arm: str) -> list[Record]:
        return [each for each in self.records if each.arm == arm]

    def where(self, factors: Mapping[str, Any]) -> "_Runs":
        return replace(self, records=[each for each in self.records if each.factors == factors])

    def few(self, most: int) -> "tuple[list[tuple[str, _Runs]], str]":
        """The runs of at most so many combinations of factors, and a sentence on the others."""
        all_of = combinations_of(self.records)
        shown = [all_of[i] for i in evenly(len(all_of), most)]
        told = ""
        if len(shown) < len(all_of):
            told = (
                f"Shown are {len(shown)} of {len(all_of)} combinations of factors, evenly chosen."
            )
        return [(named(factors), self.where(factors)) for factors in shown], told


def pictures_of(
    study: Definition, records: Sequence[Record], groups: Sequence[Group]
) -> list[Pictures]:
    """All pictures for which there is something to show, under their headings.

    Args:
        study: the study
        records: those that are compared, with one learning rate for each arm and combination of factors
        groups: their statistics
    """
    kept = [each for each in records if each.status != FAILED]
    arms = [arm for arm in study.arms if any(each.arm == arm for each in kept)]
    runs = _Runs(study, groups, arms, kept)
    made = (Pictures(title, *draw(runs)) for title, draw in _DRAWN.items())
    return [each for each in made if each.pictures]


def _hue(runs: _Runs, arm: str) -> int:
    return runs.arms.index(arm)


# ---- values in the end ---------------------------------------------------------------------------


def _in_the_end(runs: _Runs) -> _Drawn:
    study, groups = runs.study, runs.groups
    names = list(groups[0].comparisons)[:_METRICS] if groups else []
    names = names[: len(names) // 2 * 2 or 1]  # they stand in two columns
    lone = [name for name, values in study.factors.items() if len(values) > 1]
    if not lone:
        pictures = [_by_arm(groups[0], name) for name in names]
    elif len(lone) == 1:
        pictures = [_by_factor(runs, groups, name, lone[0]) for name in names]
    else:
        pictures = []
    return (
        "Means over the seeds, with their 95% intervals by t.",
        [each for each in pictures if any(is_shown(one.y) for one in each.series)],
    )


def is_shown(values: Iterable[Number]) -> bool:
    """Whether there is anything to draw."""
    return any(value is not None for value in values)


def _by_arm(group: Group, name: str) -> Chart:
    found = group.comparisons[name].estimates
    series = [Series("mean", *_middle_and_ends(found, "points"))]
    for label, end in (("least seed", min), ("greatest seed", max)):
        ends = [end(each.values) if len(each.values) > 1 else None for each in found]
        series.append(Series(label, ends, "dashes", hue=7))
    return Chart(
        _title(name),
        [*range(len(found))],
        [each for each in series if is_shown(each.y)],
        y_label=name,
        names=[each.arm for each in found],
        log=_is_wide([value for each in found for value in each.values]),
    )


def _middle_and_ends(found: Sequence[Estimate], marks: Any) -> tuple[Any, ...]:
    y = [_middle(each) for each in found]
    return (y, marks, None, 0, [each.low for each in found], [each.high for each in found])


def _middle(found: Estimate) -> float | None:
    """The mean; the median, if a seed counts as worse than any number."""
    if not found.values:
        return None
    return found.mean if math.isfinite(found.mean) else found.median


def _title(name: str) -> str:
    text = metric(name).text
    return text[0].upper() + text[1:]


def _by_factor(runs: _Runs, groups: Sequence[Group], name: str, factor: str) -> Chart:
    values = [group.factors[factor] for group in groups]
    numeric = all(map(is_plain_number, values))
    series = []
    for arm in runs.arms:
        by_group = [
            next((e for e in group.comparisons[name].estimates if e.arm == arm), None)
            for group in groups
        ]
        series.append(
            Series(
                arm,
                [None if each is None else _middle(each) for each in by_group],
                hue=_hue(runs, arm),
                low=[None if each is None else each.low for each in by_group],
                high=[None if each is None else each.high for each in by_group],
            )
        )
    order = sorted(range(len(values)), key=values.__getitem__) if numeric else range(len(values))
    # Learning rates such as 0.001, 0.01 and 0.1 stand at equal distances.
    is_named = not numeric or (min(values) > 0 and _is_wide([float(each) for each in values]))
    return Chart(
        f"{_title(name)}, by {factor}",
        [float(place) if is_named else float(values[i]) for place, i in enumerate(order)],
        [
            each._replace(
                y=[each.y[i] for i in order],
                low=[each.low[i] for i in order],
                high=[each.high[i] for i in order],
            )
            for each in series
        ],
        x_label=factor,
        y_label=name,
        names=[str(values[i]) for i in order] if is_named else (),
        log=_is_wide([y for each in series for y in each.y]),
    )


# ---- heat maps -----------------------------------------------------------------------------------


def _grids(runs: _Runs) -> _Drawn:
    study, groups = runs.study, runs.groups
    varied = {name: values for name, values in study.factors.items() if len(values) > 1}
    if not (groups and varied):
        return "", []
    name = next(iter(groups[0].comparisons))
    label, measure = _title(name), measure_of(name)
    if len(varied) == 1:
        ((factor, values),) = varied.items()
        if len(runs.arms) < 2:
            return "", []
        rows = [
            [_mean(runs, name, measure, arm, {factor: value}) for value in values]
            for arm in runs.arms
        ]
        maps: list[Picture] = [Heat(label, runs.arms, [*map(str, values)], rows, "", factor, name)]
        return "Means over the seeds.", maps
    first, second, theory = _axes(study, varied)
    if theory:
        varied[first] = tuple(sorted(varied[first]))
    line, told = _line(theory, varied[first], second, varied[second])
    others = [each for each in varied if each not in (first, second)]
    shown = [runs.arms[i] for i in evenly(len(runs.arms), _HEATS)]
    tables = [
        [
            [_mean(runs, name, measure, arm, {first: a, second: b}) for b in varied[second]]
            for a in varied[first]
        ]
        for arm in shown
    ]
    numbers = [v for table in tables for row in table for v in row if v is not None]
    finite = [each for each in numbers if math.isfinite(each)]
    span = (min(finite), max(finite)) if finite else None
    text = "Means over the seeds"
    text += f" and the values of {' and '.join(others)}." if others else "."
    text += told
    if len(shown) < len(runs.arms):
        text += f" Shown are {len(shown)} of {len(runs.arms)} arms, evenly chosen."
    return (
        text,
        [
            Heat(
                f"{label}: {arm}",
                [*map(str, varied[first])],
                [*map(str, varied[second])],
                table,
                first,
                second,
                name,
                span,
                line,
            )
            for arm, table in zip(shown, tables, strict=True)
        ],
    )


def _axes(
    study: Definition, varied: Mapping[str, Any]
) -> tuple[str, str, Callable[..., float] | None]:
    """Which factors are the rows and the columns, and the theory that gives the one from the other: the factors
    that have most values, if there is no theory of two that vary."""
    for name, function in study.theory.items():
        argument = argument_of(function, [each for each in study.factors if each != name])
        if name in varied and argument in varied:
            return name, argument, resolve(function)
    most = sorted(varied, key=lambda each: len(varied[each]))[-2:]
    first, second = (each for each in varied if each in most)
    return first, second, None


@cache  # a theory may take seconds, and pictures are made several times
def _line(
    theory: Callable[..., float] | None,
    rows: tuple[Any, ...],
    argument: str,
    columns: tuple[Any, ...],
) -> tuple[list[tuple[float, float]], str]:
    """The theory as a line over a heat map, which is straight between the middles of fields, and what it is."""
    if theory is None:
        return [], ""
    points = []
    for i in range(_FINE * (len(columns) - 1) + 1):
        place = i / _FINE
        before = min(int(place), len(columns) - 2)
        low, high = columns[before : before + 2]
        value = low + (place - before) * (high - low)
        points.append((place + 0.5, _height(theory(**{argument: value}), rows)))
    what = (getdoc(theory) or theory.__name__).partition("\n")[0].rstrip(".")
    return points, f" The line is theory's: {what[0].lower()}{what[1:]}."


def _height(value: float, rows: Sequence[float]) -> float:
    """Where a number lies among those of rows, whose middles are 0.5, 1.5, ...; or else at the edge."""
    after = min(max(bisect(rows, value), 1), len(rows) - 1)
    low, high = rows[after - 1 : after + 1]
    return min(max(after - 0.5 + (value - low) / (high - low), 0.0), float(len(rows)))


def _mean(
    runs: _Runs, name: str, measure: Measure, arm: str, where: Mapping[str, Any]
) -> float | None:
    found = runs_of(runs.of(arm), name, where).get(arm, {})
    return _middle(estimate(arm, found, measure)) if found else None


# ---- learning curves -----------------------------------------------------------------------------


def _learning(runs: _Runs) -> _Drawn:
    shown, told = runs.few(_CURVES)
    last = max((row["step"] for each in runs.records for row in each.steps), default=0)
    width = math.ceil((last + 1) / _WINDOWS)
    smooth = f" Training losses are means over {width} steps." if width > 1 else ""
    pictures = []
    for title, of_record, name in (
        ("Training loss", lambda record: _windows(record, width), "train_loss"),
        ("Loss on test data", _by_epoch("test_loss"), "test_loss"),
        ("Accuracy on test data", _by_epoch("accuracy"), "accuracy"),
    ):
        pictures += list(_curves(shown, title, of_record, measure_of(name)))
    text = (
        "Means over the seeds, with bands from the least to the greatest; medians where a run "
        f"diverged. Losses more than {_BEYOND:g} times the greatest of runs that finished are "
        "drawn as infinite."
        if any(each.status == DIVERGED for each in runs.records)
        else "Means over the seeds, with bands from the least to the greatest."
    )
    return f"{text}{smooth} {told}".rstrip(), pictures


def _windows(record: Record, width: int) -> dict[float, float | None]:
    """The training loss as a mean over windows of steps, by their middles."""
    found: dict[int, list[float | None]] = {}
    for row in record.steps:
        found.setdefault(row["step"] // width, []).append(row["loss"])
    return {window * width + (width - 1) / 2: _mean_of(values) for window, values in found.items()}


def _mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return fmean(known) if len(known) == len(values) else None


def _by_epoch(key: str) -> Callable[[Record], dict[float, float | None]]:
    return lambda record: {row["step"]: row[key] for row in record.epochs}


def _curves(
    shown: Sequence[tuple[str, _Runs]],
    title: str,
    of_record: Callable[[Record], dict[float, float | None]],
    measure: Measure,
) -> Iterator[Chart]:
    for where, runs in shown:
        whole = [v for r in runs.records if r.status == FINISHED for v in of_record(r).values()]
        limit = _BEYOND * max(
            (v for v in whole if v is not None and is_number(v)), default=math.inf
        )
        curves = {
            arm: {r.seed: _within(of_record(r), limit) for r in runs.of(arm)} for arm in runs.arms
        }
        diverged = {(r.arm, r.seed) for r in runs.records if r.status == DIVERGED}
        steps = sorted({s for by_seed in curves.values() for c in by_seed.values() for s in c})
        values = [v for c in curves.values() for each in c.values() for v in each.values()]
        if not any(is_number(value) for value in values):
            continue
        series = []
        for arm, by_seed in curves.items():
            ended: dict[int, Any] = {
                seed: {**dict.fromkeys(steps), **curve} if (arm, seed) in diverged else curve
                for seed, curve in by_seed.items()
            }
            found = band(arm, ended, measure)
            at = [found.get(step) for step in steps]  # type: ignore[call-overload]
            series.append(
                Series(
                    arm,
                    [None if each is None else _middle(each) for each in at],
                    hue=_hue(runs, arm),
                    low=[_end(each, min) for each in at],
                    high=[_end(each, max) for each in at],
                )
            )
        yield Chart(
            f"{title}: {where}" if where else title,
            steps,
            series,
            x_label="steps",
            y_label=measure.name,
            log=measure.name != "accuracy" and _is_wide(values),
        )


def _within(curve: Mapping[float, float | None], limit: float) -> dict[float, float | None]:
    return {
        step: v if v is not None and is_number(v) and v <= limit else None
        for step, v in curve.items()
    }


def _end(found: Estimate | None, of: Callable[[Sequence[float]], float]) -> float | None:
    """The least or greatest of several seeds' values."""
    values = [] if found is None else [each for each in found.values if math.isfinite(each)]
    return of(values) if len(values) > 1 else None


def _is_wide(values: Iterable[Number]) -> bool:
    known = [each for each in values if each is not None and math.isfinite(each)]
    return bool(known) and min(known) > 0 and max(known) > _WIDE * min(known)


# ---- by depth ------------------------------------------------------------------------------------


def _steps_of(runs: _Runs) -> list[int]:
    return sorted({row["step"] for each in runs.records for row in each.layers})


def _variances(runs: _Runs) -> _Drawn:
    shown, told = runs.few(_LAYERED)
    pictures: list[Picture] = []
    for where, of in shown:
        steps = _steps_of(of)
        for step, when in dict(
            zip(steps[:1] + steps[-1:], ("at the start", ""), strict=False)
        ).items():
            title = f"Variance {when or f'at step {step}, the last'}"
            pictures += _by_depth(of, "variance", step, _with(title, where), "variance", log=True)
    return f"{_RANGE} {told}".rstrip(), pictures


def _gradients(runs: _Runs) -> _Drawn:
    shown, told = runs.few(_LAYERED)
    pictures: list[Picture] = []
    for where, of in shown:
        steps = _steps_of(of)
        for step in [steps[i] for i in evenly(len(steps), _TRACKED)]:
            title = _with(f"Gradient norm at step {step}", where)
            pictures += _by_depth(of, "gradient_norm", step, title, "gradient norm", log=True)
    return f"{_RANGE} {told}".rstrip(), pictures


def _with(title: str, where: str) -> str:
    return f"{title}: {where}" if where else title


def _by_depth(
    runs: _Runs, key: str, step: int, title: str, label: str, *, log: bool
) -> Iterator[Chart]:
    rows = {
        arm: [
            {row["name"]: row for row in each.layers if row["step"] == step}
            for each in runs.of(arm)
        ]
        for arm in runs.arms
    }
    places: dict[str, int] = {}
    for layers in (each for by_seed in rows.values() for each in by_seed):
        for name, row in layers.items():
            if row.get(key) is not None and row.get("gradient_norm") is not None:
                places.setdefault(name, row["place"])
    ordered = sorted(places, key=places.__getitem__)
    names = [ordered[i] for i in evenly(len(ordered), _PLACES)]
    series = [
        _spread(arm, [[each.get(name, {}).get(key) for each in rows[arm]] for name in names])
        for arm in runs.arms
    ]
    if len(names) < 2 or not any(is_shown(each.y) for each in series):
        return
    yield Chart(
        title,
        [float(ordered.index(name) + 1) for name in names],
        [each._replace(hue=_hue(runs, each.name)) for each in series],
        x_label="layer with weights, in the order of execution",
        y_label=label,
        log=log,
        names=() if all(map(str.isdigit, names)) else names,  # places in a Sequential say no more
    )


def _spread(name: str, at: Sequence[Sequence[float | None]]) -> Series:
    """Medians, least and greatest numbers at each place."""
    known = [[v for v in values if v is not None and math.isfinite(v)] for values in at]
    y, low, high = ([of(v) if v else None for v in known] for of in (median, min, max))
    return Series(name, y, low=low, high=high)


# ---- over steps ----------------------------------------------------------------------------------


def _over_steps(runs: _Runs) -> _Drawn:
    return _means_of_layers(
        runs,
        "Of each layer, the norm of an update over that of the weights. Medians over the layers.",
        (("update_ratio", "Size of updates over that of weights", median, True),),
    )


def _inactive(runs: _Runs) -> _Drawn:
    text, pictures = _means_of_layers(
        runs,
        "A channel is dead if it is zero for the whole batch; a value is saturated if the activation's slope "
        "nearly vanishes there. Means over the layers.",
        (
            ("dead", "Share of dead channels", fmean, False),
            ("saturated", "Share of saturated values", fmean, False),
        ),
    )
    return text, [p for p in pictures if isinstance(p, Chart) and any(any(s.y) for s in p.series)]


def _means_of_layers(
    runs: _Runs,
    text: str,
    rows: Sequence[tuple[str, str, Callable[[Sequence[float]], float], bool]],
) -> _Drawn:
    shown, told = runs.few(_LAYERED)
    pictures: list[Picture] = []
    for key, title, of_layers, log in rows:
        for where, of in shown:
            steps = _steps_of(of)
            steps = [steps[i] for i in evenly(len(steps), _STEPS)]
            series = [
                _spread(
                    arm,
                    [
                        [_of_layers(each, key, step, of_layers) for each in of.of(arm)]
                        for step in steps
                    ],
                )._replace(hue=_hue(of, arm))
                for arm in of.arms
            ]
            if any(is_shown(each.y) for each in series):
                pictures.append(
                    Chart(
                        _with(title, where),
                        [*range(len(steps))],
                        series,
                        x_label="step",
                        y_label=key.replace("_", " "),
                        log=log,
                        names=[f"{step:,}" for step in steps],
                    )
                )
    return f"{text} {_RANGE} {told}".rstrip(), pictures


def _of_layers(
    record: Record, key: str, step: int, of: Callable[[Sequence[float]], float]
) -> float | None:
    values = [row.get(key) for row in record.layers if row["step"] == step]
    known = [value for value in values if value is not None and math.isfinite(value)]
    return of(known) if known else None


# By their headings, in this order.
_DRAWN: Mapping[str, Callable[[_Runs], _Drawn]] = {
    "Values in the end": _in_the_end,
    "Grid": _grids,
    "Learning curves": _learning,
    "Variance of activations by depth": _variances,
    "Gradients by depth": _gradients,
    "Updates": _over_steps,
    "Dead and saturated units": _inactive,
}
TITLES = tuple(_DRAWN)
