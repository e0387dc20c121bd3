"""The site that mkdocs makes of docs/ is whole: every page and name is on it, every link leads somewhere, all comes with it."""

from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from paths import ROOT
from programs import run_python

griffe = pytest.importorskip("griffe", reason="needs the extra docs")
mkdocstrings = pytest.importorskip("mkdocstrings", reason="needs the extra docs")

DOCS = ROOT / "docs"
NESTED = (  # beside the modules that stand in pyinit/ itself
    "data_driven.distances",
    "inspection.theory",
    "nn.grad",
    "whole_model.recipes",
    "whole_model.rules",
)
STRUCTURE = {"h1", "h2", "h3", "h4", "ul", "ol", "li", "table", "tr", "td", "pre", "code", "img"}


class Html(HTMLParser):
    """A page of the site: its anchors, what it refers to, what it loads, and the elements of its text."""

    def __init__(self, text: str, is_whole: bool = True) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.elements = Counter[str]()
        self._in_text = not is_whole
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self._in_text |= tag == "article"
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag in {"img", "script", "link", "iframe"}:
            self.loaded += [found[name] for name in ("src", "href") if name in found]
        elif "href" in found:
            self.links.append(found["href"])
        if self._in_text and tag in STRUCTURE:
            self.elements[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "article":
            self._in_text = False


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-f",
        str(ROOT / "mkdocs.yml"),
        "-d",
        str(folder),
    ]
    built = run_python(*command, timeout=600)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Html]:
    return {path: Html(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_every_public_name_has_an_entry(site: Path, pages: dict[Path, Html]) -> None:
    package = griffe.load("pyinit", search_paths=[ROOT])
    doors = [name for name in package.modules if name[0] != "_" and not package[name].is_alias]
    modules = [package, *(package[name] for name in (*doors, *NESTED))]
    names = {f"{module.path}.{name}" for module in modules for name in module.exports or ()}
    with (site / "objects.inv").open("rb") as file:
        known = set(mkdocstrings.Inventory.parse_sphinx(file))
    known |= {each for page in pages.values() for each in page.anchors}
    assert len(names) > 200
    missing = names - known
    assert not missing


def test_a_page_has_on_the_site_what_the_repository_shows(
    pages: dict[Path, Html], site: Path
) -> None:
    """Their dialects of Markdown differ in lists and blocks of code."""
    written = [path.relative_to(DOCS) for path in DOCS.rglob("*.md") if path.parent.name != "api"]
    for path in written:
        text = (DOCS / path).read_text(encoding="utf-8")
        shown = Html(MarkdownIt("commonmark").enable("table").render(text), is_whole=False)
        assert pages[site / path.with_suffix(".html")].elements == shown.elements, path


def test_every_link_and_picture_leads_somewhere(pages: dict[Path, Html]) -> None:
    for path, page in pages.items():
        for target in (*page.links, *page.loaded):
            file, _, anchor = target.partition("#")
            if "://" in target or path.name == "404.html":  # whose links start at the site's root
                continue
            there = (path.parent / file).resolve() if file else path
            assert there.exists(), f"{path}: {target}"
            if anchor and there in pages:
                assert anchor in pages[there].anchors, f"{path}: {target}"


def test_a_page_loads_nothing_from_elsewhere(pages: dict[Path, Html]) -> None:
    assert not [each for page in pages.values() for each in page.loaded if "//" in each]
