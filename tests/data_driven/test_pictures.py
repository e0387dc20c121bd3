"""Pictures and pages of methods' reports."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from browser import Browser
from pages import assert_drawn, open_page
from torch import Tensor, nn

import pyinit
from pyinit.data_driven.results import Measured, MethodReport
from pyinit.reports.page import Chart, Table


def batch() -> tuple[Tensor, Tensor]:
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(64) % 4


def chain(layers: int = 3) -> nn.Sequential:
    parts = (part for _ in range(layers) for part in (nn.Linear(8, 8), nn.Tanh()))
    return nn.Sequential(*parts, nn.Linear(8, 4))


def normed() -> nn.Sequential:
    norm = nn.utils.parametrizations.weight_norm
    return nn.Sequential(norm(nn.Linear(8, 8)), nn.Tanh(), norm(nn.Linear(8, 4)))


METHODS: dict[str, Callable[[], MethodReport[Any]]] = {
    "autoinit": lambda: pyinit.autoinit_(chain(), seed=0),
    "consistency_aware": lambda: pyinit.consistency_aware_(chain(), batch()[0], seed=0),
    "data_dependent": lambda: pyinit.data_dependent_(chain(), batch(), seed=0),
    "gradinit": lambda: pyinit.gradinit_(chain(), batch(), gamma=100.0, steps=3, seed=0),
    "lsuv": lambda: pyinit.lsuv_(chain(), batch()[0], seed=0),
    "metainit": lambda: pyinit.metainit_(chain(), (16, 8), steps=3, seed=0),
    "pretrain_unsupervised": lambda: pyinit.pretrain_unsupervised_(
        chain(), batch()[0], steps=30, seed=0
    ),
    "weight_norm_init": lambda: pyinit.weight_norm_init_(normed(), batch()[0], seed=0),
    "whitening": lambda: pyinit.whitening_(chain(), batch()[0], seed=0),
}


def charts(report: MethodReport[Any]) -> dict[str, Chart]:
    sections = {section.title: section for section in report.page().sections}
    parts = sections["By depth"].parts if "By depth" in sections else ()
    return {part.title: part for part in parts if isinstance(part, Chart)}


def test_all_methods_but_the_search_are_here() -> None:
    assert {*METHODS} == {*pyinit.methods()} - {"search"}


@pytest.mark.parametrize("name", METHODS)
def test_a_page_has_the_layers_before_and_after(name: str, tmp_path: Path) -> None:
    report = METHODS[name]()
    page = report.page()
    assert report.init.method in page.title
    sections = {section.title: section for section in page.sections}
    assert [*sections][-2:] == ["Standard deviations", "Parameters"]
    (table,) = sections["Layers"].parts
    assert isinstance(table, Table)
    records = report.to_records()
    assert [list(row) for row in table.rows] == [list(record.values()) for record in records]
    drawn = charts(report)
    assert drawn
    values = [list(series.y) for chart in drawn.values() for series in chart.series]
    for column in (key for key in records[0] if key.endswith(("before", "after"))):
        assert [record[column] for record in records] in values
    report.save(tmp_path / "x.html")
    assert [path.name for path in tmp_path.iterdir()] == ["x.html"]
    assert report.summary.split(":")[0] in (tmp_path / "x.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", METHODS)
def test_what_methods_measure_has_words(name: str) -> None:
    """No picture has a column's bare name for a title, and no words are of no column."""
    report = METHODS[name]()
    words = {f"{about.what[0].upper()}{about.what[1:]}" for about in report.row.about.values()}
    assert {*charts(report)} <= words
    of = {key.removesuffix("before").rstrip("_") for key in report.to_records()[0]}
    assert {*report.row.about} <= of


def test_a_picture_has_both_sides_of_a_pair_and_what_is_aimed_at() -> None:
    report = METHODS["lsuv"]()
    assert list(charts(report)) == ["Standard deviation of the output", "Factor on the weights"]
    std, factor = charts(report).values()
    assert [(line.name, list(line.y)) for line in std.series] == [
        ("before", [row.before for row in report]),
        ("after", [row.after for row in report]),
    ]
    assert (std.names, std.log, std.reference) == ([row.name for row in report], True, 1.0)
    assert [list(line.y) for line in factor.series] == [[row.scale for row in report]]
    mean = charts(METHODS["consistency_aware"]())["Summand of the channels, on average"]
    assert not mean.log  # it is negative somewhere


