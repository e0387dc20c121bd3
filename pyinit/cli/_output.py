"""Writes models and reports to files, which are there whole or not at all."""

import json
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from safetensors.torch import _remove_duplicate_names, save_model
from torch import Tensor, nn

from pyinit.cli._model import bad_parameter, one_line
from pyinit.reports.files import replacing


class Savable(Protocol):
    """A report that can be written to a file."""

    def save(self, path: Path) -> None: ...


def check_savable(model: nn.Module) -> None:
    """Check that a model can be written to such a file, whatever its values.

    Raises:
        ValueError: If its state is more than tensors.
        RuntimeError: If tensors share a part of their memory.
    """
    state = model.state_dict()
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(f"safetensors files hold only tensors, not {', '.join(others)}")
    _remove_duplicate_names(state)


def save(model: nn.Module, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a model to ``path``. Tied parameters are stored once.

    The same model and metadata give the same bytes.
    """
    with replacing(path) as partial:
        save_model(model, str(partial), dict(metadata))
        _sort_metadata(partial)


def save_report(report: Savable, path: Path) -> None:
    """Write a report to the file that ``--report`` names."""
    try:
        with ended_in_order():
            report.save(path)
    except OSError as error:
        raise bad_parameter("--report", f"cannot write {path}: {one_line(error)}") from error


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Turn signals that end the program into an exception, which clears away half-written files.

    Within it is a ``KeyboardInterrupt``, since no code of a user's may take it for an error, and at the end
    a ``SystemExit`` with the code that shells give.
    """
    asked = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    is_main = threading.current_thread() is threading.main_thread()
    taken = [s for s in asked if is_main and signal.getsignal(s) == signal.SIG_DFL]
    try:
        for one in taken:
            signal.signal(one, _end)
        yield
    except _Ended as error:
        raise SystemExit(128 + error.number) from None
    finally:
        for one in taken:
            signal.signal(one, signal.SIG_DFL)


class _Ended(KeyboardInterrupt):
    """A signal came that ends the program."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _end(number: int, _: object) -> None:
    raise _Ended(number)


def _sort_metadata(path: Path) -> None:
    """Sort the metadata: safetensors writes it in an order that differs from run to run."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False)
        file.seek(8)
        file.write(text.encode().ljust(size))
