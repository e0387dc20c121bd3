"""Fills with torch's own numbers: they draw from a ``torch.Generator`` as torch does, bit for bit.

Each function returns whether it has filled the tensor. Where it has not, torch's own function has
to do it: another generator choice is in force, the generator is of another device or keeps a state
that is not known here, or the installed torch draws other numbers (``torch_cases.py``).
"""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import Parameter
from torch.overrides import has_torch_function_variadic

from pyinit import _core
from pyinit._random import torch_cases
from pyinit._random.distributions import NORMAL, Parameters
from pyinit._random.rng import Source, for_torch, get_rng
from pyinit._random.torch_cases import Case, States, arithmetic_of, is_in_blocks, note
from pyinit._torch import tally
from pyinit._torch.fork_safe_lock import fork_safe_lock
from pyinit._torch.views import LARGEST, View, is_placeholder, writable_flat_view

_SMALL = 2048
"""Up to so many elements, torch's own method makes uniform and normal numbers sooner."""

_MOST_TRIES = 4

_is_grad_enabled = torch.is_grad_enabled
_set_grad_enabled = torch._C._set_grad_enabled
_increment_version = torch._C._increment_version


# ---- Drawing from a generator --------------------------------------------------------------------


def _source(generator: Source, tensor: Tensor) -> Generator | None:
    """The generator to draw torch's numbers from; None where torch has to draw, or to refuse."""
    if get_rng() != "torch":
        return None
    if generator is None:
        return torch.default_generator
    if not isinstance(generator, Generator):
        generator = for_torch(generator, tensor)
        if not isinstance(generator, Generator):
            return None
    if generator.device.type != "cpu":
        note(f"generators of device {generator.device}")
        return None
    return generator


class _Result:
    """Memory for the state that a fill leaves, and its address."""

    __slots__ = ("address", "state")

    def __init__(self) -> None:
        with torch.inference_mode(False):
            self.state = torch.empty(_core.TORCH_STATE_BYTES, dtype=torch.uint8, device="cpu")
        self.address = self.state.data_ptr()


_idle: list[_Result] = []  # those not in use
_locks = [fork_safe_lock() for _ in range(64)]  # each guards some of the generators


def _draw(source: Generator, fill: Callable[[States], bool]) -> bool:
    """Run ``fill`` from the generator's state, and leave the generator with the state after it.

    If torch draws from the generator in another thread meanwhile, the fill is repeated from the state
    that torch has left. A thread that draws again and again would keep it from ever being done, so the
    last word is torch's, whose draws wait for each other.
    """
    try:
        result = _idle.pop()
    except IndexError:
        result = _Result()
    with _locks[id(source) // 64 % len(_locks)]:
        for _ in range(_MOST_TRIES):
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
    return False


def _note_unknown_state() -> None:
    note("generators whose state is not that of torch's MT19937")


# ---- Fills ---------------------------------------------------------------------------------------


def _run(case: Case, tensor: Tensor, view: View, parameters: Parameters, generator: Source) -> bool:
    source = _source(generator, tensor)
    if source is None:
        return False
    arithmetic = arithmetic_of(case, view.dtype)
    if arithmetic is None or not _draw(
        source, lambda states: case.ours(tensor, view, parameters, states, arithmetic)
    ):
        return False
    _increment_version((tensor,))
    if tally.is_counting:
        tally.mark("native")
    return True


def small(
    method: Callable[..., Tensor], tensor: Tensor, a: float, b: float, generator: Source
) -> bool:
    """Draw a small tensor by its own method, which is faster than fetching the generator's state.

    torch's function calls the same method, so any tensor will do: strided, on the meta device or on
    another one.
    """
    if (
        (type(tensor) is not Parameter and type(tensor) is not Tensor)
        or has_torch_function_variadic(tensor)
        or (count := tensor.numel()) > _SMALL
        or (count == 0 and is_placeholder(tensor))
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
    if tally.is_counting:
        tally.mark("small")
    return True


def uniform(tensor: Tensor, view: View, low: float, high: float, generator: Source) -> bool:
    """Draw what ``torch.nn.init.uniform_`` draws."""
    return _run(torch_cases.UNIFORM, tensor, view, (low, high), generator)


def normal(tensor: Tensor, view: View, mean: float, std: float, generator: Source) -> bool:
    """Draw what ``torch.nn.init.normal_`` draws."""
    return _run(torch_cases.NORMAL[is_in_blocks(view)], tensor, view, (mean, std), generator)


def trunc_normal(  # noqa: PLR0917
    tensor: Tensor, view: View, mean: float, std: float, low: float, high: float, generator: Source
) -> bool:
    """Draw what ``torch.nn.init.trunc_normal_`` draws."""
    largest = LARGEST[view.dtype]
    if not (NORMAL.takes(largest, mean, std) and std > 0.0):
        return False
    if largest < abs(low) < math.inf or largest < abs(high) < math.inf:
        return False
    if view.strides != (1,) and not _core.is_dense(view.shape, view.strides):
        return False
    if _normal_cdf((high - mean) / std) - _normal_cdf((low - mean) / std) > 0.3:
        case = torch_cases.TRUNC_NORMAL[is_in_blocks(view)]
    elif low - 2 * std <= mean <= high + 2 * std and high - low <= largest:
        case = torch_cases.REJECT_TRUNC_NORMAL
    else:
        return False  # torch warns, or refuses
    return _run(case, tensor, view, (mean, std, low, high), generator)


def _normal_cdf(x: float) -> float:
    return (1.0 + math.erf(x / math.sqrt(2.0))) / 2.0


def sparse(tensor: Tensor, zeros: int, std: float, generator: Source) -> bool:
    """Draw the numbers from ``generator`` and the places of the zeros from torch's default generator."""
    view = writable_flat_view(tensor)
    numbers, places = _source(generator, tensor), torch.default_generator
    if view is None or numbers is None:
        return False
    arithmetic = arithmetic_of(torch_cases.SPARSE[is_in_blocks(view)], view.dtype)
    if arithmetic is None:
        return False
    state = places.get_state()
    if not _core.torch_state_is_known(state.data_ptr()):
        _note_unknown_state()
        return False
    before = numbers.get_state()
    try:
        drawn = _draw(
            numbers,
            lambda states: torch_cases.fill_normal(tensor, view, (0.0, std), states, arithmetic),
        ) and _draw(places, lambda states: torch_cases.zero_rows(tensor, zeros, states))
    except BaseException:  # the end of memory, or of the user's patience
        numbers.set_state(before)
        raise
    if drawn:
        _increment_version((tensor,))
    return drawn
