"""CITATION.cff says what pyproject.toml says."""

import re

import pytest
from paths import ROOT


def field(file: str, name: str) -> str:
    text = (ROOT / file).read_text(encoding="utf-8")
    (value,) = re.findall(rf'^{name}(?: =|:) "?([\w.-]+)"?$', text, re.MULTILINE)
    return str(value)


@pytest.mark.parametrize("name", ["version", "license"])
def test_the_citation_agrees_with_the_package(name: str) -> None:
    assert field("CITATION.cff", name) == field("pyproject.toml", name)
