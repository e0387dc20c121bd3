"""Fills with the numbers of torch's stateless generator, ``torch.func._random``.

A key of that generator is a seed and an offset: the words are those of stream 0 of pyinit's key ``seed``,
from block ``offset`` on. Before its first use each case (function and dtype) is run beside the installed
torch. Where bits differ, torch's own operator does the work, and ``fallbacks`` says so.
"""

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.overrides import has_torch_function_variadic

from pyinit import _core
from pyinit._random.distributions import NORMAL, UNIFORM, Distribution, Parameters
from pyinit._random.rng import Key, Source, get_rng, rng, seed_and_offset, take_key
from pyinit._random.torch_cases import note
from pyinit._torch import tally
from pyinit._torch.original import methods
from pyinit._torch.views import (
    DTYPES,
    LARGEST,
    View,
    dtype_name,
    overridden,
    writable_flat_view,
    writable_view,
)

_threads = torch.get_num_threads
_operators: Any = torch._C._VariableFunctions
_is_grad_enabled = torch.is_grad_enabled
_set_grad_enabled = torch._C._set_grad_enabled
_increment_version = torch._C._increment_version

_SMALL = 512
"""Up to so many elements torch's operator is done sooner, if it is given the key."""

_DTYPES = {code: dtype for dtype, code in DTYPES.items()}
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by item size

TorchKey = tuple[int, int]
"""Seed and offset."""


class _Case(NamedTuple):
    """Torch's operator for a distribution, pyinit's kernel, and the method that checks parameters."""

    operator: str
    kernel: str
    method: str
    samples: tuple[Parameters, ...]

    def by_kernel(
        self, view: View, parameters: Parameters, key: TorchKey, way: int, *rest: Any
    ) -> None:
        getattr(_core, self.kernel)(view, *parameters, key, way, *rest)

    def by_torch(self, tensor: Tensor, key: Any, a: Any, b: Any) -> None:
        usual = _is_grad_enabled()
        _set_grad_enabled(False)
        try:
            getattr(_operators, self.operator)(tensor, key, a, b)
        finally:
            _set_grad_enabled(usual)


_CASES: dict[Distribution, _Case] = {
    UNIFORM: _Case(
        "_philox_uniform_",
        "torch_func_uniform",
        "uniform_",
        ((0.0, 1.0), (-0.1, 0.3), (1.0, 1.0 + 2.0**-21), (-3.0, 70.0)),
    ),
    NORMAL: _Case(
        "_philox_normal_",
        "torch_func_normal",
        "normal_",
        ((0.0, 1.0), (0.3, 0.02), (-2.0, 30.0)),
    ),
}


# ---- Keys ----------------------------------------------------------------------------------------


def torch_key(source: Source) -> TorchKey:
    """The key of ``torch.func._random`` that a fill has.

    Without one, and from a ``torch.Generator``, 64 bits are drawn, which are a seed. Stream 0 of a ``Key`` is
    the key ``key(seed)`` of torch's, and any other stream is folded into it.
    """
    if isinstance(source, Tensor):
        return seed_and_offset(source)
    if isinstance(source, torch.Generator) and source.device.type != "cpu":
        word = torch.empty((), dtype=torch.int64, device=source.device)
        return int(word.random_(-(2**63), None, generator=source).item()) % 2**64, 0
    with rng("philox"):
        drawn = take_key(source)
    if drawn is None:
        raise TypeError(
            "generator must be a torch.Generator or a key of torch.func._random, "
            f"got {type(source).__name__}"
        )
    return folded(Key(*drawn))


def folded(key: Key) -> TorchKey:
    """``torch.func._random.fold_in(key(seed), stream)``; for stream 0 the key itself."""
    seed, stream = key
    if stream == 0:
        return seed, 0
    a, b, c, d = _core.philox4x32((*_halves(stream), 0, 0), _halves(seed))
    return a | b << 32, c | d << 32


def _halves(word: int) -> tuple[int, int]:
    return word % 2**32, word >> 32


def _as_tensor(key: TorchKey, device: torch.device) -> Tensor:
    return torch.tensor(key, dtype=torch.uint64, device=device)


# ---- The check -----------------------------------------------------------------------------------

_SHAPES = ((1,), (6,), (643,), (23, 28))
_KEYS = (
    (0, 0),
    (2**64 - 1, 7),
    (0x9E3779B97F4A7C15, 2**64 - 30),
)  # the offset of the last runs over

_verdicts: dict[tuple[str, int], int | None] = {}
"""By operator and dtype code: the way of rounding that agrees with torch, None if none does."""


def _arithmetic_of(case: _Case, code: int) -> int | None:
    try:
        return _verdicts[case.operator, code]
    except KeyError:
        verdict = next((way for way in _ways(case, code) if _is_same(case, code, way)), None)
        _verdicts[case.operator, code] = verdict
        if verdict is None:
            dtype = dtype_name(_DTYPES[code])
            note(
                f"torch.func {case.method}, {dtype}: torch {torch.__version__} draws other numbers"
            )
        return verdict


