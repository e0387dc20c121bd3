"""README.zh-CN.md is in step with README.md: the same pieces in the same order, with the same code, links and pictures."""

import re
from collections import Counter
from pathlib import Path

import pytest
from markdown_it.token import Token
from markdown_pages import tokens
from paths import ROOT

ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
PAGES = [CHINESE, *sorted((ROOT / "docs/zh").glob("*.md"))]


def pieces(page: Path) -> list[Token]:
    return [token for token, _ in tokens(page)]


def sections(page: Path) -> list[list[Token]]:
    """What follows each heading, without the first paragraph, which leads to the other languages."""
    whole = pieces(page)
    languages = [token.type for token in whole].index("paragraph_close")
    parts: list[list[Token]] = [[]]
    for token in whole[languages + 1 :]:
        if token.type == "heading_open":
            parts.append([])
        parts[-1].append(token)
    return parts


def link(token: Token) -> list[str]:
    return [str(token.attrs["href"])] if token.type == "link_open" else []


def picture(token: Token) -> list[str]:
    return re.findall(r'src="(.+?)" width="(.+?)"', token.content) if "html" in token.type else []


def code(token: Token) -> list[str]:
    return [token.content] if token.type == "code_inline" else []


def test_headings_paragraphs_lists_and_tables_follow_each_other_as_in_english() -> None:
    english, chinese = (
        [(token.type, token.tag) for token in pieces(page) if token.block]
        for page in (ENGLISH, CHINESE)
    )
    assert chinese == english


def test_code_blocks_are_those_of_the_english_page() -> None:
    english, chinese = (
        [(token.info, token.content) for token in pieces(page) if token.type == "fence"]
        for page in (ENGLISH, CHINESE)
    )
    assert chinese == english


@pytest.mark.parametrize("found", [link, picture, code])
def test_a_section_has_the_links_pictures_and_code_of_the_english_one(found) -> None:
    english, chinese = (
        [Counter(each for token in section for each in found(token)) for section in sections(page)]
        for page in (ENGLISH, CHINESE)
    )
    assert any(english)
    assert chinese == english


def test_the_two_lead_to_each_other() -> None:
    for page, other in ((ENGLISH, CHINESE), (CHINESE, ENGLISH)):
        assert any(other.name in link(token) for token in pieces(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_space_stands_between_chinese_and_latin(page: Path) -> None:
    han, latin = r"[\u4e00-\u9fff]", r"[A-Za-z0-9`]"
    for token, line in tokens(page):
        if token.type == "inline":
            joined = re.search(f"{han}{latin}|{latin}{han}", token.content)
            assert not joined, f"line {line}: {joined}"
