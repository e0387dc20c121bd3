"""The Chinese pages are in step with the English ones.

README.zh-CN.md has the pieces of README.md in the same order, with the same code, links and pictures. The pages in docs/zh
tell less than their originals: they have the same sections, with the same code and pictures, and no number or name that the
original lacks.
"""

import ast
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
ORIGINALS = {
    "getting-started.md": ["getting-started.md"],
    "studies.md": ["studies.md"],
    "tutorial.md": ["tutorials/choose_a_start.md", "tutorials/training_does_not_start.md"],
}
TITLES = {  # others are names, and stay as they are
    "Getting started": "快速上手",
    "Installation": "安装",
    "In place of torch.nn.init": "直接替换 torch.nn.init",
    "A whole model": "初始化整个模型",
    "Inside a model that does not learn": "训练不起来时，看看模型内部",  # noqa: RUF001
    "Several initializations compared": "比较几种初始化",
    "Where to go from here": "接下来",
    "Studies": "比较初始化的研究",
    "Metrics": "指标",
    "How a claim is judged": "怎样检验论断",
    "The report": "报告",
    "pyinit's own studies": "内置的研究",
    "The studies of the articles": "文章里的比较",
    "Figures of the literature": "论文里的图",
    "Choose a start for your network": "为网络选择初始化",
    "The network": "网络",
    "What a recipe would give": "先看配方会给出什么",
    "What a batch says": "再看一批数据",
    "What a short training says": "最后看短时间的训练",
    "The losses": "损失曲线",
    "Keep what was chosen": "保存选定的初始化",
    "Why does my training not start?": "为什么训练不起来？",  # noqa: RUF001
    "A network that does not learn": "一个学不动的网络",
    "Is every parameter initialized?": "每个参数都初始化了吗？",  # noqa: RUF001
    "Where do the signals die?": "信号在哪里消失？",  # noqa: RUF001
    "Look at the layers": "逐层来看",
    "The remedy": "解决办法",
    "If the start was sound": "如果初始化没有问题",
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
    level: int
    title: str
    tokens: list[Token]

    @property
    def source(self) -> str:
        return "\n".join(token.content for token in self.tokens)


def titled(page: Path, below: int = 0) -> list[Section]:
    """The sections of a page, or of one that is a part of another."""
    found: list[Section] = []
    for token, following in pairwise([*pieces(page), Token("end", "", 0)]):
        if token.type == "heading_open":
            found.append(Section(int(token.tag[1:]) + below, following.content, []))
        found[-1].tokens.append(token)
    return found


def both(name: str) -> tuple[list[Section], list[Section]]:
    """The sections of the originals and of the Chinese page, which has a title of its own if it is made of several."""
    originals = [ROOT / "docs" / each for each in ORIGINALS[name]]
    several = len(originals) > 1
    english = [section for page in originals for section in titled(page, below=several)]
    return english, titled(ROOT / "docs/zh" / name)[several:]


def program(token: Token) -> tuple[str, str]:
    """A block of code without what is there for its reader: comments, line breaks, and sentences in quotation marks."""
    source = token.content
    if token.info == "python":
        source = ast.unparse(ast.parse(source))
    elif token.info != "text":
        source = re.sub(r" *#.*", "", source)
    return token.info, re.sub(r"""\b(text ?=|question ?=) ?(["']).*?\2""", r"\1", source)


def programs(section: Section) -> list[tuple[str, str]]:
    return [program(token) for token in section.tokens if token.type == "fence"]


def names_in_tables(section: Section) -> Counter[str]:
    names, inside = Counter[str](), False
    for token in section.tokens:
        if token.type in {"table_open", "table_close"}:
            inside = token.type == "table_open"
        if inside:
            names.update(code(token))
    return names


def files_of_pictures(section: Section) -> list[str]:
    images = [str(t.attrs["src"]) for t in section.tokens if t.type == "image"]
    tags = [source for token in section.tokens for source, _ in picture(token)]
    return [Path(source).name for source in images + tags]


@pytest.mark.parametrize("name", ORIGINALS)
def test_a_page_has_the_headings_of_its_original(name: str) -> None:
    english, chinese = both(name)
    expected = [(section.level, TITLES.get(section.title, section.title)) for section in english]
    assert [(section.level, section.title) for section in chinese] == expected


@pytest.mark.parametrize("found", [programs, names_in_tables, files_of_pictures])
@pytest.mark.parametrize("name", ORIGINALS)
def test_a_section_has_the_code_and_pictures_of_its_original(name: str, found) -> None:
    english, chinese = ([found(section) for section in page] for page in both(name))
    assert any(english) or found is not programs
    assert chinese == english


@pytest.mark.parametrize("name", ORIGINALS)
def test_a_section_has_no_name_or_number_that_its_original_lacks(name: str) -> None:
    for english, chinese in zip(*both(name), strict=True):
        names = {each for token in chinese.tokens for each in code(token)}
        assert not {each for each in names if each not in english.source}
        numbers = [set(re.findall(r"\d+\.\d+", each.source)) for each in (english, chinese)]
        assert numbers[1] <= numbers[0], chinese.title


@pytest.mark.parametrize("name", ORIGINALS)
def test_a_page_leads_to_its_originals_and_to_the_other_pages(name: str) -> None:
    links = {each for token in pieces(ROOT / "docs/zh" / name) for each in link(token)}
    others = {page.name for page in PAGES} - {name, CHINESE.name}
    assert {f"../{each}" for each in ORIGINALS[name]} | others <= links


def test_every_page_has_its_originals() -> None:
    assert {page.name for page in PAGES} - {CHINESE.name} == set(ORIGINALS)


def test_the_outcomes_of_studies_are_those_of_the_english_page() -> None:
    english, chinese = (
        re.findall(r"^\| \[`.*", page.read_text(encoding="utf-8"), re.MULTILINE)
        for page in (ROOT / "docs/studies.md", ROOT / "docs/zh/studies.md")
    )
    assert english
    assert chinese == english


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_space_stands_between_chinese_and_latin(page: Path) -> None:
    han, latin = r"[\u4e00-\u9fff]", r"[A-Za-z0-9`]"
    for token, line in tokens(page):
        if token.type == "inline":
            joined = re.search(f"{han}{latin}|{latin}{han}", token.content)
            assert not joined, f"line {line}: {joined}"
