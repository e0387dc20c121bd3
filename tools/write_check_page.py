"""Writes the pages of all findings into docs/check.md, after the part that is written by hand.

python tools/write_check_page.py
"""

from pathlib import Path

from pyinit.inspection.findings import KINDS

PAGE = Path(__file__).parents[1] / "docs" / "check.md"
_FIRST = "\n## PI"


def page(by_hand: str) -> str:
    """The whole page, from one whose first part is right."""
    return "\n".join((by_hand.partition(_FIRST)[0], *(kind.page for kind in KINDS.values())))[:-1]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")) + "\n", encoding="utf-8")
