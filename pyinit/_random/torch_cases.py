"""The cases in which pyinit draws torch's own numbers, and the check that each agrees with the installed torch.

Before its first use each case (function, path and dtype) is run beside torch on a generator of its
own. Values and the state after them must be the same, bit for bit; otherwise torch's own function
does the work, and ``fallbacks`` says so. The formulas of the functions that are made of fills
(gains, fans) are compared likewise.
"""

import math
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from types import FunctionType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from pyinit import _core
from pyinit._random.distributions import Parameters
from pyinit._torch.original import methods, original
from pyinit._torch.views import DTYPES, View, dtype_name, writable_flat_view, writable_view

_threads = torch.get_num_threads

_DTYPES = {code: dtype for dtype, code in DTYPES.items()}
FloatArray = npt.NDArray[np.float64]

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by item size
_BLOCK = 16
"""From so many elements on, torch draws the normals of a contiguous tensor in blocks."""

States = tuple[int, int]
"""Addresses of a generator's state before and after a fill."""

_notes: dict[str, None] = {}


def note(what: str) -> None:
    """Keep what went to torch's own functions, and why, for ``fallbacks``."""
    _notes[what] = None


def fallbacks() -> list[str]:
    """What went to torch's own functions although torch's numbers were asked for, and why."""
    return list(_notes)


# ---- The cases -----------------------------------------------------------------------------------


class Case(NamedTuple):
    """A path that a function takes in torch, the same path in pyinit, and samples to compare them on.

    The seeds are such that the ways of rounding (``TORCH_ARITHMETICS``), where they can differ, do
    so in every dtype. A case that is made of another one (``like``) rounds as that one does.
    """

    name: str
    torchs: Callable[[Tensor, Parameters, Generator], object]
    ours: Callable[[Tensor, View, Parameters, States, int], bool]
    samples: tuple[Callable[[torch.dtype], Tensor], ...]
    parameters: tuple[Parameters, ...]
    seeds: tuple[int, ...] = (0,)
    like: "Case | None" = None


def fill_uniform(_: Tensor, view: View, p: Parameters, states: States, arithmetic: int) -> bool:
    low, high = p
    return _core.torch_uniform(view, low, high, states, arithmetic, _threads())


def fill_normal(_: Tensor, view: View, p: Parameters, states: States, arithmetic: int) -> bool:
    mean, std = p
    return _core.torch_normal(view, mean, std, states, arithmetic, _threads())


def fill_trunc_normal(
    _: Tensor, view: View, p: Parameters, states: States, arithmetic: int
) -> bool:
    mean, std, low, high = p
    return _core.torch_trunc_normal(view, mean, std, low, high, states, arithmetic, _threads())


def fill_reject_trunc_normal(
    _: Tensor, view: View, p: Parameters, states: States, arithmetic: int
) -> bool:
    mean, std, low, high = p
    dtype = _DTYPES[view.dtype]

    def log(values: FloatArray) -> FloatArray:
        logs: FloatArray = torch.from_numpy(values).to(dtype).log_().double().numpy()
        return logs

    log_peak = -0.5 * ((max(low, min(mean, high)) - mean) / std) ** 2
    return _core.torch_reject_trunc_normal(
        view, mean, std, low, high, log_peak, states, arithmetic, log, _threads()
    )


def fill_sparse(tensor: Tensor, view: View, p: Parameters, states: States, arithmetic: int) -> bool:
    zeros, std = p
    return fill_normal(tensor, view, (0.0, std), states, arithmetic) and zero_rows(
        tensor, int(zeros), states
    )


def zero_rows(tensor: Tensor, zeros: int, states: States) -> bool:
    view = writable_view(tensor)
    return view is not None and _core.torch_zero_rows(view, zeros, states, _threads())


