"""Python programs in processes of their own."""

import json
import os
import subprocess
import sys
import textwrap
from typing import Any


def run_python(
    *arguments: str, timeout: float = 120, **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """``python`` with these arguments and other variables in the environment; None takes one out of it."""
    variables = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, *arguments],
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def output_of(
    program: str, *arguments: str, timeout: float = 120, **environment: str | None
) -> str:
    """What a program prints that must end well."""
    done = run_python("-c", textwrap.dedent(program), *arguments, timeout=timeout, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def json_of(program: str, *arguments: str, **options: Any) -> Any:
    """What a program prints as JSON."""
    return json.loads(output_of(program, *arguments, **options))
