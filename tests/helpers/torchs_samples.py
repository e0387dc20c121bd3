"""torch's descriptions of its own functions, with samples of their arguments."""

import functools
import sys
import types
import unittest
import warnings
from typing import Any


@functools.cache
def torchs_samples() -> dict[str, Any]:
    """By the functions' names. torch's module imports a package that only torch's tests need."""
    sys.modules.setdefault(
        "expecttest",
        types.SimpleNamespace(TestCase=unittest.TestCase),  # type: ignore[arg-type]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db  # noqa: PLC0415
    return {op.name: op for op in op_db}
