"""What mkdocs does not do by itself: links out of docs/, and the list of pyinit's names."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[2]
LINK_UPWARD = re.compile(r"(?<=\]\()((?:\.\./)+[^)#\s]+)")
NAMES = "<!-- names -->"


def on_config(config: MkDocsConfig) -> None:
    """Anchors are GitHub's, also those of Chinese headings."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Pages name files beside docs/ by relative paths, which hold in the repository alone."""
    here = Path(page.file.abs_src_path).parent

    def target(found: re.Match[str]) -> str:
        path = (here / found[1]).resolve()
        if path.is_relative_to(config.docs_dir) or not path.exists():
            return found[1]
        return f"{config.repo_url}/blob/main/{path.relative_to(ROOT).as_posix()}"

    markdown = LINK_UPWARD.sub(target, markdown)
    return markdown.replace(NAMES, names()) if NAMES in markdown else markdown


@cache
def names() -> str:
    """A table of the names in ``pyinit.__all__``, with the first sentence of each."""
    pyinit = griffe.load("pyinit", search_paths=[ROOT])
    rows = ["| name | |", "|---|---|"]
    for name in sorted(map(str, pyinit.exports or ()), key=str.lower):
        docstring = pyinit[name].docstring
        summary = docstring.value.partition("\n\n")[0] if docstring else ""
        rows.append(f"| [`{name}`][pyinit.{name}] | {' '.join(summary.split())} |")
    return "\n".join(rows)
