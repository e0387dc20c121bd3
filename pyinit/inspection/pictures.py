"""What the pictures of an inspection show: values alone, which a page and matplotlib draw."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pyinit.inspection.histogram import Histogram
from pyinit.inspection.rows import NAN, LayerRow
from pyinit.reports.page import Chart, Number, Ridge, Ridges, Series, evenly

AS_IT_IS = "as it is"  # the name of no recipe
_PLACES = 500  # of a line, at most
_RIDGES = 24  # histograms below each other, at most
_FAR = 30.0  # when the width of histograms differs by more, each gets a scale of its own
_NARROW = 150  # bins that are narrower than this part of an axis are joined

Key = tuple[str, int]
Calls = dict[Key, dict[str, LayerRow]]


def calls(rows: Sequence[LayerRow]) -> Calls:
    """The rows of each call of a layer by their recipe, in the order of execution."""
    found: Calls = {}
    for row in rows:
        found.setdefault((row.name, row.call), {})[row.recipe] = row
    return found


def pictures(rows: Sequence[LayerRow], recipes: Sequence[str]) -> list[Chart | Ridges]:
    """The pictures for which there is something to show.

    Args:
        rows: the rows of an inspection
        recipes: its recipes, of which each has a line
    """
    by_call = calls(rows)
    weighted = {key: under for key, under in by_call.items() if _has_matrix(under)}
    # Between a layer and its activation lines would go up and down.
    if len(weighted) > 1:
        shown, what = weighted, "layer with a weight matrix"
    else:
        shown, what = by_call, "call of a layer"
    return [*_charts(shown, recipes, what), *_ridges(shown, recipes, what)]


def _has_matrix(under: Mapping[str, LayerRow]) -> bool:
    row = next(iter(under.values()))
    return row.kind not in _BESIDE and row.weight is not None and len(row.weight.shape) > 1


_BESIDE = ("embedding", "norm", "activation", "composite")  # kinds that are no steps of depth


class _Picture(NamedTuple):
    """What a chart shows of each row.

    value: the number; None where there is none
    expected: what theory expects it to be
    reference: what it is compared with, everywhere
    """

    title: str
    label: str
    value: Callable[[LayerRow], Number]
    log: bool = True
    expected: Callable[[LayerRow], Number] | None = None
    reference: float | None = None
    note: str = ""


def _charts(by_call: Calls, recipes: Sequence[str], what: str) -> Iterator[Chart]:
    for picture in _PICTURES:
        lines = [(recipe or AS_IT_IS, recipe, picture.value) for recipe in recipes]
        if picture.expected is not None:
            lines += [(f"{name}, theory", recipe, picture.expected) for name, recipe, _ in lines]
        found: list[tuple[int, str, list[Number]]] = []
        for place, under in enumerate(by_call.values(), 1):
            values = [take(under[recipe]) if recipe in under else None for _, recipe, take in lines]
            if any(each is not None for each in values):
                found.append((place, next(iter(under.values())).label, values))
        if not found:
            continue
        shown = [found[i] for i in evenly(len(found), _PLACES)]
        thin = f" {len(shown):,} of {len(found):,}, evenly." if len(shown) < len(found) else ""
        series = [
            Series(
                name,
                [values[i] for _, _, values in shown],
                "line" if take is picture.value else "dashes",
                hue=i % len(recipes),
            )
            for i, (name, _, take) in enumerate(lines)
        ]
        yield Chart(
            picture.title,
            x=[place for place, _, _ in shown],
            series=[
                each
                for each in series
                if each.marks == "line" or any(value is not None for value in each.y)
            ],
            x_label=f"{what}, in the order of execution",
            y_label=picture.label,
            log=picture.log,
            names=[name for _, name, _ in shown],
            reference=picture.reference,
            note=(picture.note + thin).strip(),
        )


def _known(value: float, nonfinite: int = 0) -> Number:
    """A value, NaN where values that are not finite have made it so, and None where there is none."""
    if nonfinite:
        return NAN
    return None if math.isnan(value) else value


def _std(row: LayerRow) -> Number:
    return _known(row.forward.std, row.forward.nonfinite)


def _std_over_samples(row: LayerRow) -> Number:
    variance = _known(row.forward.variance, row.forward.nonfinite)
    return variance if variance is None or not variance >= 0 else math.sqrt(variance)


def _gradient(row: LayerRow) -> Number:
    return None if row.backward is None else _known(row.backward.std, row.backward.nonfinite)


def _jacobian(row: LayerRow) -> Number:
    return None if row.backward is None else _known(row.backward.jacobian)


def _update(row: LayerRow) -> Number:
    return None if row.weight is None else _known(row.weight.update_ratio)


_PICTURES = (
    _Picture(
        "Standard deviation of the outputs",
        "std",
        _std,
        expected=lambda row: _known(row.forward.expected_std),
        note="Of all values of an output.",
    ),
    _Picture(
        "Standard deviation over the samples",
        "std over samples",
        _std_over_samples,
        note="Of a unit, on average: what is left of the difference between samples.",
    ),
    _Picture(
        "Standard deviation of the gradients by the outputs", "std of the gradient", _gradient
    ),
    _Picture(
        "Correlation between samples",
        "mean cosine",
        lambda row: _known(row.forward.mean_cosine),
        log=False,
        expected=lambda row: _known(row.forward.expected_cosine),
        note="The mean cosine of the angle between two samples: near 1, they are no longer told apart.",
    ),
    _Picture(
        "Norm of the Jacobians",
        "squared norm",
        _jacobian,
        reference=1.0,
        note="Squared, from layer to layer; at the dashed line, 1, gradients keep their size.",
    ),
    _Picture(
        "Updates of training, over the weights",
        "update ratio",
        _update,
        reference=1e-3,
        note="The norm of a step's update over that of the weight; the dashed line is at the usual 0.001.",
    ),
)


def _ridges(by_call: Calls, recipes: Sequence[str], what: str) -> Iterator[Ridges]:
    """The histograms of the same layers under each recipe."""
    shown = [
        under
        for under in by_call.values()
        if any(row.forward.histogram is not None for row in under.values())
    ]
    chosen = [shown[i] for i in evenly(len(shown), _RIDGES)]
    notes = ["A sample of 8192 values of each, or all; the highest bars are equally high."]
    if len(chosen) < len(by_call):
        notes.append(f"{len(chosen)} of {len(by_call)}, evenly.")
    for recipe in recipes:
        kept = [
            (row.label, row.forward.histogram)
            for row in (under.get(recipe) for under in chosen)
            if row is not None
        ]
        ridges, label = _on_one_scale([(name, each) for name, each in kept if each is not None])
        if ridges:
            named = f": {recipe or AS_IT_IS}" if len(recipes) > 1 else ""
            yield Ridges(f"Outputs of each {what}{named}", ridges, label, " ".join(notes))


def _on_one_scale(kept: Sequence[tuple[str, Histogram]]) -> tuple[list[Ridge], str]:
    """The histograms, and what their axis is: if one would hide another, each one has its own unit."""
    if not kept:
        return [], ""
    sizes = [max(abs(each.low), abs(each.high)) for _, each in kept]
    positive = [size for size in sizes if size > 0]
    is_far = bool(positive) and max(positive) / min(positive) > _FAR
    units = [size if is_far and size > 0 else 1.0 for size in sizes]
    scaled = [
        (label, Histogram(each.low / unit, each.high / unit, each.counts))
        for (label, each), unit in zip(kept, units, strict=True)
    ]
    axis = max(each.high for _, each in scaled) - min(each.low for _, each in scaled)
    ridges = [Ridge(label, *_joined(each, axis / _NARROW)) for label, each in scaled]
    return ridges, "output, in units of the layer's greatest" if is_far else "output"


def _joined(histogram: Histogram, least: float) -> Histogram:
    """The histogram with bins of at least this width, as far as it has more than one."""
    low, high, counts = histogram
    number = len(counts)
    width = (high - low) / number
    sizes = (size for size in range(1, number + 1) if number % size == 0)
    size = next((each for each in sizes if each * width >= least), number)
    return Histogram(
        low, high, tuple(sum(counts[first : first + size]) for first in range(0, number, size))
    )