def _sparse_from_one_generator(tensor: Tensor, p: Parameters, generator: Generator) -> object:
    """torch's ``sparse_`` with the permutations from ``generator``, too.

    It draws them from torch's default generator, which is not to be touched here.
    """

    def randperm(n: int) -> Tensor:
        return torch.randperm(n, generator=generator, device="cpu")

    stand_in = SimpleNamespace(randperm=randperm, no_grad=torch.no_grad)
    names = {**original.sparse_.__globals__, "torch": stand_in}
    zeros, std = p
    return FunctionType(original.sparse_.__code__, names)(
        tensor, zeros / tensor.size(0), std, generator
    )


def _dense(*shape: int) -> Callable[[torch.dtype], Tensor]:
    return lambda dtype: torch.full(shape, math.nan, dtype=dtype, device="cpu")


def _transposed(*shape: int) -> Callable[[torch.dtype], Tensor]:
    return lambda dtype: _dense(*shape)(dtype).t()


UNIFORM = Case(
    "uniform_",
    lambda t, p, g: methods.uniform_(t, *p, generator=g),
    fill_uniform,
    (_dense(1), _dense(4099), _transposed(7, 5)),
    # The last two are so narrow that numbers are rounded to the upper end.
    ((0.0, 1.0), (-0.1, 0.3), (1.0, 1.0 + 2.0**-21), (1.0, 1.0 + 2.0**-50)),
    seeds=(14,),
)

_PATHS = {True: "contiguous", False: "small or strided"}


def is_in_blocks(view: View) -> bool:
    """Whether torch draws the normals of such a tensor in blocks."""
    _, _, shape, strides = view
    return len(shape) == 1 and shape[0] >= _BLOCK and strides[0] == 1


NORMAL = {
    in_blocks: Case(
        f"normal_, {_PATHS[in_blocks]}",
        lambda t, p, g: methods.normal_(t, *p, generator=g),
        fill_normal,
        samples,
        ((0.0, 1.0), (0.3, 0.02), (1.0, 0.5)),
        seeds=(723, 1169),
    )
    for in_blocks, samples in (
        (True, (_dense(16), _dense(4099))),
        (False, (_dense(7), _dense(15), _transposed(67, 33))),
    )
}
TRUNC_NORMAL = {
    in_blocks: Case(
        f"trunc_normal_, {_PATHS[in_blocks]}",
        lambda t, p, g: original.trunc_normal_(t, *p, generator=g),
        fill_trunc_normal,
        samples,
        ((0.0, 1.0, -2.0, 2.0), (0.0, 0.02, -2.0, 2.0), (0.3, 2.0, -1.0, 1.1)),
        like=NORMAL[in_blocks],
    )
    for in_blocks, samples in (
        (True, (_dense(16), _dense(643))),
        (False, (_dense(7), _dense(1), _transposed(9, 31))),
    )
}
REJECT_TRUNC_NORMAL = Case(
    "trunc_normal_ of little probability",
    lambda t, p, g: original.trunc_normal_(t, *p, generator=g),
    fill_reject_trunc_normal,
    (_dense(1), _dense(643), _transposed(9, 31)),
    ((0.0, 1.0, 2.0, 3.0), (0.3, 2.0, 0.1, 0.2), (0.1, 0.3, 0.5, 2.9)),
    like=UNIFORM,
)
SPARSE = {
    in_blocks: Case(
        f"sparse_, {_PATHS[in_blocks]}",
        _sparse_from_one_generator,
        fill_sparse,
        samples,
        ((1, 1.0), (3, 0.01)),
        like=NORMAL[in_blocks],
    )
    for in_blocks, samples in (
        (True, (_dense(40, 17), _dense(4, 4))),
        (False, (_dense(3, 4), _transposed(17, 40))),
    )
}

# ---- The check -----------------------------------------------------------------------------------

_verdicts: dict[tuple[str, int], int | None] = {}
"""By case and dtype code: the way of rounding that agrees with torch, None if none does."""


def arithmetic_of(case: Case, code: int) -> int | None:
    """The way of rounding with which the case draws what torch draws; None if there is none."""
    try:
        return _verdicts[case.name, code]
    except KeyError:
        ways = (way for way in _ways(case, code) if _is_same(case, code, way))
        verdict = _verdicts[case.name, code] = next(ways, None)
        if verdict is None:
            dtype = dtype_name(_DTYPES[code])
            note(f"{case.name}, {dtype}: torch {torch.__version__} draws other numbers")
        return verdict


