"""Pictures by matplotlib: the same values that a page draws, in the page's colours."""

import math
import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from pyinit._messages import needed
from pyinit.reports.page import Chart, Heat, Number, Picture, Ridges, Series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH = 7.0  # of a picture, in inches, as all sizes here
_CHART, _RIDGE, _AROUND_RIDGES = 3.2, 0.2, 1.4  # heights
_FIELD, _AROUND_HEAT = 0.35, 1.2  # heights
_COLUMNS = 2
_NAMED = 32  # places that are told by name
_LETTERS = 24  # of a name, at most
_LINE = 80  # letters of a line below a title
_MARKED_LINE, _FEW_MARKS = 60, 12  # a longer line has so many marks
_DARK = 0.7  # the level of a field from which on its number is white
_OVERLAP = 1.9  # the height of a histogram over the distance to the next
_MARKERS = "os^D"
_DASHES: Sequence[Any] = ("-", (0, (7, 3)), (0, (2, 3)))


def figure(pictures: Sequence[Picture]) -> "Figure":
    """Draw pictures as one figure, charts from top to bottom and histograms below them.

    Args:
        pictures: What to draw.

    Returns:
        A figure of matplotlib's that pyplot does not know of.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    library = needed("matplotlib.figure", "plot", "matplotlib", '"pyinit[plot]"')

    rows = _rows(pictures)
    heights = [max(map(_height, row)) for row in rows] or [1.0]
    columns = max([1, *map(len, rows)])
    drawn: Any = library.Figure(figsize=(_WIDTH * columns, sum(heights)), layout="constrained")
    drawn._repr_png_ = partial(_png, drawn)  # pyplot would teach this to notebooks
    if not rows:
        drawn.text(0.5, 0.5, "There is nothing to show.", ha="center", va="center")
    grid = drawn.add_gridspec(max(1, len(rows)), columns, height_ratios=heights)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            axes = drawn.add_subplot(grid[i, j])
            _write_title(axes, picture)
            axes.set_xlabel(picture.column_label if isinstance(picture, Heat) else picture.x_label)
            axes.spines[["top", "right"]].set_visible(False)
            _DRAWN[type(picture)](axes, picture)
    result: Figure = drawn
    return result


def _rows(pictures: Sequence[Picture]) -> list[list[Picture]]:
    """Pictures side by side: those of different kinds are not mixed."""
    kinds = [[each for each in pictures if isinstance(each, kind)] for kind in _DRAWN]
    columns = max(1, min(_COLUMNS, max(len(kind) for kind in kinds)))
    return [
        list(kind[first : first + columns])
        for kind in kinds
        for first in range(0, len(kind), columns)
    ]


def _height(picture: Picture) -> float:
    if isinstance(picture, Chart):
        return _CHART
    if isinstance(picture, Heat):
        return _AROUND_HEAT + _FIELD * len(picture.rows)
    return _AROUND_RIDGES + _RIDGE * len(picture.ridges)


def _write_title(axes: Any, picture: Picture) -> None:
    note = wrap(picture.note, _LINE)
    axes.set_title(picture.title, loc="left", weight="bold", pad=6 + 12 * len(note))
    axes.annotate(
        "\n".join(note),
        (0, 1),
        (0, 5),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize="small",
        color="0.35",
        va="bottom",
    )


def _png(drawn: "Figure") -> bytes:
    file = BytesIO()
    drawn.savefig(file, format="png")
    return file.getvalue()


@cache
def _palette(letter: str) -> Sequence[str]:
    """The colours of series (``"s"``) or of a scale (``"d"``) from the page's style sheet."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return re.findall(rf"--{letter}\d: (#\w+);", style)[:8]


def _colour(series: Series, number: int) -> str:
    if series.scale is None:
        return _palette("s")[(number if series.hue is None else series.hue) % 8]
    return _palette("d")[round(series.scale * 7)]


