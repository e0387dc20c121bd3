"""Pages of reports: what is in the file, and what a browser makes of it."""

import json
import math
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import Browser
from pages import BOXES, assert_drawn, inside, open_page
from torch import nn

from pyinit import InitReport, initialize_, initializers, load_pretrained_, replay_
from pyinit.reports.initialization import Row
from pyinit.reports.page import (
    Cell,
    Chart,
    Heat,
    Page,
    Ridge,
    Ridges,
    Section,
    Series,
    Table,
    Text,
    write_report,
)

EVIL = "<script>document.title='evil'</script><img src=x onerror=\"document.title='evil'\">&'\""


class Elements(HTMLParser):
    """The start tags of a page with their attributes, and the text of its elements by their tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "wbr":
            self.texts.append((tag, ""))

    def handle_data(self, data: str) -> None:
        if self.texts:
            self.texts[-1] = (self.texts[-1][0], self.texts[-1][1] + data)

    def of(self, *tags: str) -> list[str]:
        return [text.strip() for tag, text in self.texts if tag in tags]


class WithStranger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.stranger = nn.Parameter(torch.ones(3, 5))
        self.add_module(EVIL.replace(".", "_"), nn.Linear(8, 2))


def of_initialization() -> InitReport:
    return initialize_(
        WithStranger(),
        "auto",
        seed=3,
        skip="first.bias",
        rules={"first.weight": initializers.Normal(std=0.01)},
    )


def of_load() -> Any:
    source = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1000)).state_dict()
    source["1.bias"] = torch.full((2,), math.nan)
    source["extra"] = torch.ones(2)
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 10), nn.Linear(3, 3))
    return load_pretrained_(model, source, seed=0)


def of_signals() -> Page:
    """A page with all kinds of pictures: several lines, edges, gaps, many values, histograms."""
    layers = [f"layers.{i}" for i in range(20)]
    falling = [0.5**i for i in range(20)]
    dead = [*falling[:10], *[0.0] * 10]
    wild = [*[4.0**i for i in range(10)], math.inf, math.nan, -math.inf, *[None] * 7]
    steps = range(0, 5000, 10)
    by_depth = Chart(
        "By depth",
        range(20),
        [Series("falling", falling), Series("dead", dead), Series("wild", wild)],
        "layer",
        "std",
        log=True,
        names=layers,
    )
    over_steps = Chart("Steps", steps, [Series(f"s{i}", [i + 0.5] * 500) for i in range(20)])
    single = Chart("One", [3], [Series("one", [-2.5], "points")])
    ridges = Ridges(
        "Histograms", [Ridge(name, -1.0, 2.0, [1, 5, 2, 0]) for name in layers], "value"
    )
    table = Table(
        ["layer", "shape", "std"],
        [
            ["b10", Cell("2x2", 4), 1e-9],
            ["b9", Cell("10", 10), 0.5],
            ["a", Cell("3", 3), math.nan],
            ["c", Cell("1x1", 1), None],
            ["d", Cell("9x9", 81), 123456789.0],
            ["e", Cell("5", 5), -3.0],
            ["f", Cell("6", 6), math.inf],
            ["g", Cell("7", 7), 12],
        ],
    )
    return Page(
        "Signals",
        "All kinds.",
        [
            Section("Findings", [Text("one\ntwo", warns=True)], warns=True),
            Section("Pictures", [by_depth, over_steps, single, ridges]),
            Section("Layers", [table]),
        ],
        {"loss": "2.3"},
    )


@pytest.fixture(params=["initialization", "load", "signals"])
def page(request: pytest.FixtureRequest) -> Page:
    if request.param == "signals":
        return of_signals()
    report = of_initialization() if request.param == "initialization" else of_load()
    result: Page = report.page()
    return result


# What is in the file


def test_page_refers_to_nothing_outside_itself(page: Page) -> None:
    text = page.html()
    addresses = [
        value
        for _, attributes in Elements(text).tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster")
    ]
    assert addresses == ["data:,"]  # no icon is asked for
    assert "url(" not in text
    assert "@import" not in text


def test_names_and_reasons_are_text_whatever_is_in_them() -> None:
    report = of_initialization()
    elements = Elements(report.page().html())
    name = f"{EVIL.replace('.', '_')}.weight"
    assert report[name].name in elements.of("th")
    assert all(tag != "img" for tag, _ in elements.tags)
    programs = [attributes.get("type") for tag, attributes in elements.tags if tag == "script"]
    assert programs == ["application/json", None]

    skipped = Page("t", "s", [Section(EVIL, [Text(EVIL), Table([EVIL], [[EVIL]])])], {EVIL: EVIL})
    elements = Elements(skipped.html())
    for tag in ("h2", "p", "th", "dt", "dd"):
        assert EVIL in elements.of(tag)
    assert [attributes for tag, attributes in elements.tags if tag == "script"] == [{}]


def test_what_stands_between_backticks_is_code() -> None:
    text = Text("falls from `0.<b>` on, `alone")
    page = Page("title", "summary", [Section("Findings", [text])]).html()
    assert "falls from <code>0.&lt;b&gt;</code> on, `alone" in page


def test_data_of_a_picture_is_what_it_was_given() -> None:
    (text,) = Elements(of_initialization().page().html()).of("script")[:1]
    data = json.loads(text)
    names = ["first.weight", "first.bias", f"{EVIL.replace('.', '_')}.weight"]
    assert data["names"] == names
    assert [series["name"] for series in data["series"]] == ["target", "measured"]


def test_a_report_of_2000_parameters_stays_below_2_megabytes() -> None:
    weight = of_initialization()["first.weight"].weight
    initializer = initializers.KaimingUniform(a=5**0.5, mode="fan_out", nonlinearity="leaky_relu")
    rows = [
        Row(
            f"model.language_model.layers.{i}.self_attention_block.query_projection.weight",
            weight,
            "float32",
            "Linear",
            initializer,
            "residual projection, one of 500 in the model",
            2**64 - 1,
            2**64 - 1 - i,
            -1.0123456789e-5 / 3**0.5,
            0.0212345678901,
            -0.123456789012,
            0.123456789012,
        )
        for i in range(2000)
    ]
    assert len(InitReport(rows, "llama", seed=1).page().html().encode()) < 2_000_000


def test_same_report_gives_the_same_page() -> None:
    report = of_initialization()
    again = InitReport.from_dict(json.loads(json.dumps(report.to_dict())))
    assert again.page().html() == report.page().html()


def test_table_has_every_parameter_with_all_that_its_row_knows() -> None:
    report = of_initialization()
    (table,) = next(s for s in report.page().sections if s.title == "Parameters").parts
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == [row.name for row in report]
    first = dict(zip(table.columns, table.rows[1], strict=True))
    row = report["first.weight"]
    assert first["shape"] == Cell("8\u00d74", 32)
    assert (first["fan in"], first["fan out"], first["target std"]) == (4, 8, 0.01)
    assert (first["mean"], first["std"], first["min"], first["max"]) == row[8:12]
    assert (first["initializer"], first["stream"]) == (str(row.initializer), str(row.stream))


def test_all_names_of_a_tied_parameter_are_shown() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    assert "0.weight\n= 1.weight" in Elements(initialize_(model, seed=0).page().html()).of("th")


def test_what_was_left_alone_comes_first() -> None:
    titles = [section.title for section in of_initialization().page().sections]
    assert titles[:3] == [
        "Unknown to the recipe, and left as they were",
        "Left as they were",
        "Standard deviations",
    ]
    replayed = replay_(WithStranger(), of_initialization(), strict=False)
    first = replayed.page().sections[0]
    assert (first.title, first.warns) == ("Not given again", True)
    assert isinstance(first.parts[0], Table)
    assert [row[0] for row in first.parts[0].rows] == [name for name, _ in replayed.skipped]


def test_page_of_a_load_names_every_tensor_and_what_became_of_it() -> None:
    report = of_load()
    sections = {section.title: section for section in report.page().sections}
    shown = {
        title: [row[0] for row in section.parts[0].rows]
        for title, section in sections.items()
        if isinstance(section.parts[0], Table)
    }
    assert shown["Mismatched: another shape"] == [one.name for one in report.mismatched]
    assert shown["Missing: the source lacks them"] == list(report.missing)
    assert shown["Unexpected: the model lacks them"] == list(report.unexpected)
    assert shown["Loaded"] == list(report.loaded)
    assert shown["Initialized"] == [row.name for row in report.initialized]
    assert report.missing
    assert report.mismatched
    assert next(iter(sections)) == "Mismatched: another shape"


@pytest.mark.parametrize(
    "make",
    [
        nn.Sequential,
        lambda: nn.Linear(0, 3),
        lambda: nn.LayerNorm(4),
        lambda: nn.Linear(3, 3, dtype=torch.float16),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_any_model_has_a_page(make: Callable[[], nn.Module], dry_run: bool) -> None:
    report = initialize_(make(), "torch", seed=0, dry_run=dry_run)
    assert report.summary in Elements(report.page().html()).of("p")[0]


def test_values_that_are_not_finite_are_said_to_be_so() -> None:
    model = nn.Linear(2, 2)
    nn.init.constant_(model.weight, math.nan)
    cells = Elements(initialize_(model, seed=0, skip="weight").page().html()).of("td")
    assert cells.count("nan") == 4


@pytest.mark.parametrize(
    ("name", "is_page"),
    [("r.html", True), ("r.HTML", True), ("r.json", False), ("r", False), ("r.2", False)],
)
@pytest.mark.parametrize("make", [of_initialization, of_load])
def test_the_name_says_whether_a_report_is_saved_as_a_page(
    make: Callable[[], Any], name: str, is_page: bool, tmp_path: Path
) -> None:
    make().save(tmp_path / name)
    text = (tmp_path / name).read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>" if is_page else "{")
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_a_page_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    class Broken:
        def to_dict(self) -> dict[str, Any]:
            return {}

        def page(self) -> Page:
            raise RuntimeError("broken")

    path = tmp_path / "x.html"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="broken"):
        write_report(Broken(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_values_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rows: \[1\] has 1 cells, not 2"):
        Table(["a", "b"], [[1]])
    with pytest.raises(ValueError, match="loss has 1 values, and x has 2"):
        Chart("t", [1, 2], [Series("loss", [1.0])])
    with pytest.raises(ValueError, match="names has 1 values, and x has 2"):
        Chart("t", [1, 2], [], names=["a"])


@pytest.mark.parametrize("ends", [(1.0, 0.0), (0.0, math.inf), (math.nan, 1.0)])
def test_a_histogram_without_ends_is_refused(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="ridges: fc1 goes from"):
        Ridges("t", [Ridge("fc1", *ends, [1])])


# What a browser makes of it


@pytest.fixture
def opened(chromium: Browser, page: Page, tmp_path: Path) -> Browser:
    return open_page(chromium, page, tmp_path)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_pictures_are_drawn_and_nothing_is_asked_for_or_logged(
    opened: Browser, width: int, scheme: str
) -> None:
    assert_drawn(opened, width, scheme)


def test_a_picture_has_a_mark_for_every_value(chromium: Browser, tmp_path: Path) -> None:
    by_depth, over_steps, single, ridges = open_page(chromium, of_signals(), tmp_path).run(BOXES)
    assert len(by_depth["marks"]) == 20 + 20 + 13
    assert len(over_steps["lines"]) == 20
    assert 20 * 10 < len(over_steps["marks"]) < 20 * 14  # some for each long line
    assert len(single["marks"]) == 1
    assert len(ridges["marks"]) == 20


NUMBERS: dict[str, list[float | None]] = {
    "nothing": [],
    "gaps": [None, None],
    "one": [3.0],
    "same": [0.5, 0.5],
    "zeros": [0.0, 0.0],
    "negative": [-1.0, 2.0],
    "not finite": [math.nan, math.inf, -math.inf],
    "extreme": [5e-324, 1e300],
}


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("numbers", NUMBERS)
def test_any_numbers_can_be_drawn(
    chromium: Browser, numbers: str, log: bool, tmp_path: Path
) -> None:
    y = NUMBERS[numbers]
    series = [Series("a", y), Series("b", y, "points"), Series("c", y, "dashes")]
    chart = Chart("t", range(len(y)), series, log=log)
    ridges = Ridges("t", [Ridge("same", 1.0, 1.0, [3]), Ridge("none", 0.0, 1.0, [0, 0])][: len(y)])
    page = Page("t", "s", [Section("t", [chart, ridges])])
    drawn, _ = open_page(chromium, page, tmp_path).run(BOXES)
    assert len(drawn["marks"]) == 3 * sum(value is not None for value in y)
    assert all(inside(box, drawn["picture"]) for box in drawn["marks"] + drawn["texts"])
    assert "NaN" not in chromium.run("document.querySelector('main').innerHTML")
    assert chromium.logged == []


def luminance(colour: str) -> float:
    red, green, blue = (int(part) for part in colour.strip("rgb()").split(", "))
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_follows_the_colour_scheme_and_is_light_on_paper(opened: Browser, scheme: str) -> None:
    ground_and_ink = """["backgroundColor", "color"].map(
        (name) => getComputedStyle(document.documentElement)[name])"""
    opened.show(1280, scheme=scheme)
    ground, ink = map(luminance, opened.run(ground_and_ink))
    assert (ground > 0.9 and ink < 0.2) if scheme == "light" else (ground < 0.2 and ink > 0.8)
    opened.send("Emulation.setEmulatedMedia", media="print")
    try:
        ground, ink = map(luminance, opened.run(ground_and_ink))
    finally:
        opened.send("Emulation.setEmulatedMedia", media="")
    assert ground > 0.99
    assert ink < 0.2


CENTRES = """[...document.querySelectorAll("figure > svg")].map((picture) => {
  picture.scrollIntoView({block: "center"});
  return [...picture.querySelectorAll(".mark")].map((mark) => {
    const box = mark.getBoundingClientRect();
    return [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
  });
})"""
TIP = """(() => {
  const tip = [...document.querySelectorAll(".tip")].find((one) => one.textContent);
  if (!tip) return null;
  const {left, top, right, bottom} = tip.getBoundingClientRect();
  return {text: tip.textContent, box: [left, top, right, bottom]};
})()"""


@pytest.mark.parametrize("width", [360, 1280])
def test_a_tooltip_names_the_parameter_under_the_pointer(
    chromium: Browser, width: int, tmp_path: Path
) -> None:
    report = of_initialization()
    open_page(chromium, report.page(), tmp_path).show(width)
    (marks,) = chromium.run(CENTRES)
    drawn = [row for row in report if row.target_std or row.std]
    measured = marks[-len(drawn) :]
    for (x, y), row in zip(measured, drawn, strict=True):
        chromium.move(x, y)
        tip = chromium.run(TIP)
        assert tip["text"].split("\n")[0] == row.name
        assert f"measured: {row.std:.4g}" in tip["text"]
        assert inside(tip["box"], [0, 0, width, 800])
        assert abs((tip["box"][1] + tip["box"][3]) / 2 - y) < 60
    chromium.move(1, 1)
    assert chromium.run(TIP) is None


def test_the_keyboard_goes_from_mark_to_mark(chromium: Browser, tmp_path: Path) -> None:
    open_page(chromium, of_signals(), tmp_path)
    chromium.run("document.querySelector('figure > svg').focus()")
    told = []
    for key in ("ArrowRight", "ArrowRight", "End", "ArrowRight", "ArrowLeft", "Home"):
        chromium.press(key)
        told.append(chromium.run(TIP)["text"].split("\n")[0])
    assert told == [f"layers.{i}" for i in (0, 1, 19, 19, 18, 0)]
    chromium.press("Escape")
    assert chromium.run(TIP) is None


@pytest.mark.parametrize("by", ["click", "keyboard"])
@pytest.mark.parametrize(
    ("column", "orders"),
    [
        (0, (["a", "b9", "b10", "c", "d", "e", "f", "g"], [])),
        (1, (["c", "a", "b10", "e", "f", "g", "b9", "d"], [])),
        (2, (["e", "b10", "b9", "g", "d", "f"], ["a", "c"])),
    ],
)
def test_a_table_sorts_by_the_column_of_the_heading(
    chromium: Browser, by: str, column: int, orders: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    open_page(chromium, of_signals(), tmp_path)
    names = "[...document.querySelectorAll('tbody th')].map((cell) => cell.textContent)"
    sorts = "[...document.querySelectorAll('thead th')].map((cell) => cell.ariaSort)"
    original = chromium.run(names)
    ascending, last = orders
    expected = {
        "ascending": ascending + last,
        "descending": ascending[::-1] + last,
        "none": original,
    }
    for direction, order in expected.items():
        button = f"document.querySelectorAll('thead button')[{column}]"
        if by == "click":
            chromium.run(f"{button}.click()")
        else:
            chromium.run(f"{button}.focus()")
            chromium.press("Enter")
        assert chromium.run(names) == order
        wanted = ["none"] * 3
        wanted[column] = direction
        assert chromium.run(sorts) == wanted


def test_a_table_shows_the_rows_that_have_all_words(chromium: Browser, tmp_path: Path) -> None:
    open_page(chromium, of_signals(), tmp_path)
    chromium.run("document.querySelector('input').focus()")
    for key in "B 9":
        chromium.press(key)
    shown = """[...document.querySelectorAll("tbody tr")].filter((row) => row.offsetHeight > 0)
        .map((row) => row.cells[0].textContent)"""
    assert chromium.run(shown) == ["b10", "b9"]  # 1e-09, too, has a 9
    assert chromium.run("document.querySelector('output').textContent") == "2 of 8 rows"


def test_a_program_in_a_name_does_not_run_nor_one_put_into_the_file(
    chromium: Browser, tmp_path: Path
) -> None:
    report = of_initialization()
    open_page(chromium, report.page(), tmp_path)
    assert chromium.run("document.title") == "Initialization: auto"
    assert chromium.logged == []

    path = tmp_path / "changed.html"
    text = report.page().html().replace("<main>", f"<main>{EVIL}")
    path.write_text(text, encoding="utf-8")
    chromium.open(path)
    assert chromium.run("document.title") == "Initialization: auto"
    failed = [values for name, values in chromium.events if name == "Network.loadingFailed"]
    assert [values["blockedReason"] for values in failed] == ["csp"] * len(chromium.requested)


# Bands and heat maps

HEAT = Heat(
    "Accuracy",
    ["2", "4"],
    ["relu", EVIL, "elu"],
    [[0.0, 0.5, None], [1.0, math.inf, 0.25]],
    "depth",
    "activation",
    "accuracy",
)


def test_a_heat_map_has_levels_between_its_least_and_greatest_number() -> None:
    assert HEAT.levels == [[0.0, 0.5, None], [1.0, None, 0.25]]
    wider = Heat("x", ["a"], ["b", "c"], [[0.0, 1.0]], span=(-1.0, 3.0))
    assert wider.levels == [[0.25, 0.5]]
    assert Heat("x", ["a"], ["b", "c"], [[2.0, 2.0]]).levels == [[0.5, 0.5]]
    with pytest.raises(ValueError, match=r"rows of \[1\], not 1 rows of 2"):
        Heat("x", ["a"], ["b", "c"], [[1.0]])


def test_intervals_are_as_long_as_their_series() -> None:
    with pytest.raises(ValueError, match="a, high has 1 values, and x has 2"):
        Chart("x", [1, 2], [Series("a", [1.0, 2.0], low=[0.0, 1.0], high=[2.0])])


@pytest.mark.parametrize("width", [390, 1280])
def test_heat_maps_and_intervals_are_drawn_and_told(
    chromium: Browser, tmp_path: Path, width: int
) -> None:
    band = Series("a", [1.0, None, 2.0], low=[0.5, None, 1.5], high=[1.5, None, 2.5])
    bars = Series("b", [1.0, 2.0, 3.0], "points", low=[0.5, 1.0, -1.0], high=[1.5, 3.0, math.inf])
    chart = Chart("Both", [1, 2, 3], [band, bars], "steps", "loss", log=True)
    tab = open_page(chromium, Page("x", "", [Section("S", [HEAT, chart], beside=True)]), tmp_path)
    assert_drawn(tab, width, "dark")
    assert tab.run("document.querySelectorAll('svg .heat').length") == 4
    assert tab.run("document.querySelectorAll('svg .none').length") == 2
    assert tab.run("document.querySelectorAll('svg .band').length") == 2
    assert tab.run("document.querySelectorAll('svg .bar').length") == 2
    heat, both = (
        "document.querySelectorAll('figure > svg')[0]",
        "document.querySelectorAll('figure > svg')[1]",
    )
    tab.run(f"{heat}.focus()")
    tab.press("ArrowRight")
    tab.press("ArrowRight")
    assert tab.run("document.querySelector('.tip').textContent").endswith("\naccuracy 0.5")
    tab.run(f"{both}.focus()")
    tab.press("Home")
    told = tab.run("document.querySelectorAll('.tip')[1].textContent")
    assert told == "steps 1\na: 1 (0.5 to 1.5)\nb: 1 (0.5 to 1.5)"
    assert tab.run("document.title") == "x"