def _ways(case: Case, code: int) -> Iterable[int]:
    if case.like is not None:
        way = arithmetic_of(case.like, code)
    elif case is NORMAL[False] and code != _core.FLOAT64:
        # It is computed in double for every dtype, and only in double can be seen how it is rounded.
        way = arithmetic_of(case, _core.FLOAT64)
    else:
        return range(_core.TORCH_ARITHMETICS)
    return () if way is None else (way,)


def _is_same(case: Case, code: int, arithmetic: int) -> bool:
    for seed in case.seeds:
        generator = Generator().manual_seed(seed)
        state = generator.get_state()
        if state.numel() != _core.TORCH_STATE_BYTES:
            return False
        states = (state.data_ptr(), state.data_ptr())
        for sample in case.samples:
            for parameters in case.parameters:
                theirs, ours = sample(_DTYPES[code]), sample(_DTYPES[code])
                view = writable_flat_view(ours)
                if not (
                    _succeeds(case.torchs, theirs, parameters, generator)
                    and view is not None
                    and case.ours(ours, view, parameters, states, arithmetic)
                    and torch.equal(_bits(theirs), _bits(ours))
                ):
                    return False
        if not torch.equal(state, generator.get_state()):
            return False
    return True


def _succeeds(function: Callable[..., object], *args: Any, **kwargs: Any) -> bool:
    """Whether torch takes the call. Where it does not, the caller has to hear so from torch."""
    try:
        function(*args, **kwargs)
    except Exception:  # noqa: BLE001  whatever a torch to come may raise
        return False
    return True


def _bits(tensor: Tensor) -> Tensor:
    return tensor.view(_BITS[tensor.element_size()])


# ---- Functions that are made of fills ------------------------------------------------------------

_agreements: dict[str, bool] = {}
_comparing: ContextVar[bool] = ContextVar("pyinit_comparing", default=False)

_GAINS: tuple[dict[str, Any], ...] = ({}, {"gain": 1.7})
_NONLINEARITIES: tuple[dict[str, Any], ...] = (
    {"a": math.sqrt(5)},
    {"a": 0.3},
    *({"mode": "fan_out", "nonlinearity": name} for name in ("relu", "tanh", "selu", "linear")),
)
_FORMULAS = {
    "xavier_uniform_": _GAINS,
    "xavier_normal_": _GAINS,
    "kaiming_uniform_": _NONLINEARITIES,
    "kaiming_normal_": _NONLINEARITIES,
    "orthogonal_": _GAINS,
}


def agrees(name: str, ours: Callable[..., Tensor], theirs: Callable[..., Tensor]) -> bool:
    """Whether the installed torch computes the parameters of a distribution as pyinit does.

    While that is being found out, the answer is yes: the comparison itself calls pyinit's function.

    Args:
        name: the function's name
        ours: pyinit's function
        theirs: torch's function
    """
    if _comparing.get():
        return True
    agreed = _agreements.get(name)
    if agreed is None:
        token = _comparing.set(True)
        try:
            agreed = _agreements[name] = _same_formula(name, ours, theirs)
        finally:
            _comparing.reset(token)
        if not agreed:
            note(f"{name}: torch {torch.__version__} computes it otherwise")
    return agreed


def _same_formula(name: str, ours: Callable[..., Tensor], theirs: Callable[..., Tensor]) -> bool:
    for arguments in _FORMULAS[name]:
        for shape in ((6, 5, 3), (5, 17)):
            generator = Generator().manual_seed(0)
            expected = torch.empty(shape, dtype=torch.float64, device="cpu")
            got = torch.empty_like(expected)
            if not _succeeds(theirs, expected, **arguments, generator=generator):
                return False
            state = generator.get_state()
            ours(got, **arguments, generator=generator.manual_seed(0))
            if not (
                torch.equal(generator.get_state(), state)
                and torch.allclose(got, expected, rtol=1e-14, atol=1e-14)
            ):
                return False
    return True
