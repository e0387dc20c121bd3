"""torch's own load path, with the hooks of modules: what it gives to which tensor of a model.

A tensor is loaded because a module has it, not because a state dict has its name: hooks make such
names. A module with a load path of its own runs it in a rehearsal, on stand-ins for its tensors, so
that everything is known before anything is written.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import _IncompatibleKeys
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from pyinit._graph.undisturbed import RecordedWrites, written_by


class Target(NamedTuple):
    """A parameter or persistent buffer in its module."""

    module: nn.Module
    leaf: str

    @property
    def tensor(self) -> Tensor:
        """The tensor that is there now: a model on the meta device gets others."""
        tensor = self.module._parameters.get(self.leaf)
        return self.module._buffers[self.leaf] if tensor is None else tensor  # type: ignore[return-value]


class Extra(NamedTuple):
    """What a module takes besides its tensors: its extra state, or an attribute.

    name: its name in the model
    set_: gives it to the module, which may not use unloaded tensors
    keep: returns a function that puts back what the module has now
    """

    name: str
    set_: Callable[["Unloaded"], None]
    keep: Callable[["Unloaded"], Callable[[], Any]]


@dataclass
class Taken:
    """What modules take of a state dict.

    given: the tensors that would be loaded, of whatever shape, by the names of targets
    extras: what modules take besides
    missing: names besides those of tensors that modules ask for
    unexpected: names that no module takes
    """

    given: dict[str, Tensor] = field(default_factory=dict)
    extras: list[Extra] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)


def targets(model: nn.Module) -> dict[str, Target]:
    """The targets by all of their names."""
    return {
        f"{path}.{leaf}" if path else leaf: Target(module, leaf)
        for path, module in model.named_modules(remove_duplicate=False)
        for leaf in _local(module)
    }


def take(model: nn.Module, state: Mapping[str, Any], metadata: Mapping[str, Any]) -> Taken:
    """Find which module takes what, in the order and by the hooks of ``load_state_dict``.

    metadata: what the state dict says about modules, by the modules' names

    Raises:
        ValueError: For a module whose load path fails, or does what cannot be followed.
    """
    if type(model).load_state_dict is not nn.Module.load_state_dict:
        raise ValueError(
            f"{type(model).__name__} has a load_state_dict of its own, which may do more than put "
            "values into its tensors: call that"
        )
    taken = Taken()
    _visit(model, "", dict(state), metadata, taken)
    lost = taken.given.keys() - targets(model).keys()
    if lost:
        raise ValueError(
            f"{', '.join(sorted(lost))}: made by a module while it loads, or no part of its state"
        )
    return taken


def run_post_hooks(module: nn.Module, missing: list[str], unexpected: list[str]) -> None:
    """Run the hooks that modules have for the end of a load, those of inner modules first."""
    for child in module._modules.values():
        if child is not None:
            run_post_hooks(child, missing, unexpected)
    for hook in module._load_state_dict_post_hooks.values():
        hook(module, _IncompatibleKeys(missing, unexpected))


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    both = {**module._parameters, **module._buffers}
    return {leaf: tensor for leaf, tensor in both.items() if tensor is not None}


def _local(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and persistent buffers that a module owns itself."""
    left_out = module._non_persistent_buffers_set
    return {leaf: tensor for leaf, tensor in _tensors(module).items() if leaf not in left_out}


def _visit(
    module: nn.Module, prefix: str, state: dict[str, Any], metadata: Mapping[str, Any], taken: Taken
) -> None:
    if state and _has_own_path(module):
        _rehearse(module, prefix, state, metadata, taken)
    else:
        _by_name(module, prefix, state, taken)
    parts: dict[str, dict[str, Any]] = {}
    for name, value in state.items():
        child, dot, _ = name.removeprefix(prefix).partition(".")
        if dot:
            parts.setdefault(child, {})[name] = value
    for child, inner in module._modules.items():
        if inner is not None:
            _visit(inner, f"{prefix}{child}.", parts.pop(child, {}), metadata, taken)
    if parts:
        listed = set(taken.unexpected)
        taken.unexpected += [name for part in parts.values() for name in part if name not in listed]


