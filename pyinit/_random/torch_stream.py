"""torch's own numbers: fills that draw from a ``torch.Generator`` as torch does, bit for bit.

Each function returns whether it has filled the tensor. Where it has not, torch's own function has
to do it: another generator choice is in force, the generator is of another device or keeps a state
that is not known here, or the installed torch draws other numbers.

The last is found out by asking. Before its first use each case (function, path and dtype) is run
beside torch on a generator of its own; values and the state after them must be the same, bit for
bit. ``fallbacks`` says what did not match.
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
from torch.nn import Parameter
from torch.overrides import has_torch_function_variadic

from pyinit import _core
from pyinit._random.rng import Source, for_torch, get_rng
from pyinit._torch.fork_safe_lock import fork_safe_lock
from pyinit._torch.original import original
from pyinit._torch.views import DTYPES, LARGEST, View, native_view, shaped_view

_threads = torch.get_num_threads

_DTYPES = {code: dtype for dtype, code in DTYPES.items()}
FloatArray = npt.NDArray[np.float64]

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by item size
_BLOCK = 16
"""From so many elements on, torch draws the normals of a contiguous tensor in blocks."""

_SMALL = 2048
"""Up to so many elements torch's own method makes uniform and normal numbers sooner."""

_is_grad_enabled = torch.is_grad_enabled
_set_grad_enabled = torch._C._set_grad_enabled
_increment_version = torch._C._increment_version

_Parameters = tuple[float, ...]
_States = tuple[int, int]
"""Addresses of a generator's state before and after a fill."""

_notes: dict[str, None] = {}


def fallbacks() -> list[str]:
    """What went to torch's own functions although torch's numbers were asked for, and why."""
    return list(_notes)


# ---- Drawing from a generator --------------------------------------------------------------------


def _source(generator: Source, tensor: Tensor) -> Generator | None:
    """The generator to draw torch's numbers from; None where torch must draw, or refuse."""
    if get_rng() != "torch":
        return None
    if generator is None:
        return torch.default_generator
    if not isinstance(generator, Generator):
        generator = for_torch(generator, tensor)
        if not isinstance(generator, Generator):
            return None
    if generator.device.type != "cpu":
        _notes[f"generators of device {generator.device}"] = None
        return None
    return generator


class _Result:
    """Memory for the state that a fill leaves, and its address."""

    __slots__ = ("address", "state")

    def __init__(self) -> None:
        with torch.inference_mode(False):
            self.state = torch.empty(_core.TORCH_STATE_BYTES, dtype=torch.uint8, device="cpu")
        self.address = self.state.data_ptr()


_idle: list[_Result] = []  # not in use
_locks = [fork_safe_lock() for _ in range(64)]  # each for some of the generators


