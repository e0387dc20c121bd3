"""The Chinese pages are in step with the English ones.

README.zh-CN.md has the pieces of README.md in the same order, with the same code, links and pictures. The pages in docs/zh
tell less than their originals: they have the same sections, with the same code and pictures, and no number or name that the
original lacks.
"""

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it.token import Token
from markdown_pages import tokens
from paths import ROOT

ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
PAGES = [CHINESE, *sorted((ROOT / "docs/zh").glob("*.md"))]
STUDIES, CHINESE_STUDIES = ROOT / "docs/studies.md", ROOT / "docs/zh/studies.md"
TITLES = {  # the others are the same: names of studies
    "Studies": "比较初始化的研究",
    "Metrics": "指标",
    "How a claim is judged": "怎样检验论断",
    "The report": "报告",
    "pyinit's own studies": "内置的研究",
    "The studies of the articles": "文章里的比较",
    "Figures of the literature": "论文里的图",
}


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


@dataclass
class Section:
    level: str
    title: str
    tokens: list[Token]

    @property
    def source(self) -> str:
        return "\n".join(token.content for token in self.tokens)


def titled(page: Path) -> list[Section]:
    found: list[Section] = []
    for token, following in pairwise([*pieces(page), Token("end", "", 0)]):
        if token.type == "heading_open":
            found.append(Section(token.tag, following.content, []))
        found[-1].tokens.append(token)
    return found


def programs(section: Section) -> list[tuple[str, str]]:
    """Its blocks of code, without what is there for a reader: comments, and sentences in quotation marks."""
    prose = re.compile(r' *#.*|(?<=text=)".*?"|(?<=question = )".*?"')
    return [(t.info, prose.sub("", t.content)) for t in section.tokens if t.type == "fence"]


def names_in_tables(section: Section) -> Counter[str]:
    names, inside = Counter[str](), False
    for token in section.tokens:
        if token.type in {"table_open", "table_close"}:
            inside = token.type == "table_open"
        if inside:
            names.update(code(token))
    return names


def sources_of_pictures(section: Section) -> list[str]:
    return [Path(src).name for token in section.tokens for src, _ in picture(token)]


def counts(page: Path) -> list[str]:
    """The lines of the table of outcomes."""
    return re.findall(r"^\| \[`.*", page.read_text(encoding="utf-8"), re.MULTILINE)


SECTIONS = [
    pytest.param(english, chinese, id=english.title)
    for english, chinese in zip(titled(STUDIES), titled(CHINESE_STUDIES), strict=False)
]


def test_the_studies_have_the_headings_of_the_english_page() -> None:
    english, chinese = titled(STUDIES), titled(CHINESE_STUDIES)
    expected = [(section.level, TITLES.get(section.title, section.title)) for section in english]
    assert [(section.level, section.title) for section in chinese] == expected


@pytest.mark.parametrize("found", [programs, names_in_tables, sources_of_pictures])
@pytest.mark.parametrize(("english", "chinese"), SECTIONS)
def test_a_section_of_the_studies_has_what_the_english_one_has(
    found, english: Section, chinese: Section
) -> None:
    assert found(chinese) == found(english)


@pytest.mark.parametrize(("english", "chinese"), SECTIONS)
def test_a_section_of_the_studies_names_nothing_that_the_english_one_lacks(
    english: Section, chinese: Section
) -> None:
    names = {name for token in chinese.tokens for name in code(token)}
    assert not {name for name in names if name not in english.source}
    decimals = [set(re.findall(r"\d+\.\d+", part.source)) for part in (english, chinese)]
    assert decimals[1] <= decimals[0]


def test_the_outcomes_of_the_studies_are_those_of_the_english_page() -> None:
    assert counts(STUDIES)
    assert counts(CHINESE_STUDIES) == counts(STUDIES)


def test_the_studies_lead_to_the_english_page() -> None:
    assert any("../studies.md" in link(token) for token in pieces(CHINESE_STUDIES))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_space_stands_between_chinese_and_latin(page: Path) -> None:
    han, latin = r"[\u4e00-\u9fff]", r"[A-Za-z0-9`]"
    for token, line in tokens(page):
        if token.type == "inline":
            joined = re.search(f"{han}{latin}|{latin}{han}", token.content)
            assert not joined, f"line {line}: {joined}"
