"""Checks that what the package is built on is there: torch, and pyinit's own compiled kernels."""

import torch

_LEAST_TORCH = (2, 9)

if tuple(map(int, torch.__version__.split(".")[:2])) < _LEAST_TORCH:
    raise ImportError(
        f"pyinit needs torch {'.'.join(map(str, _LEAST_TORCH))} or later, and here is torch "
        f"{torch.__version__}: pip install -U torch"
    )
try:
    import pyinit._core  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "pyinit._core":
        raise
    folder = __file__.rpartition("pyinit")[0]
    raise ImportError(
        f"{folder} has pyinit's source without its compiled kernels, and Python looks there first: run it from another "
        "folder to use the installed pyinit, or make it work here, too, by 'pip install -e .'"
    ) from None
