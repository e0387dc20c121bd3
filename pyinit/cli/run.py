"""``pyinit run``."""

import builtins
import os
import pkgutil
import runpy
import signal
import sys
from io import open_code
from types import ModuleType, TracebackType

import click

from pyinit._patch import patch, unpatch
from pyinit._random.rng import NAMES, RngName
from pyinit._torch import tally
from pyinit._torch.tally import Tally
from pyinit.cli._summary import summary


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("-m", "as_module", is_flag=True, help="TARGET is the name of a module.")
@click.option(
    "--rng",
    type=click.Choice(NAMES),
    default="torch",
    show_default=True,
    help="Whose numbers the program gets.",
)
@click.option("--quiet", is_flag=True, help="Print no summary at the end.")
@click.argument("target")
@click.argument("arguments", metavar="[ARGS]...", nargs=-1, type=click.UNPROCESSED)
def run(
    as_module: bool, rng: RngName, quiet: bool, target: str, arguments: tuple[str, ...]
) -> None:
    """Run a Python program with torch.nn.init patched.

    TARGET is a script, a folder or zip file with a __main__.py, or, with -m, a module. Everything
    after it goes to the program. With --rng torch the program gets the numbers that it would get
    under python; with --rng philox it gets pyinit's own, and with --rng
    torch.func those of torch's stateless generator. When the program has ended well, stderr
    says what was native, what was torch's own, and the time that this has saved.
    """
    if not as_module and not os.path.exists(target):
        raise click.BadParameter(f"no such file: {target}", param_hint="'TARGET'")
    patch(rng)
    counted = None if quiet else tally.start()
    sys.argv = [target, *arguments]
    sys.excepthook = sys.__excepthook__  # the command's own is for the time until here
    try:
        if as_module:
            _set_first_path(os.getcwd())
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        elif pkgutil.get_importer(target) is not None:
            _set_first_path(folder := os.path.abspath(target))
            runpy.run_path(folder, run_name="__main__")
        else:
            _set_first_path(os.path.dirname(os.path.realpath(target)))
            _run_script(target)
    except SystemExit as end:
        if end.code in (None, 0):
            _say(counted)
        raise
    except BaseException as error:  # noqa: BLE001  click takes some for its own
        error.__traceback__ = _of_program(error.__traceback__)
        sys.excepthook(type(error), error, error.__traceback__)
        interrupted = isinstance(error, KeyboardInterrupt)
        raise SystemExit(128 + signal.SIGINT if interrupted else 1) from None
    _say(counted)


def _say(counted: Tally | None) -> None:
    """Print what was counted, after everything that the program has printed."""
    if counted is None:
        return
    tally.stop()
    unpatch()
    sys.stdout.flush()
    for line in summary(counted):
        click.echo(f"pyinit: {line}", err=True)


def _set_first_path(path: str) -> None:
    """Put the program's folder in the place in sys.path where python put the command's."""
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        sys.path[0] = path


def _run_script(path: str) -> None:
    """Run a script as python does: unlike under runpy, ``__main__`` remains afterwards."""
    main = ModuleType("__main__")
    main.__file__ = path = os.path.abspath(path)
    vars(main)["__builtins__"] = builtins
    sys.modules["__main__"] = main
    with open_code(path) as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    exec(code, vars(main))  # noqa: S102


def _of_program(traceback: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that begins with the program's first frame."""
    while traceback and traceback.tb_frame.f_globals.get("__name__") in {__name__, "runpy"}:
        traceback = traceback.tb_next
    return traceback
