"""``keyed``: a model's own initialization, with numbers that depend on names and places alone."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from pyinit._messages import first_of, warn
from pyinit._random.rng import checked_seed
from pyinit._sharding.agreement import agree as compare
from pyinit._sharding.dtensor import is_held_by_all
from pyinit._sharding.find import sharded
from pyinit._torch.eager import eager
from pyinit._torch.fork_safe_lock import fork_safe_lock
from pyinit._torch.initialized_flags import (
    clear_initialized,
    is_initialized,
    set_initialized,
)
from pyinit._torch.placement import is_dtensor, refuse_elsewhere
from pyinit._torch.wrappers import named_modules
from pyinit.distributed import calls, hooks
from pyinit.distributed.targets import Targets, targets_of
from pyinit.whole_model.engine.plan import check_writable
from pyinit.whole_model.network import refuse_lazy

_lock = fork_safe_lock()


def keyed(
    model: nn.Module, seed: int, *, strict: bool = False, agree: bool = True
) -> AbstractContextManager[None]:
    """Have a model's own initialization draw numbers that depend on names and places alone.

    Inside of the ``with`` block every initializer that is called on a parameter of the model, or on
    a view of one, draws from the seed, the parameter's qualified name and each element's index in the
    parameter: the functions of ``torch.nn.init`` and of pyinit, wherever they were bound, and the
    methods of tensors, such as ``normal_``. So a layer's values do not change with other layers, with
    the order of the modules, or with how the model is spread over processes. The first call on a
    parameter gives it what ``initialize_`` would, with the same seed and initializer; each further one
    draws from the next stream. A generator that such a call is given is left alone. Calls on other
    tensors are as always.

    Values that are drawn in other ways and then copied to a parameter, as by
    ``parameter.copy_(torch.randn(...))``, do not come from the seed. Where torch's generators have drawn
    before such a copy, the parameter is named at the end.

    Transformers' marks of initialized modules and parameters are taken away first, since its
    functions would do nothing otherwise, and given to what was written at the end.

    Args:
        model: The model. Its parameters must have memory.
        seed: An integer in [0, 2^64).
        strict: Whether what is warned of at the end is an error.
        agree: Whether the ranks that share DTensors compare seed and parameters before the block begins, and
            when it ends what was called on each.

    Returns:
        A context manager.

    Raises:
        TypeError: For a model that is no module, or a seed that is no integer.
        ValueError: On entry, for a seed out of range, a model without parameters, parameters on the
            meta device, without a shape (lazy modules), or with values elsewhere, and for
            parameters that are keyed already; where ranks that share DTensors differ. Nothing has
            changed then.
        ValueError: At the end, if ranks that share a DTensor have called something else on it.
        RuntimeError: At the end, if ``strict``, in place of the warnings. If a rank does not come to
            compare.

    Warns:
        UserWarning: At the end, for trainable parameters that no call has reached, for those whose
            values may have been drawn from torch's generators, and for DTensors of which slices were
            written that are tensors of their own. Nothing is said if the block raises an
            exception.

    Example:
        >>> import torch, pyinit
        >>> layer = torch.nn.Linear(256, 128)
        >>> with pyinit.keyed(layer, seed=0):
        ...     layer.reset_parameters()
        >>> half = torch.nn.Linear(256, 64)
        >>> with pyinit.keyed(half, seed=0):
        ...     half.reset_parameters()
        >>> torch.equal(half.weight, layer.weight[:64])
        True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    return _Keyed(model, checked_seed(seed), strict, agree)