def test_what_nothing_happened_to_has_no_picture() -> None:
    assert "Factor on the weights" not in charts(METHODS["autoinit"]())  # 1 in all layers


def test_layers_that_were_left_and_totals_are_told() -> None:
    report = METHODS["pretrain_unsupervised"]()
    section = report.page().sections[0]
    assert section.title == "Layers left as they were"
    (table,) = section.parts
    assert isinstance(table, Table)
    assert [tuple(row) for row in table.rows] == list(report.left)
    facts = METHODS["data_dependent"]().page().facts
    before, after = facts["spread"].split(" → ")
    assert float(before) > float(after) >= 1
    assert facts["recipe"] == "kaiming"


def test_initializers_are_told_where_they_are_what_was_searched() -> None:
    pytest.importorskip("optuna")
    report = pyinit.search_recipe(chain(), batch(), trials=2, steps=1, score="loss", seed=0)
    assert charts(report) == {}
    assert report[0].after in report.page().html()
    assert report.page().facts["space"] == "256"


@dataclass(frozen=True)
class MineLayer(Measured):
    loss_before: float
    loss_after: float
    pair: tuple[int, ...]
    is_good: bool


@dataclass(frozen=True)
class MineReport(MethodReport[MineLayer]):
    row: ClassVar[type[Measured]] = MineLayer


def mine(*rows: MineLayer) -> MineReport:
    return MineReport(pyinit.initialize_(nn.Linear(2, 2), seed=0), rows)


def test_a_method_of_ones_own_has_pages_without_saying_how(tmp_path: Path) -> None:
    report = mine(MineLayer("", 2.0, math.inf, (1, 2), True), MineLayer("a", 1.0, 0.5, (), False))
    ((title, chart),) = charts(report).items()
    assert title == "Loss"
    assert list(chart.names) == ["(model)", "a"]
    (table,) = next(s for s in report.page().sections if s.title == "Layers").parts
    assert isinstance(table, Table)
    assert list(table.rows[0]) == ["(model)", 2.0, math.inf, "(1, 2)", "True"]
    report.save(tmp_path / "x.html")


def test_a_report_without_layers_has_a_page() -> None:
    page = mine().page()
    assert "Layers" not in {section.title for section in page.sections}
    assert page.html()


def test_a_page_of_1000_layers_stays_below_2_megabytes() -> None:
    report = METHODS["lsuv"]()
    rows = tuple(
        replace(report[0], name=f"model.decoder.layers.{i // 8}.attention.projection_{i % 8}")
        for i in range(1000)
    )
    many = replace(report, layers=rows)
    assert len(many.page().html().encode()) < 2_000_000
    assert all(len(chart.x) == 500 for chart in charts(many).values())
    assert all(chart.note == "500 of 1,000, evenly." for chart in charts(many).values())


def test_a_page_from_a_file_is_the_same(tmp_path: Path) -> None:
    report = METHODS["pretrain_unsupervised"]()
    report.save(tmp_path / "x.json")
    again = pyinit.UnsupervisedReport.load(tmp_path / "x.json")
    assert again.page().html() == report.page().html()


@pytest.mark.parametrize("name", ["lsuv", "data_dependent", "autoinit"])
def test_plot_draws_each_picture(name: str) -> None:
    pytest.importorskip("matplotlib")
    report = METHODS[name]()
    drawn = [axes.get_title(loc="left") for axes in report.plot().axes]
    assert drawn == list(charts(report))


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["lsuv", "consistency_aware"])
def test_a_page_is_drawn_and_asks_for_nothing(
    chromium: Browser, width: int, scheme: str, name: str, tmp_path: Path
) -> None:
    assert_drawn(open_page(chromium, METHODS[name]().page(), tmp_path), width, scheme)


def test_a_page_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    report = METHODS["lsuv"]()
    with pytest.raises(OSError, match="nowhere"):
        report.save(tmp_path / "nowhere" / "x.html")
    with pytest.raises(ValueError, match=r"x\.csv would be a \.json or \.html file"):
        report.save(tmp_path / "x.csv")
    assert not list(tmp_path.iterdir())