def _by_name(module: nn.Module, prefix: str, state: Mapping[str, Any], taken: Taken) -> None:
    local = _local(module)
    for name, value in state.items():
        leaf = name.removeprefix(prefix)
        if leaf in local and isinstance(value, Tensor):
            taken.given[name] = value
        elif "." not in leaf:
            taken.unexpected.append(name)
    if _has_extra_state(module):
        taken.missing.append(prefix + _EXTRA_STATE)


# ---- Load paths of modules' own ------------------------------------------------------------------

_EXTRA_STATE = "_extra_state"

# The load path of norms only adds a counter that old files lack: here that counts as missing.
_PLAIN = (nn.Module._load_from_state_dict, _NormBase._load_from_state_dict)


def _has_own_path(module: nn.Module) -> bool:
    return (
        type(module)._load_from_state_dict not in _PLAIN
        or "_load_from_state_dict" in vars(module)
        or bool(module._load_state_dict_pre_hooks)
        or _has_extra_state(module)
    )


def _has_extra_state(module: nn.Module) -> bool:
    return type(module).set_extra_state is not nn.Module.set_extra_state


def _rehearse(
    module: nn.Module, prefix: str, state: dict[str, Any], metadata: Mapping[str, Any], taken: Taken
) -> None:
    """Run the module's own load. It may change ``state``, and its children get what it leaves."""
    described = {**metadata.get(prefix[:-1], {}), "assign_to_params_buffers": True}
    missing: list[str] = []
    errors: list[str] = []
    stage = _Stage(module, prefix)
    values = [value for value in state.values() if isinstance(value, Tensor)]
    try:
        with stage, _NoWrites(values + stage.tensors()):
            module._load_from_state_dict(
                state, prefix, described, True, missing, taken.unexpected, errors
            )
            given, extras = stage.given(), stage.extras()
    except Exception as error:
        raise _refused(module, prefix, f"{type(error).__name__}: {error}") from error
    other = {}
    local = _local(module)
    for leaf, tensor in local.items():
        value = state.get(name := prefix + leaf)
        if value is None or name in given or stage.is_stand_in(value):
            continue
        if not isinstance(value, Tensor) or value.shape == tensor.shape:
            errors.append(f"it does not take {name}")
        else:
            other[name] = value
    # Other shapes are no errors here: they are adapted or reported.
    errors = [error for error in errors if not any(name in error for name in other)]
    if errors:
        raise _refused(module, prefix, "; ".join(errors))
    taken.given |= given | other
    taken.extras += extras
    taken.missing += [name for name in missing if name.removeprefix(prefix) not in local]


def _refused(module: nn.Module, prefix: str, reason: str) -> ValueError:
    where = prefix.removesuffix(".") or "the model"
    return ValueError(f"{where} ({type(module).__name__}) does not load its part: {reason}")


_HOLDERS = ("_parameters", "_buffers")


