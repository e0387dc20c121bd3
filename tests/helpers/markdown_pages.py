"""Pages of Markdown, piece by piece."""

from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token


def tokens(page: Path) -> Iterator[tuple[Token, int]]:
    """Its Markdown, with the line that each piece begins at."""
    for token in MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8")):
        line = token.map[0] + 1 if token.map else 0
        yield token, line
        for child in token.children or ():
            yield child, line
