"""What a browser makes of a page."""

from pathlib import Path

from browser import Browser

from pyinit.reports.page import Page


def open_page(tab: Browser, page: Page, folder: Path) -> Browser:
    path = folder / "page.html"
    path.write_text(page.html(), encoding="utf-8")
    tab.show(1280)
    tab.open(path)
    return tab


BOXES = """(() => {
  const box = (node) => (({left, top, right, bottom}) => [left, top, right, bottom])(node.getBoundingClientRect());
  return [...document.querySelectorAll("figure > svg")].map((picture) => ({
    picture: box(picture),
    marks: [...picture.querySelectorAll(".mark")].map(box),
    lines: [...picture.querySelectorAll(".path")].map((line) => line.getTotalLength()),
    texts: [...picture.querySelectorAll("text")].filter((text) => text.textContent).map(box),
  }));
})()"""


def inside(inner: list[float], outer: list[float]) -> bool:
    return (
        all(inner[side] >= outer[side] - 1 for side in (0, 1))
        and all(inner[side] <= outer[side] + 1 for side in (2, 3))
        and inner[2] > inner[0]
        and inner[3] >= inner[1]
    )


def assert_drawn(tab: Browser, width: int, scheme: str) -> None:
    """Assert that all pictures are there, whole, and that nothing was requested or logged."""
    tab.show(width, scheme=scheme)
    pictures = tab.run(BOXES)
    assert pictures
    for drawn in pictures:
        left, top, right, bottom = drawn["picture"]
        assert right - left > min(0.7 * width, 400)
        assert bottom - top > 100
        assert all(inside(box, drawn["picture"]) for box in drawn["marks"] + drawn["texts"])
        assert drawn["marks"] or all(length > 100 for length in drawn["lines"])
        assert len(drawn["texts"]) > 2
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.requested == []
    assert tab.logged == []