class _Stage:
    """While it is entered, a module and those inside it have stand-ins for their tensors."""

    def __init__(self, module: nn.Module, prefix: str) -> None:
        self._named = [
            (f"{prefix}{path}." if path else prefix, inner)
            for path, inner in module.named_modules(remove_duplicate=False)
        ]
        self._kept = {inner: dict(vars(inner)) for _, inner in self._named}
        self._stand_ins: dict[int, Tensor] = {}
        self._extra_states: list[Extra] = []
        self._staged = {inner: self._on_stage(inner, name) for name, inner in self._named}
        self._swaps = torch.__future__.get_swap_module_params_on_conversion()

    def _on_stage(self, module: nn.Module, prefix: str) -> dict[str, Any]:
        staged = dict(self._kept[module])
        for key in _HOLDERS:
            staged[key] = {leaf: self._stand_in(t) for leaf, t in staged[key].items()}
        if _has_extra_state(module):
            staged["set_extra_state"] = partial(self._keep_extra_state, module, prefix)
        return staged

    def __enter__(self) -> None:
        torch.__future__.set_swap_module_params_on_conversion(False)
        for module, staged in self._staged.items():
            vars(module).update({key: _copied(value) for key, value in staged.items()})

    def __exit__(self, *_: object) -> None:
        torch.__future__.set_swap_module_params_on_conversion(self._swaps)
        for module, kept in self._kept.items():
            vars(module).clear()
            vars(module).update(kept)

    def tensors(self) -> list[Tensor]:
        """The tensors that must not be written: the stand-ins, and those for which they stand."""
        own = (t for kept in self._kept.values() for key in _HOLDERS for t in kept[key].values())
        return [*(tensor for tensor in own if tensor is not None), *self._stand_ins.values()]

    def is_stand_in(self, value: object) -> bool:
        return any(value is stand_in for stand_in in self._stand_ins.values())

    def given(self) -> dict[str, Tensor]:
        """The values that took the places of stand-ins, by their names in the model."""
        return {
            prefix + leaf: _with_values(prefix + leaf, value)
            for prefix, module in self._named
            for key in _HOLDERS
            for leaf, value in vars(module)[key].items()
            if value is not self._staged[module][key].get(leaf)
        }

    def extras(self) -> list[Extra]:
        """The extra states, and the attributes that were set."""
        prefixes = {module: prefix for prefix, module in reversed(self._named)}
        attributes = [
            Extra(
                prefixes[module] + key,
                partial(_set_attribute, module, key, _with_values(prefixes[module] + key, value)),
                partial(_keep_attribute, module, key),
            )
            for module, staged in self._staged.items()
            for key, value in vars(module).items()
            if _is_set(key, staged.get(key), value)
        ]
        return self._extra_states + attributes

    def _stand_in(self, tensor: Tensor | None) -> Tensor | None:
        """A stand-in without memory; a single value, which a module may read, is copied."""
        if tensor is None:
            return None
        if id(tensor) not in self._stand_ins:
            new = tensor.detach()
            new = new.clone() if new.numel() == 1 else torch.empty_like(new, device="meta")
            if isinstance(tensor, nn.Parameter):
                new = nn.Parameter(new, requires_grad=False)
            self._stand_ins[id(tensor)] = new
        return self._stand_ins[id(tensor)]

    def _keep_extra_state(self, module: nn.Module, prefix: str, state: Any) -> None:
        name = prefix + _EXTRA_STATE
        self._extra_states.append(
            Extra(
                name,
                partial(_set_extra_state, module, prefix, state),
                partial(_keep_extra_state, module),
            )
        )


