"""Everything by which programs reach initializers, led to the keyed calls while models are keyed.

The functions of ``torch.nn.init`` get other code: so every reference to them is reached, those that were
bound by imports, partials and default arguments long before included, and there is nothing to look for.
Pyinit's own are made by ``fills``, which calls what their namespace says; the methods of tensors are
attributes of ``torch.Tensor`` for a while.
"""

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from types import CodeType, FunctionType
from typing import Any, cast

import torch
from torch import Tensor

from pyinit import _patch, init
from pyinit._random.orthogonal import listed_gains, listed_tensors
from pyinit._random.rng import Source
from pyinit._random.tensor_methods import METHODS as PATCHED
from pyinit._torch.eager import eager
from pyinit._torch.original import original
from pyinit.distributed.calls import Initializer, found
from pyinit.distributed.methods import NAMES, method
from pyinit.init._routes import fill_in_memory

Function = Callable[..., Any]

_SKIPPED = "_torchdynamo_disable"


class _Function:
    """A function, with its own code or with code that calls what stands for it.

    unkeyed: the function as it is with its own code
    stand_in: gets ``unkeyed`` and the function's arguments
    """

    def __init__(self, name: str, function: Any, stand_in: Function) -> None:
        self._function, self._own = function, function.__code__
        unkeyed = FunctionType(self._own, function.__globals__, None, function.__defaults__)
        unkeyed.__kwdefaults__, unkeyed.__dict__ = function.__kwdefaults__, {**vars(function)}
        self._unkeyed = unkeyed
        self._is_skipped = _SKIPPED in vars(function)
        self._other = _calling(function, name)
        self.call = partial(stand_in, unkeyed)

    def swap(self, is_keyed: bool) -> None:
        function, is_swapped = self._function, self._function.__code__ is self._other
        if is_keyed and not is_swapped:
            # Not what it was at the import: others change functions by their code, too.
            self._own = self._unkeyed.__code__ = function.__code__
            self._is_skipped = _SKIPPED in vars(function)
        # Whoever is interrupted in between finds by the code that there is something to take back.
        if is_keyed:
            function.__code__ = self._other
            vars(function)[_SKIPPED] = True
        elif is_swapped:
            if not self._is_skipped:
                vars(function).pop(_SKIPPED, None)
            function.__code__ = self._own


def _calling(function: FunctionType, name: str) -> CodeType:
    """Code that takes a function's arguments and hands them to ``functions[name]``."""
    parameters = inspect.signature(function).parameters.values()
    nameless = [one.replace(annotation=one.empty, default=one.empty) for one in parameters]
    given = ", ".join(
        f"{one.name}={one.name}" if one.kind is one.KEYWORD_ONLY else one.name for one in parameters
    )
    source = (
        f"def made{inspect.Signature(nameless)}:\n"
        f"    from {__name__} import functions\n"
        f"    return functions[{name!r}].call({given})\n"
    )
    names: dict[str, Any] = {}
    exec(compile(source, f"<{name}, keyed>", "exec"), names)  # noqa: S102
    made: FunctionType = names["made"]
    made.__code__ = made.__code__.replace(co_name=function.__name__)
    return eager(made).__code__


def _many(
    unkeyed: Function,
    tensors: Iterable[Tensor],
    gain: float | Iterable[float] = 1,
    generator: Source = None,
) -> list[Tensor]:
    """What stands for ``orthogonal_many_``: a keyed parameter's matrix is a call of its own."""
    given, matrices = listed_tensors(tensors)
    gains = listed_gains(gain, len(matrices))
    if not any(map(found, matrices)):
        return cast(list[Tensor], unkeyed(given, gains, generator))
    for tensor, one in zip(matrices, gains, strict=True):
        fill_in_memory(partial(init.orthogonal_, gain=one, generator=generator), tensor)
    return given


def _of_whole(unkeyed: Function, tensor: Tensor, *args: Any) -> Any:
    """What stands for torch's helpers that look at a shape: of a parameter that is spread it is the whole's."""
    place = found(tensor)
    if place is None or place.offset is not None or place.memory.is_whole:
        return unkeyed(tensor, *args)
    return unkeyed(torch.empty(place.memory.part.shape, device="meta"), *args)


_namespaces = {
    name: function.__globals__
    for name in init.__all__
    if "in_array" in (function := getattr(init, name)).__globals__
}
_unkeyed = {name: namespace["function"] for name, namespace in _namespaces.items()}
_keyed = {
    name: partial(Initializer(getattr(init, name)), unkeyed) for name, unkeyed in _unkeyed.items()
}

functions = {
    f"torch.nn.init.{name}": _Function(f"torch.nn.init.{name}", function, stand_in.func)
    for name, stand_in in _keyed.items()
    if type(function := getattr(original, name, None)) is FunctionType
    and not function.__code__.co_freevars
}
functions |= {
    f"torch.nn.init.{name}": _Function(f"torch.nn.init.{name}", function, _of_whole)
    for name in ("_calculate_fan_in_and_fan_out", "_calculate_correct_fan")
    if type(function := getattr(original, name, None)) is FunctionType
}
functions["orthogonal_many_"] = _Function("orthogonal_many_", init.orthogonal_many_, _many)

_methods: dict[str, tuple[Any, Function]] = {}
"""By name what stood on ``torch.Tensor`` before, and what stands there now."""


def follow(is_keyed: bool) -> None:
    """Lead all calls to the keyed ones, or let them go their own ways again. To do either twice is safe."""
    for function in functions.values():
        function.swap(is_keyed)
    for name, namespace in _namespaces.items():
        namespace["function"] = (_keyed if is_keyed else _unkeyed)[name]
    for name in NAMES:
        if is_keyed:
            _set_method(name)
        else:
            _put_back(name)


def _set_method(name: str) -> None:
    if name in _methods:
        return
    before = vars(Tensor).get(name)
    if before is PATCHED.get(name):
        before = None
    made = method(name, before)
    _methods[name] = before, made
    setattr(Tensor, name, made)


def _put_back(name: str) -> None:
    if name not in _methods:
        return
    before, made = _methods[name]
    if vars(Tensor).get(name) is made:
        if before is not None:
            setattr(Tensor, name, before)
        else:
            delattr(Tensor, name)
    if before is None:
        _patch.set_methods()
    del _methods[name]  # last: whoever is interrupted does all of it again
