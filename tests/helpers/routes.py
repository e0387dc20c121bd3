"""Which way a call takes: through pyinit's kernels, as operators of torch's dispatcher, or to torch."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import Lock
from typing import Any
from unittest.mock import patch

from pyinit import _core, functional
from pyinit._functional import compute, operators

KERNELS = (
    "convolve",
    "convolve_transposed",
    "convolve_weight_gradient",
    "sum_channels",
    "activate",
    "activate_backward",
    "softmax",
    "softmax_backward",
    "im2col",
    "col2im",
    "gemm",
)


Calls = Counter[str]


def _counted(calls: Calls, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    lock = Lock()

    @wraps(function)
    def count(*args: Any, **kwargs: Any) -> Any:
        with lock:
            calls[name] += 1
        return function(*args, **kwargs)

    return count


@contextmanager
def counted_kernels() -> Iterator[Calls]:
    """Count how often each of the kernels runs."""
    calls: Calls = Counter()
    kernels = {name: _counted(calls, name, getattr(_core, name)) for name in KERNELS}
    by_target = tuple(kernels[kernel.__name__] for kernel in compute._KERNELS)
    with patch.multiple(_core, **kernels), patch.object(compute, "_KERNELS", by_target):
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
