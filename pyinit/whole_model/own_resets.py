"""How a model's own code gives values to its parameters: ``reset_parameters``, ``_init_weights``.

Recipes leave to it what they do not know.
"""

import inspect
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pyinit._graph.kinds import EMBEDDINGS, is_layer
from pyinit._random.generators import SEEDED, global_states_kept
from pyinit._sharding.find import sharded
from pyinit._torch.views import whole_shape

_RESETS = ("reset_parameters", "_reset_parameters")


class OwnReset(NamedTuple):
    """A function of a model that gives values to parameters.

    path: the name of the module that it resets, from which its random numbers are keyed
    call: the function, with all that it needs
    words: what a report calls it
    in_place: whether it may be called on the module as it is. Otherwise it goes by marks on the
        parameters, and fills only stand-ins without them
    """

    path: str
    call: Callable[[], Any]
    words: str
    in_place: bool


def reset_name(cls: type[nn.Module]) -> str | None:
    """The name of the method by which a class resets its modules; None if it has none.

    One that has to be given arguments does not count: nobody knows which.
    """
    return next((name for name in _RESETS if _needs_nothing(cls, name)), None)


def _needs_nothing(cls: type[nn.Module], name: str) -> bool:
    method = inspect.getattr_static(cls, name, None)
    if not callable(getattr(cls, name, None)):
        return False
    is_bound = isinstance(method, (staticmethod, classmethod))
    try:
        inspect.signature(getattr(cls, name)).bind(*(() if is_bound else (None,)))
    except TypeError:
        return False
    except ValueError:  # a function that does not tell its arguments
        return True
    return True


def is_of_torch(cls: type[nn.Module]) -> bool:
    """Whether the method by which a class resets its modules is torch's."""
    method = getattr(cls, reset_name(cls) or "", None)
    return (getattr(method, "__module__", None) or "").startswith("torch.")


class OwnResets:
    """What gives each parameter of a model its own start.

    modules: the model's modules by their names
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._modules = modules
        self._filled: dict[tuple[str, bool], Collection[str]] = {}

    def of(self, path: str, leaf: str) -> OwnReset | None:
        """What resets the parameter ``leaf`` of the module ``path``; None if nothing of its own does.

        It is the module's ``reset_parameters``, unless that is torch's, or else the ``_init_weights``
        by which models of transformers start their modules one by one, inner ones first: that call
        counts which comes last. What a call fills is tried on stand-ins, once for each module.

        Raises:
            ValueError: if the call raises an error.
        """
        name = f"{path}.{leaf}" if path else leaf
        module = self._modules[path]
        method = reset_name(type(module))
        if method is not None and not is_of_torch(type(module)):
            reset = getattr(module, method)
            words = f"its own {method}"
            if _takes(reset) and name in self._filled_by(path, reset, words):
                return OwnReset(path, reset, words, True)
        for around in _outer_first(path):
            own = self._function_for(around)
            if own is None:
                continue
            call = partial(own, self._modules[around])
            words = f"the model's own _init_weights, of {type(self._modules[around]).__name__}"
            if name in self._filled_by(around, call, words):
                return OwnReset(around, call, words, False)
        return None

    def _function_for(self, path: str) -> Callable[..., Any] | None:
        """The ``_init_weights`` of the innermost model that the module is or is in."""
        for around in reversed(_outer_first(path)):
            own = getattr(self._modules.get(around), "_init_weights", None)
            if callable(own) and _takes(own, self._modules[path]):
                return own  # type: ignore[no-any-return]
        return None

    def _filled_by(self, path: str, call: Callable[[], Any], words: str) -> Collection[str]:
        """The names of the parameters that a call for a module fills."""
        key = path, isinstance(call, partial)
        if key not in self._filled:
            prefix = path + "." if path else ""
            names = _filled(self._modules[path], call, f"{words}, for {path or 'the model'},")
            self._filled[key] = {prefix + name for name in names}
        return self._filled[key]


def _takes(function: Callable[..., Any], *arguments: Any) -> bool:
    """Whether a function may be called with these arguments alone."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # a function without a signature
        return True
    return True


def _outer_first(path: str) -> list[str]:
    """The names of the modules around a module, from the model ("") to the module itself."""
    parts = path.split(".") if path else []
    return [".".join(parts[:n]) for n in range(len(parts) + 1)]


# ---- Stand-ins ---------------------------------------------------------------------------------------


