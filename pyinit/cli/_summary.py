"""What ``pyinit run`` says at the end: what was native, what was torch's own, and the time it saved."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from statistics import median
from time import perf_counter
from typing import Any

import torch

from pyinit._random.torch_cases import fallbacks
from pyinit._torch.original import methods, original
from pyinit._torch.tally import Call, Fills, Tally

_SAMPLE = 2**18
"""So many elements at most torch fills to show its speed: a few milliseconds for each function."""

_NOT_BY_ELEMENTS = {"orthogonal_"}  # their time does not grow with the elements alone


def summary(tally: Tally) -> Iterator[str]:
    """The lines: one of what was native, and one of what was not, if there was any."""
    if tally.native:
        yield _of_native(tally.native)
    elif not (tally.small or tally.torchs):
        yield (
            "nothing to do: the program called neither a function of torch.nn.init nor "
            "Tensor.normal_ or Tensor.uniform_"
        )
    if tally.small or tally.torchs:
        yield "by torch: " + ", ".join(_of_torch(tally))
    if notes := fallbacks():
        yield "torch draws what pyinit does not reproduce: " + "; ".join(notes)


def _of_native(native: Mapping[tuple[str, str], Fills]) -> str:
    seconds = sum(fills.seconds for fills in native.values())
    said = f"{_counted(native.values())} native in {_time(seconds)}"
    compared = {kind: fills for kind, fills in native.items() if kind[0] not in _NOT_BY_ELEMENTS}
    by_torch = _seconds_of_torch(compared)
    if by_torch is None:
        return said
    saved = by_torch - sum(fills.seconds for fills in compared.values())
    without = "" if len(compared) == len(native) else ", leaving out orthogonal_"
    if saved < 0.01:
        return f"{said}; no time saved that could be told"
    return (
        f"{said}; about {_time(saved)} saved (estimated from torch's speed on samples, measured just "
        f"now{without})"
    )


def _of_torch(tally: Tally) -> Iterator[str]:
    if tally.small:
        yield f"{_counted(tally.small.values())} so small that it is as fast"
    for (name, kind), fills in sorted(tally.torchs.items()):
        yield f"{_counted([fills], f'{name} of {kind}')} in {_time(fills.seconds)}"


def _counted(fills: Iterable[Fills], what: str = "") -> str:
    fills = list(fills)
    calls, elements = sum(each.calls for each in fills), sum(each.elements for each in fills)
    noun = what or ("fill" if calls == 1 else "fills")
    return f"{calls:,} {noun} ({elements:,} numbers)"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.1f} ms"


def _seconds_of_torch(native: Mapping[tuple[str, str], Fills]) -> float | None:
    """An estimate: torch's own functions do the largest call of each kind again, or a part of it."""
    seconds = [
        _sampled(name, kind.partition(" ")[0], fills)
        for (name, kind), fills in native.items()
        if kind.endswith(" on cpu")
    ]
    known = [each for each in seconds if each is not None]
    return sum(known) if known else None


def _sampled(name: str, dtype: str, fills: Fills) -> float | None:
    call = fills.largest
    if call is None or not call.elements:
        return None
    is_method = name.startswith("Tensor.")
    function = getattr(methods if is_method else original, name.removeprefix("Tensor."))
    args, kwargs = _without_generator(function, call)
    shape, kind = _sample_shape(call), getattr(torch, dtype)
    samples = [
        torch.empty(shape, dtype=kind, device="cpu") for _ in range(5)
    ]  # as new as a model's
    try:
        with torch.no_grad():
            seconds = median(_timed(function, sample, *args, **kwargs) for sample in samples)
    except (RuntimeError, TypeError, ValueError):  # what pyinit takes, and torch does not
        return None
    return seconds / samples[0].numel() * fills.elements


def _sample_shape(call: Call) -> tuple[int, ...]:
    if call.elements <= _SAMPLE:
        return call.shape
    first, *others = call.shape
    return max(1, first * _SAMPLE // call.elements), *others


def _without_generator(function: Any, call: Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call, with a generator of its own: the program's are not drawn from."""
    is_method = function in vars(methods).values()
    takes_one = is_method or "generator" in inspect.signature(function).parameters
    args = tuple(value for value in call.args if not isinstance(value, torch.Generator))
    kwargs = {name: value for name, value in call.kwargs.items() if name != "tensor"}
    return args, kwargs | ({"generator": torch.Generator()} if takes_one else {})


def _timed(function: Any, *args: Any, **kwargs: Any) -> float:
    start = perf_counter()
    function(*args, **kwargs)
    return perf_counter() - start
