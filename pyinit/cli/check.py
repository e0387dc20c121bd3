"""``pyinit check``."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from pyinit.cli import _console, _options
from pyinit.cli._model import bad_parameter, imported, load, one_line
from pyinit.inspection.check import check as check_model
from pyinit.models import MODELS

_WIDTH_IN_FILES = 160  # of findings, which are sentences
_OF_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_FAILED = 1
_UNCHECKED = 2


def _ignored(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """``WHAT=REASON``, any number of times."""
    found = {}
    for text in given:
        what, equals, reason = text.partition("=")
        if not (equals and what and reason.strip()):
            raise click.BadParameter(f"{text!r} is not CODE=REASON or PATTERN=REASON")
        found[what] = reason
    return found


@click.command(
    help=f"""Check that every parameter and buffer of MODEL is written, once, with sane values.

    MODEL is package.module:factory, one of {", ".join(MODELS)}, or a file or folder of weights. docs/check.md
    has a page for each finding. The exit status is 1 if something is found that is more than
    information, and 2 if the model cannot be checked.
    """
)
@click.argument("model")
@click.option(
    "--init",
    metavar="NAME",
    help="What initializes the model: a method of it, reset_parameters (of every module), or "
    "package.module:function, such as pyinit:initialize_. Without it the factory does.",
)
@click.option(
    "--reproducible",
    is_flag=True,
    help="Check, too, that it comes out the same again, by way of the meta device, and in another process.",
)
@click.option(
    "--ignore",
    metavar="WHAT=REASON",
    multiple=True,
    callback=_ignored,
    help="Do not report a code, or parameters of a name pattern, for the reason given.",
)
@_options.dtype
@_options.kwargs
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def check(
    context: click.Context,
    *,
    model: str,
    init: str | None,
    reproducible: bool,
    ignore: dict[str, str],
    dtype: str | None,
    kwargs: str,
    as_json: bool,
) -> None:
    is_file = model not in MODELS and os.path.exists(model)
    if not is_file and ":" not in model and ("/" in model or model.endswith(_OF_WEIGHTS)):
        raise bad_parameter("MODEL", f"cannot read {model}: No such file or directory")
    if is_file and (init is not None or reproducible):
        raise bad_parameter("MODEL", f"{model} is a file: it has no init, and is not made again")
    # What nothing else initializes has what its constructors draw.
    checked = (
        Path(model) if is_file else partial(load, model, dtype, kwargs, seed=0, drawn=init is None)
    )
    try:
        findings = check_model(
            checked, None if init is None else _init(init), reproducible=reproducible, ignore=ignore
        )
    except click.ClickException:
        raise
    except Exception as error:
        failure = click.ClickException(f"cannot check {model}: {one_line(error)}")
        failure.exit_code = _UNCHECKED  # type: ignore[misc]  # click declares it so, and reads it here
        raise failure from error
    findings = replace(findings, what=model)
    if as_json:
        _console.print_json(findings.to_dict())
    else:
        _console.stdout(_WIDTH_IN_FILES).print(findings)
    if findings.failures:
        context.exit(_FAILED)


def _init(name: str) -> str | Callable[..., Any]:
    return imported("--init", name) if ":" in name else name