@contextmanager
def stand_ins(module: nn.Module, make: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Put other tensors in the place of all parameters and buffers of a module and those in it.

    make: gives the tensor that stands in for one, or that one itself
    """
    places: list[tuple[dict[str, Any], str, Tensor]] = [
        (tensors, name, tensor)
        for each in module.modules()
        for tensors in (each._parameters, each._buffers)
        for name, tensor in tensors.items()
        if tensor is not None
    ]
    made: dict[int, Tensor] = {}
    for _, _, tensor in places:
        if id(tensor) not in made:
            new = make(tensor)
            if isinstance(tensor, nn.Parameter) and new is not tensor:
                new = nn.Parameter(new, tensor.requires_grad)
            made[id(tensor)] = new
    changed = [place for place in places if made[id(place[2])] is not place[2]]
    try:
        for tensors, name, tensor in changed:
            tensors[name] = made[id(tensor)]
        yield
    finally:
        for tensors, name, tensor in changed:
            tensors[name] = tensor


# ---- Trials ------------------------------------------------------------------------------------------

# A trial fills parameters up to this size with NaN and looks what is left of it. Larger ones, and the
# matrices of layers, are on the meta device, where it sees which operations write to them.
_LARGEST_IN_MEMORY = 2**22

# What does nothing on the meta device, as torch's trunc_normal_, or needs values, is tried on copies,
# unless the module has more elements than this.
_LARGEST_COPY = 2**27


class _Writes(TorchDispatchMode):
    """Records of each storage how many elements an operation has written to at a time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for i, declared in enumerate(func._schema.arguments):
            if declared.alias_info is not None and declared.alias_info.is_write:
                written = args[i] if i < len(args) else kwargs.get(declared.name)
                if isinstance(written, Tensor):
                    key = _storage(written)
                    self.elements[key] = max(self.elements.get(key, 0), written.numel())
        return func(*args, **kwargs)


def _storage(tensor: Tensor) -> int:
    key: int = tensor.untyped_storage()._cdata
    return key


def _without_values(module: nn.Module) -> Callable[[Tensor], Tensor]:
    matrices = {
        id(each.weight)
        for each in module.modules()
        if is_layer(each) or isinstance(each, EMBEDDINGS)
    }

    def make(tensor: Tensor) -> Tensor:
        tensor, like = whole_on_meta(tensor), tensor
        is_small = tensor.is_floating_point() and tensor.numel() <= _LARGEST_IN_MEMORY
        if is_small and id(like) not in matrices:
            return torch.full_like(tensor, math.nan, device="cpu")
        return torch.empty_like(tensor, device="meta")

    return make


def whole_on_meta(tensor: Tensor) -> Tensor:
    """The tensor, or one on the meta device with all elements of what is spread over processes."""
    part = sharded(tensor)
    return tensor if part is None else torch.empty(part.shape, dtype=tensor.dtype, device="meta")


def _copy(tensor: Tensor) -> Tensor:
    """A copy, or zeros where values are elsewhere, on a device whose generator is seeded."""
    has_generator = tensor.device.type in SEEDED and not tensor.is_meta
    whole, device = whole_on_meta(tensor), tensor.device if has_generator else "cpu"
    if whole.is_meta:
        return torch.zeros_like(whole, device=device)
    return whole.detach().to(device, copy=True)


def _filled(module: nn.Module, call: Callable[[], Any], words: str) -> Collection[str]:
    """The names, within a module, of the parameters that a call gives values, all of their elements.

    Neither the modules nor the generators change.

    Raises:
        ValueError: if the call raises an error even on copies of the parameters.
    """
    filled: Collection[str] | None
    make = _without_values(module)
    own = {name: p for name, p in module._parameters.items() if p is not None}
    try:
        filled = _trial(module, call, make, _has_values)
    except Exception:  # noqa: BLE001  it may need the values of others
        filled = None
    if filled is not None and all(n in filled or not make(p).is_meta for n, p in own.items()):
        return filled
    if sum(math.prod(whole_shape(parameter)) for parameter in module.parameters()) > _LARGEST_COPY:
        return own if filled is None else filled
    try:
        return {*(filled or ()), *_trial(module, call, _copy, lambda _: False)}
    except Exception as error:
        if filled is not None:
            return filled
        raise ValueError(
            f"{words} raises {type(error).__name__}: {error}; give its parameters rules, or skip= them"
        ) from error


def _has_values(parameter: Tensor) -> bool:
    return not parameter.is_meta and not bool(parameter.isnan().any())


@torch.no_grad()
def _trial(
    module: nn.Module,
    call: Callable[[], Any],
    make: Callable[[Tensor], Tensor],
    has_values: Callable[[Tensor], bool],
) -> set[str]:
    """What a call fills of the stand-ins for a module's parameters."""
    owner = getattr(getattr(call, "func", call), "__self__", None)
    owners = [owner] if isinstance(owner, nn.Module) else []
    with attributes_kept([*owners, *module.modules()]), stand_ins(module, make):
        before = dict(module.named_parameters())
        storages = {name: _storage(p) for name, p in before.items()}
        with global_states_kept(), _Writes() as writes:
            call()
        return {
            name
            for name, p in module.named_parameters()
            if name in before
            and (
                has_values(p)
                or _storage(p) != storages[name]
                or writes.elements.get(_storage(p), 0) >= p.numel()
            )
        }


@contextmanager
def attributes_kept(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Put back the attributes of modules, so that a trial of their code leaves no trace in them."""
    held = [
        (attributes, dict(attributes))
        for module in modules
        for attributes in (vars(module), module._parameters, module._buffers)
    ]
    try:
        yield
    finally:
        for attributes, before in held:
            for name in attributes.keys() - before.keys():
                del attributes[name]
            attributes.update(before)


@torch.no_grad()
def fill_by_stand_ins(
    module: nn.Module, call: Callable[[], Any], filled: Mapping[str, Tensor]
) -> None:
    """Call a reset on copies of a module's tensors, and take some parameters over from these.

    What is spread over processes is made whole by each, without the values of others. What is on a device
    whose generator is not seeded is made on the CPU.

    filled: the parameters to take over, by their names within the module
    """
    with stand_ins(module, _copy_or_zeros):
        call()
        values = dict(module.named_parameters(remove_duplicate=False))
    for name, parameter in filled.items():
        part = sharded(parameter)
        if part is None:
            parameter.copy_(values[name].detach())
        else:
            part.take_(values[name].detach())


def _copy_or_zeros(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor.is_meta and sharded(tensor) is None else _copy(tensor)


def fills_in_place(module: nn.Module) -> bool:
    """Whether a reset may be called on a module as it is: what it draws is known, and reaches its tensors."""
    return all(p.device.type in SEEDED and sharded(p) is None for p in module.parameters())