class _NoWrites(TorchDispatchMode):
    """Refuses to write into the memory of any of these tensors."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._memory = set(map(_memory, tensors))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if any(_memory(tensor) in self._memory for tensor in written_by(func, args, kwargs)):
            raise RuntimeError(f"{func} writes into a tensor of the model or of the source")
        return func(*args, **kwargs)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else id(tensor)


def _copied(value: Any) -> Any:
    """A copy of a container, so that changes to it can be noticed and undone; others as they are."""
    return value.copy() if type(value) in (list, dict, set, OrderedDict) else value


def _is_set(key: str, before: Any, now: Any) -> bool:
    """Whether an attribute has another value.

    Raises:
        ValueError: If it was changed in place.
    """
    if type(now) is not type(before) or _copied(now) is now:
        return now is not before
    if key in (*_HOLDERS, "_flat_weights"):  # a recurrent layer lists its weights once more
        return False
    if list(map(id, _items(now))) != list(map(id, _items(before))):
        raise ValueError(f"it changes {key}")
    return False


def _items(container: Any) -> list[Any]:
    return [*container, *container.values()] if isinstance(container, dict) else list(container)


def _with_values(name: str, value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.is_meta:
            raise ValueError(f"what it makes of {name} depends on values of the model")
        return value.detach()
    return value


def _set_attribute(module: nn.Module, key: str, value: Any, _: "Unloaded") -> None:
    vars(module)[key] = value


def _keep_attribute(module: nn.Module, key: str, _: "Unloaded") -> Callable[[], Any]:
    absent = object()
    before = vars(module).get(key, absent)
    if before is absent:
        return lambda: vars(module).pop(key, None)
    return lambda: vars(module).update({key: before})


class Unloaded(RecordedWrites):  # type: ignore[no-untyped-call]
    """Tensors that do not have the source's values yet, though torch would have loaded them by now.

    While it is entered, operations that compute with them or write to them are refused. Writes to
    other tensors can be undone.
    """

    def __init__(self, given: Iterable[Target]) -> None:
        super().__init__()
        self._tensors: dict[nn.Module, list[tuple[str, Tensor]]] = {}
        for target in given:
            self._tensors.setdefault(target.module, []).append((target.leaf, target.tensor))
        self._own = {_memory(t) for some in self._tensors.values() for _, t in some}
        self.refused: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        tensors = (t for t in tree_iter((args, kwargs)) if isinstance(t, Tensor))
        if _reads_or_writes(func) and any(_memory(tensor) in self._own for tensor in tensors):
            self.refused.append(f"{func} uses a tensor that is still to be loaded")
            raise RuntimeError(self.refused[-1])
        return super().__torch_dispatch__(func, types, args, kwargs)

    def replaced(self, module: nn.Module) -> list[str]:
        """The names of those that the module, or a module in it, has replaced."""
        return [
            leaf
            for inner in module.modules()
            for leaf, tensor in self._tensors.get(inner, ())
            if inner._parameters.get(leaf) is not tensor and inner._buffers.get(leaf) is not tensor
        ]


def _reads_or_writes(func: Any) -> bool:
    """Whether an operation reads or writes elements.

    Making views, and new tensors that are like others, does neither.
    """
    name = func._schema.name
    aliases = [result.alias_info for result in func._schema.returns]
    is_view = bool(aliases) and all(a is not None and not a.is_write for a in aliases)
    return not (is_view or name.endswith("_like") or "::new_" in name)


def _set_extra_state(module: nn.Module, prefix: str, state: Any, unloaded: Unloaded) -> None:
    """Give a module its extra state. Raises ValueError if it uses unloaded tensors."""
    try:
        with unloaded:
            module.set_extra_state(state)
    except RuntimeError:
        if not unloaded.refused:
            raise
    replaced = unloaded.replaced(module)
    if replaced or unloaded.refused:
        reasons = unloaded.refused or [f"it replaces {', '.join(replaced)}"]
        raise _refused(
            module, prefix, f"its extra state comes before its tensors here: {reasons[0]}"
        )


def _keep_extra_state(module: nn.Module, unloaded: Unloaded) -> Callable[[], Any]:
    """Return what puts back a module's state, as far as an extra state may change it.

    These are the attributes of the module and of those in it, the contents of their containers, and
    the extra state that the module itself says that it has.
    """
    before = None
    has_one = type(module).get_extra_state is not nn.Module.get_extra_state
    if has_one:
        before = deepcopy(module.get_extra_state())
    kept = {
        inner: {key: (value, _copied(value)) for key, value in vars(inner).items()}
        for inner in module.modules()
    }

    def put_back() -> None:
        if has_one:
            with suppress(Exception), unloaded:  # some modules do not take the state that they give
                module.set_extra_state(before)
        for inner, attributes in kept.items():
            vars(inner).clear()
            for key, (value, copy) in attributes.items():
                vars(inner)[key] = value
                if copy is not value:
                    value.clear()
                    (value.extend if isinstance(value, list) else value.update)(copy)

    return put_back