class _Keyed(AbstractContextManager[None]):
    def __init__(self, model: nn.Module, seed: int, strict: bool, agree: bool) -> None:
        self._model, self._seed, self._strict, self._agree = model, seed, strict, agree
        self._targets: Targets | None = None

    @eager
    def __enter__(self) -> None:
        named = list(_parameters(self._model))
        _refuse(self._model, named)
        if self._agree:
            compare("keyed", {"seed": str(self._seed)}, ((*each, "") for each in named))
        own = targets_of(named, self._seed)
        try:
            with _lock:
                twice = [target.name for target in calls.targets.overlapping(own)]
                if twice:
                    raise ValueError(
                        "keyed takes models of which no parameter is keyed already, got "
                        f"{len(twice)} that are: {first_of(twice)}"
                    )
                clear_initialized(self._model)
                calls.torch_has_drawn()
                _follow(Targets((*calls.targets.all, *own.all)))
                self._targets = own
        except BaseException:
            _end(own)
            raise

    @eager
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            _end(self._targets)
        except BaseException:  # interrupted: the block has ended nevertheless
            _end(self._targets)
            self._targets = None
            raise
        own, self._targets = self._targets, None
        assert own is not None
        if self._agree:
            _compare_calls(own, kind)
        if kind is not None:
            return
        written = {
            id(tensor) for target in own.all if target.is_written for tensor in target.tensors
        }
        named = list(_parameters(self._model))
        set_initialized(tensor for _, tensor in named if id(tensor) in written)
        missed = {
            id(tensor): name
            for name, tensor in reversed(named)
            if tensor.requires_grad and tensor.numel() and not is_initialized(tensor)
        }
        copied = [target.name for target in own.all if target.is_copied]
        lost = [target.name for target in own.all if target.is_lost]
        self._report([*reversed(missed.values())], copied, lost)

    def _report(self, missed: list[str], copied: list[str], lost: list[str]) -> None:
        problems = []
        if missed:
            problems.append(
                f"no call in the block of keyed has reached {len(missed)} of the trainable parameters, "
                f"which hold what they held before: {first_of(missed)}"
            )
        if copied:
            problems.append(
                f"values were copied or added to {len(copied)} of the parameters after torch's generators had "
                "drawn in the block of keyed, so they may depend on more than its seed: "
                f"{first_of(copied)}"
            )
        if lost:
            problems.append(
                f"slices of {len(lost)} of the parameters were written that are tensors of their own here, "
                f"as torch makes them of DTensors, so what was written is lost: {first_of(lost)}"
            )
        if problems and self._strict:
            raise RuntimeError("; ".join(problems))
        for problem in problems:
            warn(problem)


def _end(own: Targets | None) -> None:
    """Key these parameters no more. To do it twice is safe."""
    ended = {id(target) for target in own.all} if own else set()
    with _lock:
        _follow(Targets(target for target in calls.targets.all if id(target) not in ended))


def _follow(targets: Targets) -> None:
    """Key these parameters and no others."""
    calls.targets = targets
    hooks.follow(bool(targets.all))


def _compare_calls(own: Targets, raised: type[BaseException] | None) -> None:
    """Have the ranks that share DTensors compare what was called on each; a rank that fails only says so.

    A rank that holds nothing of a parameter need not call anything on it.
    """
    end = "reached" if raised is None else f"not reached: {raised.__name__}"
    called = [
        (target.name, target.parameter, "; ".join(target.calls) or "no call")
        for target in own.all
        if is_dtensor(target.parameter) and is_held_by_all(target.parameter)
    ]
    try:
        compare("keyed", {"the end of the block": end}, called, waits=raised is None)
    except (RuntimeError, ValueError):
        if raised is None:
            raise


def _parameters(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters by all of their names, without the parts that torch's wrappers add."""
    for path, module in named_modules(model):
        for leaf, tensor in module._parameters.items():
            if tensor is not None:
                yield f"{path}.{leaf}" if path else leaf, tensor


def _refuse(model: nn.Module, named: list[tuple[str, Any]]) -> None:
    if not named:
        raise ValueError(
            f"keyed takes a model with parameters, got {type(model).__name__}, which has none"
        )
    plain = []
    for name, tensor in named:
        refuse_lazy(name, tensor)
        try:
            part = sharded(tensor)
        except ValueError as error:
            raise ValueError(f"keyed cannot fill {name}: {error}") from None
        if part is None:
            plain.append((name, tensor))
    refuse_elsewhere("keyed", plain, model)
    for name, tensor in plain:
        check_writable(name, tensor)
    on_meta = [name for name, tensor in named if tensor.is_meta]
    if on_meta:
        raise ValueError(
            "keyed takes parameters that have memory, got "
            f"{len(on_meta)} on the meta device: {first_of(on_meta)}; call "
            "model.to_empty(device=...) first"
        )
