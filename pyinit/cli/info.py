"""``pyinit info``."""

from typing import Any

import click
from rich.table import Table

from pyinit._machine import info as machine_info
from pyinit.cli import _console


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(as_json: bool) -> None:
    """Show versions, instruction sets, threads and the generator in use."""
    answer = machine_info()
    if as_json:
        _console.print_json(answer)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in answer.items():
        table.add_row(name.replace("_", " "), _text(value))
    _console.stdout().print(table)


def _text(value: Any) -> str:
    return ", ".join(value) or "none" if isinstance(value, list) else str(value)
