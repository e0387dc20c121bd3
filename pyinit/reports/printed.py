"""What reports and lists look like that rich prints: as text, and in a notebook."""

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pyinit.reports import table

if TYPE_CHECKING:
    from rich.console import Console

_T = TypeVar("_T")

_HTML = '<pre style="overflow-x: auto; line-height: normal">{code}</pre>'


class Printed:
    """Something that rich prints, with the same look under ``print`` and as a cell of a notebook.

    A subclass has ``__rich_console__`` or ``__rich__``, and may set the width of its text.
    """

    width_as_text: ClassVar[int] = 140

    def __str__(self) -> str:
        console = _console(self.width_as_text)
        with console.capture() as capture:
            console.print(self)
        return capture.get().rstrip()

    def _repr_html_(self) -> str:
        console = _console(self.width_as_text)
        console.print(self)
        made: str = console.export_html(code_format=_HTML, inline_styles=True)
        return made


class Listed(Printed, dict[str, _T]):
    """Things by their names, in the order of the names. Printed, they are a table.

    Args:
        what: what they are, the title of the first column
        attributes: the attributes that the table has, and the titles of their columns
        members: the things by their names
    """

    def __init__(self, what: str, attributes: Sequence[str], members: Mapping[str, _T]) -> None:
        super().__init__(sorted(members.items()))
        self._titles = (what, *attributes)

    def __rich__(self) -> Any:
        listed = table.columns(*self._titles)
        for name, member in self.items():
            listed.add_row(name, *(getattr(member, title) for title in self._titles[1:]))
        return listed


def _console(width: int) -> "Console":
    from rich.console import Console  # noqa: PLC0415  it takes longer to import than all of pyinit

    return Console(
        width=width, highlight=False, markup=False, color_system=None, record=True, file=StringIO()
    )