def _draw_chart(axes: Any, chart: Chart) -> None:
    def fits(value: Number) -> bool:
        return value is not None and math.isfinite(value) and not (chart.log and value <= 0)

    if chart.log:
        axes.set_yscale("log", nonpositive="mask")
        axes.set_autoscaley_on(False)  # limits are set below
    axes.set_ylabel(chart.y_label)
    axes.grid(axis="y", alpha=0.3)
    labels = _short([series.name for series in chart.series])
    for number, series in enumerate(chart.series):
        y = [value if fits(value) else math.nan for value in series.y]
        style = _style(chart, number, series)
        axes.plot(chart.x, y, label=labels[number], **style)
        _draw_intervals(axes, chart, series, style["color"])
        _draw_edges(axes, chart, series, style["color"])
    values = [
        value
        for series in chart.series
        for value in (*series.y, *series.low, *series.high)
        if fits(value)
    ]
    compared = [chart.reference] if chart.reference is not None and values else []
    if chart.log and values:
        _set_log_limits(axes, [math.log10(value) for value in (*values, *compared) if value])
    for value in compared:
        axes.axhline(value, color="0.3", linewidth=1, linestyle=(0, (6, 4)), zorder=1)
    if chart.names and len(chart.names) <= _NAMED:
        axes.set_xticks(chart.x, _short(chart.names), rotation=38, ha="right", fontsize="small")
        axes.set_xlabel("")
    if len(chart.series) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 0.97), frameon=False, fontsize="small")


def _draw_intervals(axes: Any, chart: Chart, series: Series, colour: str) -> None:
    """Bands of a line, and bars at points. What a logarithmic axis cannot show goes to its edge."""
    least = math.ulp(0.0) if chart.log else -math.inf
    spans = [
        (x, max(low, least), high)
        for x, low, high in zip(chart.x, series.low, series.high, strict=bool(series.low))
        if low is not None and high is not None and least < high < math.inf
    ]
    if series.marks == "line" and spans:
        inside = {x: (low, high) for x, low, high in spans}
        ends = [inside.get(x, (math.nan, math.nan)) for x in chart.x]
        lows, highs = zip(*ends, strict=True)
        axes.fill_between(chart.x, lows, highs, color=colour, alpha=0.16, linewidth=0)
        return
    for x, low, high in spans:
        axes.plot([x, x], [low, high], color=colour, marker="_", markersize=7, linewidth=1.2)


def _draw_heat(axes: Any, picture: Heat) -> None:
    levels = [[math.nan if each is None else each for each in row] for row in picture.levels]
    colours = needed("matplotlib.colors", "plot", "matplotlib", '"pyinit[plot]"')
    shades = colours.LinearSegmentedColormap.from_list("pyinit", ["#f6f7f9", _palette("s")[0]])
    axes.pcolormesh(levels, cmap=shades, vmin=0, vmax=1, edgecolors="white", linewidth=1)
    for i, row in enumerate(picture.values):
        for j, value in enumerate(row):
            if value is not None:
                told = f"{value:.3g}" if math.isfinite(value) else "\u221e"
                ink = "white" if levels[i][j] > _DARK else "black"
                around = {"facecolor": shades(levels[i][j]), "edgecolor": "none", "pad": 1}
                axes.text(
                    j + 0.5,
                    i + 0.5,
                    told,
                    ha="center",
                    va="center",
                    color=ink,
                    fontsize="small",
                    bbox=around if picture.line else None,  # the line ends at the number
                )
    if picture.line:
        x, y = zip(*picture.line, strict=True)
        for colour, width in (("white", 4.5), (_palette("s")[1], 2.2)):
            axes.plot(x, y, color=colour, linewidth=width, solid_joinstyle="round")
    axes.set(xlim=(0, len(picture.columns)), ylim=(len(picture.rows), 0))
    axes.set_yticks([i + 0.5 for i in range(len(picture.rows))], map(_with_gap, picture.rows))
    axes.set_xticks([j + 0.5 for j in range(len(picture.columns))], map(_with_gap, picture.columns))
    axes.set_ylabel(picture.row_label)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _set_log_limits(axes: Any, powers: Sequence[float]) -> None:
    """As matplotlib does, but within what floating-point numbers can be."""
    margin = max(0.05 * (max(powers) - min(powers)), 0.1)
    axes.set_ylim(10.0 ** max(min(powers) - margin, -307), 10.0 ** min(max(powers) + margin, 308))


