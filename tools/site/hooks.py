"""What mkdocs does not do by itself: links out of docs/, GitHub's anchors, and lists of names and commands."""

import re
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any

import click
import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

from pyinit.cli import main

ROOT = Path(__file__).parents[2]
UPWARD = re.compile(r"(?<=\]\()(?:\.\./)+[^)#\s]+")


def on_config(config: MkDocsConfig) -> None:
    """Anchors are GitHub's, also those of Chinese headings."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Links to files beside docs/ lead to the repository, and lists stand where a comment asks for them."""
    here = Path(str(page.file.abs_src_path)).parent

    def address(found: re.Match[str]) -> str:
        path = (here / found[0]).resolve()
        if path.is_relative_to(config.docs_dir) or not path.exists():
            return found[0]
        return f"{config.repo_url}/blob/main/{path.relative_to(ROOT).as_posix()}"

    markdown = UPWARD.sub(address, markdown)
    for comment, lines in LISTS.items():
        if comment in markdown:
            markdown = markdown.replace(comment, "\n".join(lines()))
    return markdown


def names() -> Iterator[str]:
    """A table of ``pyinit.__all__``, with the first sentence of each docstring."""
    extensions = griffe.load_extensions(str(ROOT / "tools/site/docstrings.py"))
    pyinit = griffe.load("pyinit", search_paths=[ROOT], extensions=extensions)
    yield "| name | what it is |"
    yield "|---|---|"
    for name in sorted(map(str, pyinit.exports or ()), key=str.lower):
        docstring = pyinit[name].docstring
        summary = docstring.value.partition("\n\n")[0] if docstring else ""
        yield f"| [`{name}`][pyinit.{name}] | {' '.join(summary.split())} |"


def commands() -> Iterator[str]:
    """What ``--help`` says of each command."""
    for name, command in main.commands.items():
        context = click.Context(command, info_name=f"pyinit {name}")
        usage = " ".join(command.collect_usage_pieces(context))
        yield f"## pyinit {name}\n\n```text\npyinit {name} {usage}\n```\n"
        yield plain(re.sub(r"(?m)^ +", "", command.help or ""))
        records = (each.get_help_record(context) for each in command.get_params(context))
        for option, what in filter(None, records):
            if what:  # arguments have none: the text above describes them
                yield f"\n* **`{option}`**<br>{plain(what)}"
        yield ""


def plain(text: str) -> str:
    """Help, whose marks are no Markdown, except code in backticks."""
    pieces = text.split("`")
    pieces[::2] = (
        re.sub(r"([*_\[])", r"\\\1", escape(piece, quote=False)) for piece in pieces[::2]
    )
    return "`".join(pieces)


LISTS: dict[str, Callable[[], Iterator[str]]] = {
    "<!-- names -->": names,
    "<!-- commands -->": commands,
}
