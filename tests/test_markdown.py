"""What README and docs say by example: Python blocks run, commands and their options exist, links and paths lead somewhere."""

import ast
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import click
import pytest
import torch
from markdown_it.token import Token
from markdown_pages import tokens
from paths import ROOT
from programs import output_of

import pyinit
from pyinit._random.rng import has_stateless
from pyinit.cli import main

CHINESE_README = ROOT / "README.zh-CN.md"
CHINESE_TUTORIAL = ROOT / "docs/zh/tutorial.md"
COPIES = {CHINESE_README, CHINESE_TUTORIAL}  # their blocks are those of others, by test_chinese.py
PAGES = [
    ROOT / "README.md",
    CHINESE_README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/tutorials").glob("*.md")),
    *sorted((ROOT / "docs/zh").glob("*.md")),
]
TUTORIALS = (
    ROOT / "docs/tutorials"
)  # their blocks are pieces of one program: test_tutorials.py runs it
FOLDERS = (
    "pyinit",
    "csrc",
    "tests",
    "bench",
    "docs",
    "examples",
    "scripts",
    "tools",
    "cmake",
    ".ci",
)
OPTIONAL = ("keras", "jax", "transformers")
LANGUAGES = {"python", "sh", "text", "toml", "json", "cpp"}


def found(chosen: Any) -> list[Any]:
    """A parameter for each piece that is chosen, by page and line."""
    return [
        pytest.param(page, line, token, id=f"{page.relative_to(ROOT)}:{line}")
        for page in PAGES
        for token, line in tokens(page)
        if chosen(token)
    ]


def language(token: Token) -> str:
    return token.info.partition(" ")[0]


def python_blocks() -> list[Any]:
    """Each once."""
    blocks = found(lambda token: token.type == "fence" and language(token) == "python")
    return [
        block
        for block in blocks
        if block.values[0] not in COPIES and block.values[0].parent != TUTORIALS
    ]


@contextmanager
def state_restored() -> Iterator[None]:
    """What a block may change in this process, beyond what every test has restored."""
    registries = [
        register.__globals__["_REGISTRY"]
        for register in (pyinit.register_recipe, pyinit.initializers.register)
    ]
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    with (
        mock.patch.dict(registries[0]),
        mock.patch.dict(registries[1]),
        mock.patch.dict(vars(torch.nn.functional)),
        torch.random.fork_rng(devices=[]),
        torch.enable_grad(),
    ):
        try:
            yield
        finally:
            pyinit.unpatch()
            torch.set_num_threads(threads)
            torch.set_default_dtype(dtype)