def _style(chart: Chart, number: int, series: Series) -> dict[str, Any]:
    count = len(chart.x)
    if series.marks == "dashes":
        style: dict[str, Any] = {"linestyle": "none", "marker": "_", "markersize": 9}
    elif series.marks == "points":
        style = {"linestyle": "none", "marker": _MARKERS[number % 4], "markersize": 4}
    else:
        style = {
            "linestyle": _DASHES[number // 8 % 3],
            "linewidth": 1.5 if count <= _MARKED_LINE else 1.1,
            "marker": _MARKERS[(number + number // 8) % 4],
            "markersize": 4,
        }
        if count > _MARKED_LINE:  # each series has its marks elsewhere
            every = math.ceil(count / _FEW_MARKS)
            style["markevery"] = (int(every * (number % 8 + 0.5) / 8), every)
    return {"color": _colour(series, number), **style}


def _draw_edges(axes: Any, chart: Chart, series: Series, colour: str) -> None:
    """Marks at the edges for what the scale cannot show."""
    points = [(x, y) for x, y in zip(chart.x, series.y, strict=True) if y is not None]
    above = [x for x, y in points if not math.isfinite(y)]
    below = [x for x, y in points if math.isfinite(y) and chart.log and y <= 0]
    place = axes.get_xaxis_transform()  # 0 and 1 are the edges
    for where, level, mark, what in ((above, 1, "^", "\u221e, nan"), (below, 0, "v", "0")):
        if where:
            axes.plot(
                where,
                [level] * len(where),
                color=colour,
                marker=mark,
                markersize=5,
                linestyle="none",
                markevery=math.ceil(len(where) / _FEW_MARKS),
                transform=place,
                clip_on=False,
                label=f"_{what}",  # not in the legend
            )
            axes.text(
                1.0, level, f" {what}", transform=axes.transAxes, fontsize="small", va="center"
            )


def _draw_ridges(axes: Any, picture: Ridges) -> None:
    colour = _palette("s")[0]
    for row, ridge in enumerate(picture.ridges):
        base = len(picture.ridges) - row - 1
        highest = max([1, *ridge.counts])
        count = len(ridge.counts)
        ends = [ridge.low + (ridge.high - ridge.low) * k / count for k in range(count + 1)]
        if ridge.low == ridge.high:
            axes.plot([ridge.low] * 2, [base, base + _OVERLAP], color=colour, zorder=row)
            continue
        axes.stairs(
            [base + _OVERLAP * each / highest for each in ridge.counts],
            ends,
            baseline=base,
            fill=True,
            facecolor=_pale(colour),
            edgecolor=colour,
            linewidth=0.8,
            zorder=row,
        )
    names = _short([ridge.name for ridge in picture.ridges])
    axes.set_yticks(range(len(names) - 1, -1, -1), names, fontsize="small")
    axes.set_ylim(-0.3, len(names) - 1 + _OVERLAP + 0.1)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", alpha=0.3)


def _pale(colour: str) -> str:
    """The colour with 70% white."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 - 0.3 * (255 - part)):02x}" for part in parts)


def _short(names: Sequence[str]) -> list[str]:
    """Names without the parts that all of them begin with, and with a gap where they are long."""
    if len(names) < 2:
        return [_with_gap(name) for name in names]
    parts = [name.split(".") for name in names]
    same = 0
    while all(len(each) > same + 1 and each[same] == parts[0][same] for each in parts):
        same += 1
    common = len(".".join(parts[0][:same]))
    return [_with_gap(f"\u2026{name[common + 1 :]}" if common > 3 else name) for name in names]


def _with_gap(name: str) -> str:
    if len(name) <= _LETTERS:
        return name
    return f"{name[: _LETTERS // 3]}\u2026{name[1 - _LETTERS * 2 // 3 :]}"


# By their kind, in the order from top to bottom.
_DRAWN: dict[type, Callable[[Any, Any], None]] = {
    Chart: _draw_chart,
    Heat: _draw_heat,
    Ridges: _draw_ridges,
}
