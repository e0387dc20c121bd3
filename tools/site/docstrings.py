"""What griffe is told of pyinit's docstrings before mkdocstrings renders them."""

import re
from textwrap import dedent
from typing import Any

from griffe import Attribute, Docstring, Extension, Object

EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
REFERENCES = re.compile(r"^References:\n((?: {4}.*\n?)+)", re.MULTILINE)
TITLE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
PAGE = re.compile(r"`{0,2}docs/(\w+)\.md`{0,2}")


def references(section: re.Match[str]) -> str:
    text = TITLE.sub(r"*\1*", dedent(section[1]))
    return f"**References:**\n\n{text}"


class Docstrings(Extension):
    """Doctests become examples, names of pages become links, and aliases say what they are."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring:
            text = EXAMPLE.sub("Examples:", obj.docstring.value)
            text = REFERENCES.sub(references, text)
            obj.docstring.value = PAGE.sub(r"[\1.md](../\1.md)", text)

    def on_attribute(self, *, attr: Attribute, **_: Any) -> None:
        """``uniform = _deprecated(uniform_)`` has its docstring at run time alone."""
        if str(attr.value).startswith("_deprecated("):
            text = f"Deprecated alias, as in torch: use ``{attr.name}_``."
            attr.docstring = Docstring(text, parent=attr)