@pytest.mark.parametrize(("page", "line", "token"), python_blocks())
def test_a_python_block_runs_by_itself(
    page: Path, line: int, token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in OPTIONAL:
        if f"import {library}\n" in token.content and not find_spec(library):
            pytest.skip(f"{library} is not installed")
    if "torch.func" in token.content and not has_stateless():
        pytest.skip("torch has its stateless generator from 2.14 on")
    block = ModuleType(f"block_{line}")
    monkeypatch.setitem(sys.modules, block.__name__, block)  # dataclasses look their module up
    source = "\n" * line + token.content  # so that errors name the lines of the page
    with state_restored():
        exec(compile(source, str(page), "exec"), vars(block))  # noqa: S102


@cache
def at_import() -> set[str]:
    """What pyinit has, or looks up, when nothing but pyinit has been imported."""
    return set(
        output_of("import pyinit as p; print(*vars(p), *p._LATER, *p._OF_LIBRARIES)").split()
    )


@pytest.mark.parametrize(("page", "line", "token"), python_blocks())
def test_a_python_block_imports_the_modules_it_names(page: Path, line: int, token: Token) -> None:
    """Which no run in this process would tell: other tests have imported them."""
    nodes = list(ast.walk(ast.parse(token.content)))
    imported = {
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    }
    named = {
        f"pyinit.{node.attr}"
        for node in nodes
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pyinit"
        if node.attr not in at_import()
    }
    assert not {name for name in named - imported if find_spec(name)}


@pytest.mark.parametrize(
    ("page", "line", "token"), found(lambda t: t.type in {"fence", "code_block"})
)
def test_a_block_says_its_language(page: Path, line: int, token: Token) -> None:
    assert token.type == "fence", "indented: no test would see it"
    assert language(token) in LANGUAGES


def commands(text: str) -> list[list[str]]:
    """The arguments of each call of pyinit in lines of a shell."""
    calls = []
    for command in re.split(r"&&|\n|;", text.replace("\\\n", " ")):
        words = shlex.split(re.sub(r"> *\S+", "", command), comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            del words[0]
        if words[:1] == ["pyinit"]:
            calls.append([word for word in words[1:] if word != "..."])
    return calls


def calls_pyinit(token: Token) -> bool:
    if token.type == "fence":
        return language(token) == "sh" and bool(commands(token.content))
    return token.type == "code_inline" and token.content.startswith("pyinit ")


def called(call: list[str]) -> tuple[click.Command, list[str]]:
    """The command, and what is left for it."""
    if not call or call[0].startswith("-"):
        return main, call
    assert call[0] in main.commands, f"no command pyinit {call[0]}"
    return main.commands[call[0]], call[1:]


@pytest.mark.parametrize(("page", "line", "token"), found(calls_pyinit))
def test_a_command_takes_the_arguments_it_is_given(page: Path, line: int, token: Token) -> None:
    for call in commands(token.content):
        command, arguments = called(call)
        context = click.Context(command)
        _, surplus, _ = command.make_parser(context).parse_args(arguments)
        assert not surplus or context.allow_extra_args


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings."""
    pieces = list(tokens(page))
    titles = [
        following.content
        for (token, _), (following, _) in pairwise(pieces)
        if token.type == "heading_open"
    ]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def is_relative_link(token: Token) -> bool:
    if token.type not in {"link_open", "image"}:
        return False
    return "://" not in str(token.attrs.get("href") or token.attrs.get("src"))


@pytest.mark.parametrize(("page", "line", "token"), found(is_relative_link))
def test_a_link_leads_somewhere(page: Path, line: int, token: Token) -> None:
    target = str(token.attrs.get("href") or token.attrs.get("src"))
    path, _, anchor = target.partition("#")
    there = page.parent / path if path else page
    assert there.exists()
    assert not anchor or anchor in anchors(there)


def paths(token: Token) -> list[str]:
    """Those of the sources that code names, by itself or as an argument of a command."""
    if token.type != "code_inline" and not (token.type == "fence" and language(token) == "sh"):
        return []
    folders = "|".join(map(re.escape, FOLDERS))
    return re.findall(rf"(?<![\w./-])(?:{folders})/[\w./*-]*", token.content)


@pytest.mark.parametrize(("page", "line", "token"), found(paths))
def test_a_path_exists(page: Path, line: int, token: Token) -> None:
    for path in paths(token):
        assert any(ROOT.glob(path)), f"nothing at {path}"


def public_names(token: Token) -> list[str]:
    """Those of pyinit that code in a line names in full."""
    if token.type != "code_inline":
        return []
    return re.findall(r"(?<![\w./-])pyinit(?!\.json\b)((?:\.[a-zA-Z]\w*)+)", token.content)


def exists(name: str) -> bool:
    try:
        attrgetter(name[1:])(pyinit)
    except AttributeError:  # or it is a module that nothing has imported yet
        return find_spec("pyinit" + name) is not None
    except ImportError as error:  # of a library that is not installed
        pytest.skip(str(error))
    return True


@pytest.mark.parametrize(("page", "line", "token"), found(public_names))
def test_a_name_of_pyinit_exists(page: Path, line: int, token: Token) -> None:
    for name in public_names(token):
        assert exists(name), f"there is no pyinit{name}"
