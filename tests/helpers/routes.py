"""Which way a call takes: through pyinit's kernels, as operators of torch's dispatcher, or to torch."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import Lock
from typing import Any
from unittest.mock import patch

from pyinit import _core, functional
from pyinit._functional import operators

BY_TARGET = ("convolve_transposed", "convolve_weight_gradient", "convolve")
KERNELS = (
    "activate",
    "activate_backward",
    "softmax",
    "softmax_backward",
    "im2col",
    "col2im",
    "gemm",
)
OF_TENSORS: dict[str, Callable[[Any], str]] = {
    "convolution": lambda function: BY_TARGET[function.target],
    "contraction": lambda target: BY_TARGET[target],
    "contracted": lambda target: BY_TARGET[target],
    "channel_sums": lambda _: "sum_channels",
}
"""What runs a kernel of convolutions, unless it returns None, and which one by its first argument."""


Calls = Counter[str]


def _counted(calls: Calls, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    lock = Lock()

    @wraps(function)
    def count(*args: Any, **kwargs: Any) -> Any:
        with lock:
            calls[name] += 1
        return function(*args, **kwargs)

    return count


def _counted_if_made(
    calls: Calls, name: Callable[[Any], str], function: Callable[..., Any]
) -> Callable[..., Any]:
    lock = Lock()

    @wraps(function)
    def count(first: Any, *args: Any) -> Any:
        made = function(first, *args)
        if made is not None:
            with lock:
                calls[name(first)] += 1
        return made

    return count


@contextmanager
def counted_kernels() -> Iterator[Calls]:
    """Count how often each of the kernels runs."""
    calls: Calls = Counter()
    kernels = {name: _counted(calls, name, getattr(_core, name)) for name in KERNELS}
    for name, kernel in OF_TENSORS.items():
        kernels[name] = _counted_if_made(calls, kernel, getattr(_core, name))
    with patch.multiple(_core, **kernels):
        yield calls


@contextmanager
def counted_routes() -> Iterator[Calls]:
    """Count kernels, calls of an "operator", and convolutions by "torch"; not for compiled calls."""
    with counted_kernels() as calls:
        operate = _counted(calls, "operator", operators.operate)
        by_torch = _counted(calls, "torch", functional._by_torch)
        with (
            patch.object(operators, "operate", operate),
            patch.object(functional, "_by_torch", by_torch),
        ):
            yield calls
