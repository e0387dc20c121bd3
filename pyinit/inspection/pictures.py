"""What the pictures of an inspection show: values alone, which a page and matplotlib draw."""

import math
from collections.abc import Callable, Iterator, Sequence

from pyinit.inspection.histogram import Histogram
from pyinit.inspection.rows import NAN, LayerRow
from pyinit.reports.page import Chart, Number, Ridge, Ridges, Series, evenly

AS_IT_IS = "as it is"  # the name of no recipe
_RIDGES = 24  # histograms below each other, at most
_FAR = 30.0  # when the width of histograms differs by more, each gets a scale of its own

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
    return [*_charts(by_call, recipes), *_ridges(by_call, recipes)]


def _charts(by_call: Calls, recipes: Sequence[str]) -> Iterator[Chart]:
    for title, label, value, log, reference, note in _CHARTS:
        places = []
        lines: list[list[Number]] = []
        for place, under in enumerate(by_call.values(), 1):
            values = [value(under[recipe]) if recipe in under else None for recipe in recipes]
            if any(each is not None for each in values):
                places.append((place, next(iter(under.values())).label))
                lines.append(values)
        if places:
            yield Chart(
                title,
                x=[place for place, _ in places],
                series=[
                    Series(recipe or AS_IT_IS, [values[i] for values in lines])
                    for i, recipe in enumerate(recipes)
                ],
                x_label="call of a layer, in the order of execution",
                y_label=label,
                log=log,
                names=[name for _, name in places],
                reference=reference,
                note=note,
            )


def _known(value: float, nonfinite: int = 0) -> Number:
    """A value, NaN where values that are not finite have made it so, and None where there is none."""
    if nonfinite:
        return NAN
    return None if math.isnan(value) else value


def _std(row: LayerRow) -> Number:
    return _known(row.forward.std, row.forward.nonfinite)


def _gradient(row: LayerRow) -> Number:
    return None if row.backward is None else _known(row.backward.std, row.backward.nonfinite)


def _cosine(row: LayerRow) -> Number:
    return _known(row.forward.mean_cosine)


def _jacobian(row: LayerRow) -> Number:
    return None if row.backward is None else _known(row.backward.jacobian)


def _update(row: LayerRow) -> Number:
    return None if row.weight is None else _known(row.weight.update_ratio)


# Title, axis, value, whether it is logarithmic, what is compared with, note.
_CHARTS: tuple[
    tuple[str, str, Callable[[LayerRow], Number], bool, float | None, str],
    ...,
] = (
    ("Standard deviation of the outputs", "std", _std, True, None, ""),
    (
        "Standard deviation of the gradients by the outputs",
        "std of the gradient",
        _gradient,
        True,
        None,
        "",
    ),
    (
        "Correlation between samples",
        "mean cosine",
        _cosine,
        False,
        None,
        "The mean cosine of the angle between two samples: near 1, they are no longer told apart.",
    ),
    (
        "Norm of the Jacobians",
        "squared norm, from layer to layer",
        _jacobian,
        True,
        1.0,
        "At the dashed line, 1, gradients keep their size.",
    ),
    (
        "Updates of training, over the weights",
        "update ratio",
        _update,
        True,
        1e-3,
        "The norm of a step's update over that of the weight; the dashed line is at the usual 0.001.",
    ),
)


def _ridges(by_call: Calls, recipes: Sequence[str]) -> Iterator[Ridges]:
    """The histograms of the same layers under each recipe."""
    shown = {
        key: under
        for key, under in by_call.items()
        if all(recipe in under and under[recipe].forward.histogram for recipe in recipes)
    }
    chosen = [list(shown.values())[i] for i in evenly(len(shown), _RIDGES)]
    notes = ["Of at most 8192 values of each output; the highest bars are made equally high."]
    if len(chosen) < len(by_call):
        notes.append(f"{len(chosen)} of {len(by_call)} calls of layers, evenly by depth.")
    for recipe in recipes if chosen else ():
        rows = [under[recipe] for under in chosen]
        ridges, label = _on_one_scale(rows)
        under = f": {recipe or AS_IT_IS}" if len(recipes) > 1 else ""
        yield Ridges(f"Outputs of the layers{under}", ridges, label, " ".join(notes))


def _on_one_scale(rows: Sequence[LayerRow]) -> tuple[list[Ridge], str]:
    """The histograms, and what their axis is: if one would hide another, multiples of each one's std."""
    found = [(row.label, row.forward.histogram) for row in rows]
    kept = [(label, each) for label, each in found if each is not None]
    widths = [_reach(each) for _, each in kept]
    positive = [width for width in widths if width > 0]
    is_far = bool(positive) and max(positive) > _FAR * min(positive)
    units = widths if is_far else [1.0] * len(kept)
    ridges = [
        Ridge(label, each.low / (unit or 1.0), each.high / (unit or 1.0), each.counts)
        for (label, each), unit in zip(kept, units, strict=True)
    ]
    return ridges, "output, over its greatest size in the layer" if is_far else "output"


def _reach(histogram: Histogram) -> float:
    return max(abs(histogram.low), abs(histogram.high))
