"""What matplotlib draws of pictures."""

import builtins
import math
import pickle
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from torch import nn

from pyinit import initialize_
from pyinit.reports.figure import figure
from pyinit.reports.page import Chart, Heat, Ridge, Ridges, Series

matplotlib = pytest.importorskip("matplotlib")


def lines(axes: Any) -> dict[str, list[float]]:
    """The values of lines by what the legend calls them."""
    found = {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}
    return {name: y for name, y in found.items() if not name.startswith("_")}


def edges(axes: Any) -> dict[str, list[float]]:
    """The places of marks at the edges."""
    marks = {line.get_label(): list(line.get_xdata()) for line in axes.get_lines()}
    return {name[1:]: x for name, x in marks.items() if name in ("_0", "_\u221e, nan")}


def test_a_chart_has_its_lines_axes_and_names() -> None:
    chart = Chart(
        "Std",
        [1, 2],
        [Series("torch", [0.5, 0.25]), Series("auto", [1.0, None])],
        "layer",
        "std",
        log=True,
        names=["fc1", "fc2"],
        reference=0.1,
        note="Of all values.",
    )
    (axes,) = figure([chart]).axes
    drawn = lines(axes)
    assert drawn["torch"] == [0.5, 0.25]
    assert drawn["auto"][0] == 1.0
    assert math.isnan(drawn["auto"][1])
    assert axes.get_yscale() == "log"
    assert axes.get_title(loc="left") == "Std"
    assert axes.get_ylabel() == "std"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["fc1", "fc2"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["torch", "auto"]
    assert "Of all values." in [text.get_text() for text in axes.texts]
    assert [0.1, 0.1] in [list(line.get_ydata()) for line in axes.get_lines()]


@pytest.mark.parametrize("log", [False, True])
def test_what_a_scale_cannot_show_is_at_its_edges(log: bool) -> None:
    y = [1.0, 0.0, math.nan, math.inf, None, 2.0]
    (axes,) = figure([Chart("t", range(6), [Series("a", y)], log=log)]).axes
    assert edges(axes) == {"\u221e, nan": [2, 3], **({"0": [1]} if log else {})}
    finite = [value for value in lines(axes)["a"] if not math.isnan(value)]
    assert finite == ([1.0, 2.0] if log else [1.0, 0.0, 2.0])


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "y", [[], [None], [0.0], [3.0], [math.nan], [-1.0, 2.0], [5e-324, 1e300], [0.5] * 100]
)
def test_any_numbers_can_be_drawn(y: Sequence[float | None], log: bool) -> None:
    series = [Series("a", y), Series("b", y, "points"), Series("c", y, "dashes")]
    ridges = Ridges("t", [Ridge("same", 1.0, 1.0, [3]), Ridge("none", 0.0, 1.0, [0, 0])][: len(y)])
    drawn = figure([Chart("t", range(len(y)), series, log=log, reference=1.0), ridges])
    drawn.canvas.draw()


def test_histograms_stand_below_each_other_with_the_first_on_top() -> None:
    (axes,) = figure(
        [Ridges("t", [Ridge("first", -1.0, 1.0, [1, 2]), Ridge("last", 0.0, 4.0, [5, 0])])]
    ).axes
    steps = [patch.get_data() for patch in axes.patches]
    assert [list(each.edges) for each in steps] == [[-1.0, 0.0, 1.0], [0.0, 2.0, 4.0]]
    assert steps[0].baseline > steps[1].baseline
    heights = [[value - each.baseline for value in each.values] for each in steps]
    assert heights[0] == pytest.approx([heights[1][0] / 2, heights[1][0]])  # equally high
    assert [text.get_text() for text in axes.get_yticklabels()] == ["first", "last"]


def test_names_that_begin_alike_are_told_apart() -> None:
    names = [f"model.decoder.layers.{i}.self_attention.query_projection" for i in range(3)]
    (axes,) = figure([Chart("t", [1], [Series(name, [1.0]) for name in names])]).axes
    shown = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(set(shown)) == 3
    assert all(str(i) in name for i, name in enumerate(shown))


def test_colours_are_those_of_the_page() -> None:
    series = [Series("a", [1.0]), Series("b", [1.0], scale=0.0), Series("c", [1.0], scale=1.0)]
    (axes,) = figure([Chart("t", [1], series)]).axes
    assert [line.get_color() for line in axes.get_lines()] == ["#0067b1", "#2b1055", "#d9780f"]


def test_an_initialization_is_drawn_as_on_its_page() -> None:
    report = initialize_(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), "auto", seed=0)
    (axes,) = report.plot().axes
    drawn = [row for row in report if row.target_std or row.std]
    assert lines(axes)["measured"] == [row.std for row in drawn]
    assert lines(axes)["target"] == [row.target_std for row in drawn]
    assert axes.get_yscale() == "log"


def test_nothing_to_show_is_said() -> None:
    assert [text.get_text() for text in figure([]).texts] == ["There is nothing to show."]


def test_a_figure_shows_itself_in_a_notebook_and_can_be_kept() -> None:
    drawn = figure([Chart("t", [1], [Series("a", [1.0])])])
    for each in (drawn, pickle.loads(pickle.dumps(drawn))):
        assert each._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_pyplot_is_left_alone() -> None:
    program = """
import sys
from pyinit.reports.figure import figure
assert "matplotlib" not in sys.modules
from pyinit.reports.page import Chart, Series
figure([Chart("t", [1], [Series("a", [1.0])])])._repr_png_()
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == "matplotlib":
            monkeypatch.delitem(sys.modules, name)
    found = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'plot needs matplotlib: pip install "pyinit\[plot\]"'):
        figure([])


def test_lines_have_bands_and_points_have_bars() -> None:
    band = Series("a", [1.0, None, 2.0], low=[0.5, None, 1.5], high=[1.5, None, 2.5])
    bars = Series("b", [1.0, 2.0, 3.0], "points", low=[0.5, 1.0, 2.0], high=[1.5, 3.0, 4.0])
    (axes,) = figure([Chart("Both", [1, 2, 3], [band, bars])]).axes
    (filled,) = axes.collections
    corners = filled.get_paths()[0].vertices
    assert (corners[:, 1].min(), filled.get_paths()[-1].vertices[:, 1].max()) == (0.5, 2.5)
    assert [list(line.get_ydata()) for line in axes.get_lines()[2:]] == [[0.5, 1.5], [1, 3], [2, 4]]


def test_a_heat_map_has_its_numbers_and_names() -> None:
    heat = Heat(
        "Accuracy", ["2", "4"], ["relu", "elu"], [[0.1, None], [0.9, math.inf]], "depth", "f"
    )
    (axes,) = figure([heat]).axes
    assert [text.get_text() for text in axes.texts if text.get_text()] == ["0.1", "0.9", "\u221e"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["2", "4"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["relu", "elu"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("f", "depth")
    assert axes.yaxis_inverted()
