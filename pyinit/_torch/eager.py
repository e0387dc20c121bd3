"""Keep torch.compile out of code that works on raw memory."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

_P = ParamSpec("_P")
_R = TypeVar("_R")

_eval_frame = torch._C._dynamo.eval_frame


def eager(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Mark a function that torch.compile must call as it is: the graph breaks around it.

    It does what ``torch.compiler.disable`` does, but adds no wrapper to each call, and does not import
    the compiler.
    """
    function._torchdynamo_disable = True  # type: ignore[attr-defined]  # compiled callers break
    skip = _eval_frame._FrameAction.SKIP  # its own frame, and those below, run as they are
    _eval_frame.set_code_exec_strategy(
        function.__code__, _eval_frame._FrameExecStrategy(skip, skip)
    )
    return function
