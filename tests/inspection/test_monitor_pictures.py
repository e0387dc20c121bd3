"""Pictures and pages of monitors."""

import math
import re
from pathlib import Path

import pytest
import torch
from browser import Browser
from pages import assert_drawn, open_page
from torch import nn

from pyinit import Monitor
from pyinit.inspection.monitor import Record
from pyinit.inspection.monitor.pictures import page, pictures
from pyinit.reports.page import Chart, Table


@pytest.fixture
def monitor() -> Monitor:
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, every=2, start="copy") as found:
        for _ in range(9):
            optimizer.zero_grad()
            model(torch.randn(4, 8)).square().mean().backward()
            optimizer.step()
    return found


def charts(records: list[Record]) -> dict[str, Chart]:
    return {each.title: each for each in pictures(records)}


def of_training(layers: int, steps: int) -> list[Record]:
    some = 0.0123456789
    return [
        Record(
            50 * step,
            f"model.decoder.layers.{i // 4}.self_attention.projection_{i % 4}",
            1,
            *(some, some * (i + 1), some * 100, (step % 7) / 10, some, some * (step + 1), some),
            *(3.0, some / (step + 1), some * step),
        )
        for step in range(steps)
        for i in range(layers)
    ]


def test_each_layer_has_a_line_with_the_numbers_of_its_records(monitor: Monitor) -> None:
    found = charts(monitor.records)
    std = found["Standard deviation of the outputs"]
    assert std.log
    assert list(std.x) == [0, 2, 4, 6, 8]
    lines = {one.name: list(one.y) for one in std.series}
    assert list(lines) == ["0", "1", "2"]
    of_1 = [record for record in monitor.records if record.layer == "1"]
    assert lines["1"] == [math.sqrt(record.variance or 0) for record in of_1]
    updates = found["Updates, over the weights"]
    assert (updates.log, updates.reference) == (True, 1e-3)
    of_2 = [record.update_ratio for record in monitor.records if record.layer == "2"]
    assert {one.name: list(one.y) for one in updates.series}["2"] == of_2
    assert [one.name for one in updates.series] == ["0", "2"]  # an activation has no parameters
    assert "Distance from the start" in found


def test_a_layer_has_the_same_colour_in_every_picture(monitor: Monitor) -> None:
    scales = [
        {(one.name, one.scale) for one in chart.series} for chart in pictures(monitor.records)
    ]
    assert set().union(*scales) == {("0", 0.0), ("1", 0.5), ("2", 1.0)}


def test_what_was_not_recorded_has_no_picture() -> None:
    found = charts([Record(0, "a", 1, variance=1.0, dead=0.0), Record(1, "a", 1, variance=2.0)])
    assert list(found) == ["Standard deviation of the outputs"]
    assert charts([]) == {}


def test_of_many_layers_8_are_shown_and_of_many_steps_400() -> None:
    for chart in pictures(of_training(100, 1000)):
        assert len(chart.series) == 8
        assert len(chart.x) == 400
        assert (chart.x[0], chart.x[-1]) == (0, 999 * 50)
        assert "8 of 100 layers and 400 of 1,000 recorded steps" in chart.note
        assert chart.series[0].name.startswith("model.decoder.layers.0.")
        assert chart.series[-1].name.startswith("model.decoder.layers.24.")


def test_a_page_of_100_layers_over_1000_steps_stays_below_2_megabytes() -> None:
    assert len(page(of_training(100, 1000)).html().encode()) < 2_000_000


def test_a_page_has_a_row_for_each_layer(monitor: Monitor) -> None:
    sections = {section.title: section for section in monitor.page().sections}
    assert list(sections) == ["Over the steps", "Layers"]
    _, table = sections["Layers"].parts
    assert isinstance(table, Table)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [row["layer"] for row in rows] == ["0", "1", "2"]
    of_0 = [record for record in monitor.records if record.layer == "0"]
    assert rows[0]["gradient, first"] == of_0[0].gradient_norm
    assert rows[0]["distance, last"] == of_0[-1].distance
    assert rows[0]["update, greatest"] == max(record.update_ratio or 0 for record in of_0)
    assert rows[1]["distance, last"] is None


def test_layers_that_became_nan_or_were_not_called_are_named() -> None:
    records = [
        Record(0, "a", 1, variance=1.0),
        Record(0, "b", 0, gradient_norm=0.0),
        Record(5, "a", 1, variance=math.nan),
        Record(5, "b", 0, gradient_norm=0.0),
    ]
    sections = {section.title: section for section in page(records).sections}
    (wild,) = sections["NaN or infinite"].parts
    assert isinstance(wild, Table)
    assert list(wild.rows) == [("a", 5)]
    (silent,) = sections["Called in no recorded pass"].parts
    assert isinstance(silent, Table)
    assert list(silent.rows) == [("b",)]


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(2, 1), (9, 30), (100, 200)])
def test_a_page_is_drawn_and_asks_for_nothing(
    chromium: Browser, size: tuple[int, int], width: int, scheme: str, tmp_path: Path
) -> None:
    records = of_training(*size)
    records.append(Record(records[-1].step, "last", 1, 0.0, math.nan, update_ratio=math.inf))
    assert_drawn(open_page(chromium, page(records), tmp_path), width, scheme)


def test_a_page_names_the_layers_in_tooltips(chromium: Browser, tmp_path: Path) -> None:
    open_page(chromium, page(of_training(3, 10)), tmp_path)
    chromium.run("document.querySelector('figure > svg').focus()")
    chromium.press("ArrowRight")
    tip = chromium.run("document.querySelector('.tip').textContent")
    assert tip.split("\n")[0] == "step 0"
    assert re.search(r"model\.decoder\.layers\.0\.self_attention\.projection_2: 0\.\d+", tip)


def test_a_page_is_saved_by_its_name(monitor: Monitor, tmp_path: Path) -> None:
    monitor.save(tmp_path / "training.html")
    text = (tmp_path / "training.html").read_text(encoding="utf-8")
    assert text == monitor.page().html()
    with pytest.raises(OSError, match="nowhere"):
        monitor.save(tmp_path / "nowhere" / "training.html")


def test_plot_draws_each_picture(monitor: Monitor) -> None:
    pytest.importorskip("matplotlib")
    axes = {each.get_title(loc="left"): each for each in monitor.plot().axes}
    assert list(axes) == [each.title for each in pictures(monitor.records)]
    updates = axes["Updates, over the weights"]
    assert updates.get_yscale() == "log"
    lines = {line.get_label(): line for line in updates.get_lines()}
    of_2 = [record.update_ratio for record in monitor.records if record.layer == "2"]
    assert list(lines["2"].get_xdata()) == [0, 2, 4, 6, 8]
    assert list(lines["2"].get_ydata()) == of_2
    assert [1e-3, 1e-3] in [list(line.get_ydata()) for line in updates.get_lines()]


def test_without_records_that_is_drawn() -> None:
    pytest.importorskip("matplotlib")
    model = nn.Linear(2, 2)
    with Monitor(model, torch.optim.SGD(model.parameters())) as empty:
        assert [text.get_text() for text in empty.plot().texts] == ["There is nothing to show."]
        assert empty.page().html()
