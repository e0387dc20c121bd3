"""Pictures and pages of inspections."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import Browser
from pages import assert_drawn, open_page
from torch import nn

import pyinit
from pyinit import Inspection
from pyinit.inspection.histogram import Histogram
from pyinit.inspection.pictures import pictures
from pyinit.inspection.rows import Backward, Forward, LayerRow, WeightRow
from pyinit.reports.page import Chart, Page, Ridges, Section, Table


def deep(layers: int = 6) -> nn.Module:
    return nn.Sequential(*(part for _ in range(layers) for part in (nn.Linear(8, 8), nn.Tanh())))


def inspected(model: nn.Module | None = None, **options: Any) -> Inspection:
    options = {"recipes": ["torch", "auto"], "seed": 0, **options}
    return pyinit.inspect(model or deep(), torch.randn(16, 8), **options)


def charts(report: Inspection) -> dict[str, Chart]:
    found = pictures(report.rows, report.recipes)
    return {each.title: each for each in found if isinstance(each, Chart)}


def ridges(report: Inspection) -> list[Ridges]:
    return [each for each in pictures(report.rows, report.recipes) if isinstance(each, Ridges)]


def large(layers: int, recipes: tuple[str, ...]) -> Inspection:
    """An inspection in which everything was asked for, with numbers of many digits."""
    some = 0.0123456789
    rows = []
    for recipe in recipes:
        for i in range(layers):
            name = f"model.decoder.layers.{i // 8}.self_attention.projection_{i % 8}"
            forward = Forward(
                2**20,
                *(-some * (i + 1), some / (i + 1), some, some, -some, some),
                *(0, some, some, some, 512, some, some, some),
                Histogram(-some, some, tuple(range(40))),
                *(some, some, some),
            )
            numbers = dict.fromkeys(
                ("norm", "mean", "std", "expected_std", "gradient_std", "gradient_norm"), some
            )
            told = dict.fromkeys(("largest", "smallest", "update_ratio", "distance"), some)
            weight = WeightRow(name, (1024, 1024), fan_in=1024, **numbers, **told)
            backward = Backward(some, some / (i + 1), some, 0, some)
            shape = (8, 512, 1024)
            rows.append(
                LayerRow(recipe, name, 1, "linear", "Linear", "", shape, forward, backward, weight)
            )
    return Inspection(tuple(rows), recipes, (2.3,) * len(recipes))


# What is shown


def test_each_recipe_has_a_line_with_the_numbers_of_its_rows() -> None:
    report = inspected()
    found = charts(report)
    weighted = {recipe: [r for r in report.of(recipe) if r.weight] for recipe in report.recipes}
    std = found["Standard deviation of the outputs"]
    assert std.log
    assert list(std.names) == ["0", "2", "4", "6", "8", "10"]
    assert {one.name: list(one.y) for one in std.series if one.marks == "line"} == {
        recipe: [row.forward.std for row in rows] for recipe, rows in weighted.items()
    }
    gradient = found["Standard deviation of the gradients by the outputs"]
    backwards = [row.backward for row in weighted["auto"]]
    assert list(gradient.series[1].y) == [each.std for each in backwards if each]
    cosine = found["Correlation between samples"]
    assert list(cosine.series[0].y) == [row.forward.mean_cosine for row in weighted["torch"]]
    assert not cosine.log


def test_what_theory_expects_is_drawn_in_the_colour_of_its_recipe() -> None:
    report = inspected()
    found = charts(report)
    for title, field in (
        ("Standard deviation of the outputs", "expected_std"),
        ("Correlation between samples", "expected_cosine"),
    ):
        series = {each.name: each for each in found[title].series}
        for place, recipe in enumerate(report.recipes):
            theory = series[f"{recipe}, theory"]
            assert (theory.marks, theory.hue) == ("dashes", place)
            rows = [row.forward for row in report.of(recipe) if row.weight]
            assert list(theory.y) == [getattr(forward, field) for forward in rows]


def test_steps_and_jacobians_have_pictures_if_they_were_asked_for() -> None:
    further = {"Norm of the Jacobians", "Updates of training, over the weights"}
    assert not further & set(charts(inspected()))
    report = inspected(steps=2, jacobians=True)
    found = charts(report)
    assert further <= set(found)
    updates = found["Updates of training, over the weights"]
    assert (updates.log, updates.reference) == (True, 1e-3)
    ratios = [row.weight.update_ratio for row in report.of("auto") if row.weight]
    assert list(updates.series[1].y) == ratios


def test_without_matrices_all_calls_are_shown() -> None:
    report = inspected(layers=nn.Tanh)
    assert len(charts(report)["Standard deviation of the outputs"].x) == 6


def test_values_that_are_not_finite_are_shown_as_such() -> None:
    model = deep()
    model[4].weight.data.fill_(math.inf)  # type: ignore[union-attr, operator, index]
    std = charts(inspected(model, recipes=None))["Standard deviation of the outputs"]
    (line,) = std.series
    assert line.name == "as it is"
    assert [value is not None and math.isfinite(value) for value in line.y][:3] == [1, 1, 0]


def test_what_is_nan_under_one_recipe_is_shown_under_another() -> None:
    model = deep()
    for parameter in model.parameters():
        parameter.data.fill_(math.nan)
    report = inspected(model, recipes=[None, "auto"])
    found = charts(report)
    for title in ("Standard deviation of the outputs", "Standard deviation over the samples"):
        before, after = (each for each in found[title].series if each.marks == "line")
        assert all(math.isnan(value) for value in before.y if value is not None)
        assert all(math.isfinite(value) for value in after.y if value is not None)
        assert len([value for value in before.y if value is not None]) == 6
    (picture,) = ridges(report)
    assert picture.title.endswith(": auto")
    assert len(picture.ridges) == 6


def test_histograms_are_of_the_outputs() -> None:
    report = inspected(recipes=None)
    (picture,) = ridges(report)
    assert [ridge.name for ridge in picture.ridges] == ["0", "2", "4", "6", "8", "10"]
    first = report[0].forward.histogram
    assert first is not None
    assert picture.ridges[0][1:3] == (first.low, first.high)
    assert sum(picture.ridges[0].counts) == sum(first.counts) == 16 * 8


def test_of_many_layers_24_have_histograms_and_that_is_said() -> None:
    report = large(300, ("torch", "auto"))
    first, second = ridges(report)
    assert len(first.ridges) == len(second.ridges) == 24
    assert first.ridges[0].name == report[0].label
    assert first.ridges[-1].name == report[299].label
    assert "24 of 300" in first.note


def test_histograms_of_very_different_widths_have_units_of_their_own() -> None:
    model = deep(2)
    with torch.no_grad():
        model[0].weight.mul_(1000)  # type: ignore[union-attr, operator, index]
    (picture,) = ridges(inspected(model, recipes=None))
    assert "units" in picture.x_label
    assert all(max(-ridge.low, ridge.high) == 1 for ridge in picture.ridges)


def test_a_file_from_before_there_were_histograms_is_read() -> None:
    value = json.loads(json.dumps(inspected().to_dict()))
    for row in value["rows"]:
        del row["forward"]["histogram"]
    again = Inspection.from_dict(value)
    assert again[0].forward.histogram is None
    assert ridges(again) == []
    assert again.page().html()


def test_histograms_come_back_from_a_file(tmp_path: Path) -> None:
    report = inspected()
    report.save(tmp_path / "x.json")
    again = Inspection.load(tmp_path / "x.json")
    assert [row.forward.histogram for row in again] == [row.forward.histogram for row in report]
    assert ridges(again) == ridges(report)


# Drawn by matplotlib


def test_plot_draws_each_picture() -> None:
    pytest.importorskip("matplotlib")
    report = inspected(steps=1, jacobians=True)
    axes = report.plot().axes
    assert [each.get_title(loc="left") for each in axes] == [
        each.title for each in pictures(report.rows, report.recipes)
    ]
    std = report.plot().axes[0]
    assert std.get_yscale() == "log"
    lines = {line.get_label(): list(line.get_ydata()) for line in std.get_lines()}
    assert lines["auto"] == [row.forward.std for row in report.of("auto") if row.weight]


@pytest.mark.parametrize("recipes", [None, "torch"])
def test_a_model_of_one_layer_has_pictures(recipes: str | None, tmp_path: Path) -> None:
    report = inspected(nn.Linear(8, 1), recipes=recipes)
    report.save(tmp_path / "one.html")
    pytest.importorskip("matplotlib")
    assert report.plot().axes


# The page


def test_a_page_has_findings_pictures_and_all_rows() -> None:
    report = inspected(deep(20))
    assert report.findings
    page = report.page()
    sections = {section.title: section for section in page.sections}
    assert list(sections) == ["Findings", "By depth", "Histograms", "Calls of layers"]
    assert sections["Findings"].warns
    texts = [part.text for part in sections["Findings"].parts]  # type: ignore[union-attr]
    assert texts == [f"[{each.recipe}] {each}" for each in report.findings]
    (table,) = sections["Calls of layers"].parts
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == [row.label for row in report]
    first = dict(zip(table.columns, table.rows[0], strict=True))
    assert (first["recipe"], first["kind"], first["std"]) == (
        "torch",
        "linear",
        report[0].forward.std,
    )
    assert report.summary in page.html()


def test_what_took_no_part_is_listed() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
    model[0].bias.requires_grad_(False)
    model.unused = nn.Linear(2, 2)
    model.forward = lambda x: model[1](model[0](x))  # type: ignore[method-assign]
    sections = {each.title: each for each in inspected(model, recipes=None).page().sections}
    rows = {title: part.parts[0].rows for title, part in list(sections.items())[-2:]}  # type: ignore[union-attr]
    assert rows == {"Layers that took no part": [("unused",)], "Frozen parameters": [("0.bias",)]}


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_drawn_and_asks_for_nothing(
    chromium: Browser, width: int, scheme: str, tmp_path: Path
) -> None:
    page = inspected(deep(8), steps=1, jacobians=True).page()
    assert_drawn(open_page(chromium, page, tmp_path), width, scheme)


def test_long_names_of_recipes_make_a_page_no_wider(chromium: Browser, tmp_path: Path) -> None:
    page = large(8, ("/home/me/rules_" * 8, "auto")).page()
    tab = open_page(chromium, page, tmp_path)
    tab.show(320)
    assert tab.run("document.documentElement.scrollWidth") <= 320


def test_a_page_of_1000_layers_under_4_recipes_stays_below_2_megabytes() -> None:
    report = large(1000, ("torch", "kaiming", "xavier", "auto"))
    page = report.page()
    assert len(page.html().encode()) < 2_000_000
    (table,) = page.sections[-1].parts
    assert isinstance(table, Table)
    assert len(table.rows) == 4000
    assert all("500 of 1,000, evenly." in chart.note for chart in charts(report).values())


def test_a_large_table_is_sorted_by_what_it_shows(chromium: Browser, tmp_path: Path) -> None:
    rows = [[f"layer{i}", 1.0 / (i + 1)] for i in range(21_000)]
    rows[5][1] = math.nan
    (table,) = large(1, ("torch",)).page().sections[-1].parts
    big = Table(["layer", "std"], rows)
    assert big.is_large
    assert isinstance(table, Table)
    assert not table.is_large
    page = Page("t", "s", [Section("Layers", [big])])
    open_page(chromium, page, tmp_path).run("document.querySelectorAll('thead button')[1].click()")
    names = chromium.run("[...document.querySelectorAll('tbody th')].map((n) => n.textContent)")
    assert names[-1] == "layer5"
    assert names[-2] == "layer0"
    assert chromium.logged == []


def test_a_page_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    report = inspected(nn.Linear(8, 2))
    with pytest.raises(OSError, match="nowhere"):
        report.save(tmp_path / "nowhere" / "signals.html")
    with pytest.raises(ValueError, match=r"signals\.csv would be a \.json or \.html file"):
        report.save(tmp_path / "signals.csv")
    assert not list(tmp_path.iterdir())
