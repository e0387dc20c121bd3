"""The model inside torch's own wrappers, and its names without the parts that they add."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

from torch import nn

from pyinit._torch.placement import loaded

# Module and name of each type, and the attribute that holds the model. A user's own wrapper is a model.
_WRAPPERS = (
    ("torch._dynamo.eval_frame", "OptimizedModule", "_orig_mod"),
    (
        "torch.distributed.algorithms._checkpoint.checkpoint_wrapper",
        "ActivationWrapper",
        "_checkpoint_wrapped_module",
    ),
    (
        "torch.distributed.fsdp.fully_sharded_data_parallel",
        "FullyShardedDataParallel",
        "_fsdp_wrapped_module",
    ),
    ("torch.nn.parallel.data_parallel", "DataParallel", "module"),
    ("torch.nn.parallel.distributed", "DistributedDataParallel", "module"),
    ("torch.optim.swa_utils", "AveragedModel", "module"),
)

_Function = TypeVar("_Function", bound=Callable[..., Any])

_Kinds = tuple[tuple[type[nn.Module], str], ...]


def named_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """``named_modules(remove_duplicate=False)`` of the model as it is without torch's wrappers."""
    kinds = _loaded()
    waiting = [("", model)]
    while waiting:
        path, module = waiting.pop()
        if kinds:
            module = _inside(module, kinds)
        yield path, module
        if module._modules:
            prefix = path + "." if path else ""
            waiting += [
                (prefix + name, child)
                for name, child in reversed(module._modules.items())
                if child is not None
            ]


@contextmanager
def unwrapped(model: nn.Module) -> Iterator[nn.Module]:
    """Replace torch's wrappers in a model by the modules that they wrap, until the block ends."""
    kinds = _loaded()
    places = [
        (parent._modules, name, child)
        for parent in model.modules()
        for name, child in parent._modules.items()
        if child is not None and _inside(child, kinds) is not child
    ]
    try:
        for children, name, wrapper in places:
            children[name] = _inside(wrapper, kinds)
        yield _inside(model, kinds)
    finally:
        for children, name, wrapper in places:
            children[name] = wrapper


def on_plain_model(function: _Function) -> _Function:
    """Decorate a function whose first argument is a ``model`` so that it gets the ``unwrapped`` one."""

    @wraps(function)
    def run(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with unwrapped(model) as plain:
            return function(plain, *args, **kwargs)

    return cast(_Function, run)


def _loaded() -> _Kinds:
    kinds = ((loaded(module, name), attribute) for module, name, attribute in _WRAPPERS)
    return tuple((cls, attribute) for cls, attribute in kinds if cls is not None)


def _inside(module: nn.Module, kinds: _Kinds) -> nn.Module:
    """The module inside wrappers; one with parameters or other modules of its own is no mere wrapper."""
    for cls, attribute in kinds:
        if isinstance(module, cls) and [*module._modules] == [attribute] and not module._parameters:
            wrapped = module._modules[attribute]
            return module if wrapped is None else _inside(wrapped, kinds)
    return module