def _ways(case: _Case, code: int) -> Iterable[int]:
    if code not in (_core.FLOAT32, _core.FLOAT64):  # they hide how a float is rounded
        way = _arithmetic_of(case, _core.FLOAT32)
        return () if way is None else (way,)
    ways = range(_core.TORCH_FUNC_ARITHMETICS)
    return ways if _core.torch_func_matches_libm() else ways[len(ways) // 2 :]  # by the C library


def _is_same(case: _Case, code: int, way: int) -> bool:
    for shape in _SHAPES:
        for key in _KEYS:
            for parameters in case.samples:
                theirs = torch.full(shape, math.nan, dtype=_DTYPES[code], device="cpu")
                ours = torch.full_like(theirs, math.nan)
                try:
                    case.by_torch(theirs, _as_tensor(key, theirs.device), *parameters)
                except Exception:  # noqa: BLE001  whatever a torch to come may raise: the caller hears it
                    return False
                view = writable_view(ours)
                if view is None:
                    return False
                case.by_kernel(view, parameters, key, way, 1)
                if not torch.equal(_bits(theirs), _bits(ours)):
                    return False
    return True


def _bits(tensor: Tensor) -> Tensor:
    return tensor.view(_BITS[tensor.element_size()])


# ---- Fills ---------------------------------------------------------------------------------------


def fill(distribution: Distribution, tensor: Tensor, a: Any, b: Any, generator: Source) -> bool:
    """Draw what ``torch.func._random`` draws from that distribution; False where a kernel does not."""
    case = _CASES[distribution]
    if (
        isinstance(generator, Tensor)
        and (type(tensor) is Parameter or type(tensor) is Tensor)
        and a.__class__ is float
        and b.__class__ is float
        and (a if distribution is UNIFORM else 0.0) <= b
        and not has_torch_function_variadic(tensor)
        and 0 < tensor.numel() <= _SMALL
        and tensor.is_cpu
    ):
        case.by_torch(tensor, generator, a, b)
        if tally.is_counting:
            tally.mark("small")
        return True
    view = writable_flat_view(tensor)
    numbers = (a, b) if a.__class__ is float and b.__class__ is float else (_number(a), _number(b))
    if view is None or not distribution.takes(LARGEST[view.dtype], *numbers):
        return False
    way = _arithmetic_of(case, view.dtype)
    if way is None or (
        isinstance(generator, Tensor) and generator.dim() > 1
    ):  # a key for each slice
        return False
    case.by_kernel(view, numbers, torch_key(generator), way, _threads())
    _increment_version((tensor,))
    if tally.is_counting:
        tally.mark("native")
    return True


def fill_by_torch(
    distribution: Distribution, tensor: Tensor, a: Any, b: Any, generator: Source
) -> None:
    """Have torch's own operator fill a tensor."""
    case = _CASES[distribution]
    if not distribution.takes(math.inf, _number(a), _number(b)):
        # What torch's stateless operators take without a word, torch.nn.init refuses.
        getattr(methods, case.method)(torch.empty(0, device="cpu"), a, b)
    if not overridden(tensor) and tensor.is_meta:
        return
    is_batch = isinstance(generator, Tensor) and generator.dim() > 1
    key = generator if is_batch else _as_tensor(torch_key(generator), tensor.device)
    case.by_torch(tensor, key, a, b)
    if tally.is_counting:
        tally.mark("torchs")


def _number(value: object) -> float:
    """A number as a float; NaN for what torch has to convert or to refuse."""
    if isinstance(value, (float, int)) and not isinstance(value, bool):
        return float(value) if abs(value) < 2**1000 else math.nan
    return math.nan


def fill_block(  # noqa: PLR0917
    distribution: Distribution,
    view: View,
    parameters: Parameters,
    key: TorchKey,
    whole: tuple[int, ...] | None = None,
    start: tuple[int, ...] | None = None,
) -> None:
    """Fill a tensor on the CPU as a block of a larger one that ``torch.func._random`` would fill at once.

    Raises:
        NotImplementedError: for a distribution that torch has no stateless function for.
        RuntimeError: if the installed torch draws numbers that are not known here.
    """
    case = _CASES.get(distribution)
    if case is None:
        refuse(f"distribution {distribution.code}")
    way = _arithmetic_of(case, view.dtype)
    if way is None:
        raise RuntimeError(
            f"torch {torch.__version__} draws numbers by torch.func._random that pyinit does not know, "
            "so that it cannot make those of a block"
        )
    case.by_kernel(view, parameters, key, way, _threads(), whole, start)


# ---- What the generator has no function for ------------------------------------------------------


def refuse_other_numbers(function: Callable[..., object], *tensors: Tensor) -> None:
    """Refuse to fill tensors by torch's own function where it would draw numbers of its other generator."""
    if get_rng() != "torch.func" or "generator" not in inspect.signature(function).parameters:
        return
    if any(overridden(tensor) or not tensor.is_meta for tensor in tensors):
        refuse(function.__name__)


def refuse(name: str) -> NoReturn:
    """Refuse what draws numbers of a kind that ``torch.func._random`` has no function for.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        f"{name} draws numbers that torch.func._random has no function for: under pyinit.rng('torch.func') "
        "there are uniform_, normal_ and what scales their numbers (xavier_*, kaiming_*, lecun_*); "
        "pyinit.rng('philox') has the others"
    )