def _draw(source: Generator, fill: Callable[[_States], bool]) -> bool:
    """Run ``fill``, from the generator's state to the next.

    If torch draws from the generator in another thread meanwhile, the fill is done again from there.
    """
    try:
        result = _idle.pop()
    except IndexError:
        result = _Result()
    with _locks[id(source) // 64 % len(_locks)]:
        while True:
            before = source.get_state()
            address = before.data_ptr()
            if not fill((address, result.address)):
                if not _core.torch_state_is_known(address):
                    _note_unknown_state()
                return False
            now = source.get_state()
            if _core.is_same_state(now.data_ptr(), address):
                source.set_state(result.state)
                _idle.append(result)
                return True


def _note_unknown_state() -> None:
    _notes["generators whose state is not that of torch's MT19937"] = None


# ---- Cases ---------------------------------------------------------------------------------------


class _Case(NamedTuple):
    """One path of a function, torch's way and ours, and what to try them on.

    The seeds are such that the ways of rounding (``TORCH_ARITHMETICS``), where they can differ, do
    so in every dtype. A case that is made of another one takes that one's way.
    """

    name: str
    torchs: Callable[[Tensor, _Parameters, Generator], object]
    ours: Callable[[Tensor, View, _Parameters, _States, int], bool]
    samples: tuple[Callable[[torch.dtype], Tensor], ...]
    parameters: tuple[_Parameters, ...]
    seeds: tuple[int, ...] = (0,)
    like: "_Case | None" = None


def _fill_uniform(_: Tensor, view: View, p: _Parameters, states: _States, arithmetic: int) -> bool:
    low, high = p
    return _core.torch_uniform(view, low, high, states, arithmetic, _threads())


def _fill_normal(_: Tensor, view: View, p: _Parameters, states: _States, arithmetic: int) -> bool:
    mean, std = p
    return _core.torch_normal(view, mean, std, states, arithmetic, _threads())


def _fill_trunc_normal(
    _: Tensor, view: View, p: _Parameters, states: _States, arithmetic: int
) -> bool:
    mean, std, low, high = p
    return _core.torch_trunc_normal(view, mean, std, low, high, states, arithmetic, _threads())


def _fill_reject_trunc_normal(
    _: Tensor, view: View, p: _Parameters, states: _States, arithmetic: int
) -> bool:
    mean, std, low, high = p
    dtype = _DTYPES[view[1]]

    def log(values: FloatArray) -> FloatArray:
        logs: FloatArray = torch.from_numpy(values).to(dtype).log_().double().numpy()
        return logs

    log_peak = -0.5 * ((max(low, min(mean, high)) - mean) / std) ** 2
    return _core.torch_reject_trunc_normal(
        view, mean, std, low, high, log_peak, states, arithmetic, log, _threads()
    )


def _fill_sparse(
    tensor: Tensor, view: View, p: _Parameters, states: _States, arithmetic: int
) -> bool:
    zeros, std = p
    return _fill_normal(tensor, view, (0.0, std), states, arithmetic) and _zero_rows(
        tensor, int(zeros), states
    )


def _zero_rows(tensor: Tensor, zeros: int, states: _States) -> bool:
    view = shaped_view(tensor)
    return view is not None and _core.torch_zero_rows(view, zeros, states, _threads())


def _sparse_from_one_generator(tensor: Tensor, p: _Parameters, generator: Generator) -> object:
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


_UNIFORM = _Case(
    "uniform_",
    lambda t, p, g: t.uniform_(*p, generator=g),
    _fill_uniform,
    (_dense(1), _dense(4099), _transposed(7, 5)),
    # The last two are so narrow that numbers are rounded to the upper end.
    ((0.0, 1.0), (-0.1, 0.3), (1.0, 1.0 + 2.0**-21), (1.0, 1.0 + 2.0**-50)),
    seeds=(14,),
)

_PATHS = {True: "contiguous", False: "small or strided"}


def _in_blocks(view: View) -> bool:
    _, _, shape, strides = view
    return len(shape) == 1 and shape[0] >= _BLOCK and strides[0] == 1


_NORMAL = {
    in_blocks: _Case(
        f"normal_, {_PATHS[in_blocks]}",
        lambda t, p, g: t.normal_(*p, generator=g),
        _fill_normal,
        samples,
        ((0.0, 1.0), (0.3, 0.02), (1.0, 0.5)),
        seeds=(723, 1169),
    )
    for in_blocks, samples in (
        (True, (_dense(16), _dense(4099))),
        (False, (_dense(7), _dense(15), _transposed(67, 33))),
    )
}
_TRUNC_NORMAL = {
    in_blocks: _Case(
        f"trunc_normal_, {_PATHS[in_blocks]}",
        lambda t, p, g: original.trunc_normal_(t, *p, generator=g),
        _fill_trunc_normal,
        samples,
        ((0.0, 1.0, -2.0, 2.0), (0.0, 0.02, -2.0, 2.0), (0.3, 2.0, -1.0, 1.1)),
        like=_NORMAL[in_blocks],
    )
    for in_blocks, samples in (
        (True, (_dense(16), _dense(643))),
        (False, (_dense(7), _dense(1), _transposed(9, 31))),
    )
}
_REJECT_TRUNC_NORMAL = _Case(
    "trunc_normal_ of little probability",
    lambda t, p, g: original.trunc_normal_(t, *p, generator=g),
    _fill_reject_trunc_normal,
    (_dense(1), _dense(643), _transposed(9, 31)),
    ((0.0, 1.0, 2.0, 3.0), (0.3, 2.0, 0.1, 0.2), (0.1, 0.3, 0.5, 2.9)),
    like=_UNIFORM,
)
_SPARSE = {
    in_blocks: _Case(
        f"sparse_, {_PATHS[in_blocks]}",
        _sparse_from_one_generator,
        _fill_sparse,
        samples,
        ((1, 1.0), (3, 0.01)),
        like=_NORMAL[in_blocks],
    )
    for in_blocks, samples in (
        (True, (_dense(40, 17), _dense(4, 4))),
        (False, (_dense(3, 4), _transposed(17, 40))),
    )
}

_verdicts: dict[tuple[str, int], int | None] = {}


def _arithmetic(case: _Case, code: int) -> int | None:
    """How to round to draw what torch draws; None where that is not known."""
    try:
        return _verdicts[case.name, code]
    except KeyError:
        ways = (way for way in _ways(case, code) if _is_same(case, code, way))
        verdict = _verdicts[case.name, code] = next(ways, None)
        if verdict is None:
            dtype = str(_DTYPES[code]).removeprefix("torch.")
            _notes[f"{case.name}, {dtype}: torch {torch.__version__} draws other numbers"] = None
        return verdict


def _ways(case: _Case, code: int) -> Iterable[int]:
    if case.like is not None:
        way = _arithmetic(case.like, code)
    elif case is _NORMAL[False] and code != _core.FLOAT64:
        # Computed in double for every dtype: only there can be seen how it is rounded.
        way = _arithmetic(case, _core.FLOAT64)
    else:
        return range(_core.TORCH_ARITHMETICS)
    return () if way is None else (way,)


def _is_same(case: _Case, code: int, arithmetic: int) -> bool:
    for seed in case.seeds:
        generator = Generator().manual_seed(seed)
        state = generator.get_state()
        if state.numel() != _core.TORCH_STATE_BYTES:
            return False
        states = (state.data_ptr(), state.data_ptr())
        for sample in case.samples:
            for parameters in case.parameters:
                theirs, ours = sample(_DTYPES[code]), sample(_DTYPES[code])
                view = native_view(ours)
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
    """Whether torch takes this. Where it does not, the caller is to hear so from torch."""
    try:
        function(*args, **kwargs)
    except Exception:  # noqa: BLE001  whatever a torch to come may raise
        return False
    return True


def _bits(tensor: Tensor) -> Tensor:
    return tensor.view(_BITS[tensor.element_size()])


# ---- Fills ---------------------------------------------------------------------------------------


def _run(
    case: _Case, tensor: Tensor, view: View, parameters: _Parameters, generator: Source
) -> bool:
    source = _source(generator, tensor)
    if source is None:
        return False
    arithmetic = _arithmetic(case, view[1])
    if arithmetic is None or not _draw(
        source, lambda states: case.ours(tensor, view, parameters, states, arithmetic)
    ):
        return False
    _increment_version((tensor,))
    return True


def small(
    method: Callable[..., Tensor], tensor: Tensor, a: float, b: float, generator: Source
) -> bool:
    """Draw by the tensor's own method where that is faster than fetching the generator's state.

    It is what torch's function calls, and the tensor may be any: of another device, strided, meta.
    """
    if (
        (type(tensor) is not Parameter and type(tensor) is not Tensor)
        or has_torch_function_variadic(tensor)
        or tensor.numel() > _SMALL
    ):
        return False
    usual = _is_grad_enabled()
    _set_grad_enabled(False)
    try:
        if generator is None:
            method(tensor, a, b)
        else:
            method(tensor, a, b, generator=for_torch(generator, tensor))
    finally:
        _set_grad_enabled(usual)
    return True


def uniform(tensor: Tensor, view: View, low: float, high: float, generator: Source) -> bool:
    return _run(_UNIFORM, tensor, view, (low, high), generator)


def normal(tensor: Tensor, view: View, mean: float, std: float, generator: Source) -> bool:
    return _run(_NORMAL[_in_blocks(view)], tensor, view, (mean, std), generator)


def trunc_normal(  # noqa: PLR0917
    tensor: Tensor, view: View, mean: float, std: float, low: float, high: float, generator: Source
) -> bool:
    largest = LARGEST[view[1]]
    if not 0.0 < std <= largest or abs(mean) > largest:
        return False
    if largest < abs(low) < math.inf or largest < abs(high) < math.inf:
        return False
    if view[3] != (1,) and not _core.is_dense(view[2], view[3]):
        return False
    if _normal_cdf((high - mean) / std) - _normal_cdf((low - mean) / std) > 0.3:
        case = _TRUNC_NORMAL[_in_blocks(view)]
    elif low - 2 * std <= mean <= high + 2 * std and high - low <= largest:
        case = _REJECT_TRUNC_NORMAL
    else:
        return False  # where torch warns, and what it refuses
    return _run(case, tensor, view, (mean, std, low, high), generator)


def _normal_cdf(x: float) -> float:
    return (1.0 + math.erf(x / math.sqrt(2.0))) / 2.0


def sparse(tensor: Tensor, zeros: int, std: float, generator: Source) -> bool:
    """The numbers come from ``generator``, the places of the zeros from torch's default one."""
    view = native_view(tensor)
    numbers, places = _source(generator, tensor), torch.default_generator
    if view is None or numbers is None:
        return False
    arithmetic = _arithmetic(_SPARSE[_in_blocks(view)], view[1])
    if arithmetic is None:
        return False
    state = places.get_state()
    if not _core.torch_state_is_known(state.data_ptr()):
        _note_unknown_state()
        return False
    before = numbers.get_state()
    try:
        drawn = _draw(
            numbers, lambda states: _fill_normal(tensor, view, (0.0, std), states, arithmetic)
        ) and _draw(places, lambda states: _zero_rows(tensor, zeros, states))
    except BaseException:  # the end of memory, or of the user's patience
        numbers.set_state(before)
        raise
    if drawn:
        _increment_version((tensor,))
    return drawn


# ---- Functions made of these -----------------------------------------------------------------------

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
    """Whether the installed torch computes the parameters of the distribution as pyinit does.

    True while that is being found out.
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
            _notes[f"{name}: torch {torch.__version__} computes it otherwise"] = None
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
