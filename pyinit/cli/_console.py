"""How the commands print: results on stdout, progress on stderr."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

WIDE = 140
"""Columns of what reports and other wide tables have in files."""


def stdout(width_in_files: int = 100) -> Console:
    width = None if sys.stdout.isatty() else width_in_files
    return Console(width=width, highlight=False, markup=False)


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def progress() -> Progress:
    """A bar that names the current item and goes away in the end; none if stderr is a file."""
    console = Console(stderr=True)
    return Progress(
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def working(what: str) -> Iterator[None]:
    """A bar that moves, for work of unknown length."""
    with progress() as bar:
        bar.add_task(what, total=None)
        yield
