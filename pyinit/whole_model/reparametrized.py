"""Parameters that a module computes from others: by torch's parametrizations, or by its hooks."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from pyinit._torch.placement import elsewhere


class Computed(ABC):
    """A parameter ``leaf`` that a module computes.

    originals: the names in the module of the parameters that it is computed from
    """

    def __init__(self, module: nn.Module, leaf: str, originals: tuple[str, ...]) -> None:
        self.module, self.leaf, self.originals = module, leaf, originals

    def tensors(self) -> list[Tensor]:
        """The originals, as they are now."""
        return [self.module.get_parameter(name) for name in self.originals]

    @property
    def is_here(self) -> bool:
        """Whether it can be computed: torch may crash on originals that have their values elsewhere."""
        return all(elsewhere(tensor) is None for tensor in self.tensors())

    def value(self) -> Tensor:
        """What it is now; it requires a gradient if an original does."""
        with torch.enable_grad():
            return self._value()

    @abstractmethod
    def _value(self) -> Tensor: ...

    @abstractmethod
    def set_(self, value: Tensor) -> None:
        """Set the originals so that ``value`` comes of them, as nearly as it can."""


def computed_by(module: nn.Module) -> Sequence[Computed]:
    """The parameters that a module computes."""
    if not module._forward_pre_hooks and "parametrizations" not in module._modules:
        return ()
    found: list[Computed] = []
    if parametrize.is_parametrized(module):
        found += (_Parametrized(module, leaf) for leaf in module.parametrizations)  # type: ignore[union-attr]
    for hook in module._forward_pre_hooks.values():
        found += (kind(module, hook) for cls, kind in _HOOKS.items() if isinstance(hook, cls))
    # Buffers may be parametrized, too.
    return [computed for computed in found if computed.originals]


def spectral_norm_of(module: nn.Module) -> Iterator[SpectralNorm]:
    """The older spectral norms of a module."""
    return (h for h in module._forward_pre_hooks.values() if isinstance(h, SpectralNorm))


class _Parametrized(Computed):
    def __init__(self, module: nn.Module, leaf: str) -> None:
        steps: Any = module.parametrizations[leaf]  # type: ignore[index]
        names = (f"parametrizations.{leaf}.{name}" for name in steps._parameters)
        super().__init__(module, leaf, tuple(names))
        self._steps = steps

    def _value(self) -> Tensor:
        """Nothing that a parametrization does in training mode is done."""
        modes = [(part, part.training) for part in self._steps.modules()]
        try:
            for part, _ in modes:
                part.training = False
            value: Tensor = self._steps()
            return value
        finally:
            for part, mode in modes:
                part.training = mode

    def set_(self, value: Tensor) -> None:
        """Through the inverses; where one has none, the original itself is set, as when a
        parametrization is registered. Into the originals' own memory, unlike an assignment."""
        values: Any = value
        if all(hasattr(step, "right_inverse") for step in self._steps):
            with suppress(NotImplementedError):
                for step in reversed(self._steps):
                    values = step.right_inverse(values)
        values = (values,) if isinstance(values, Tensor) else values
        if isinstance(self._steps[0], _WeightNorm):
            values = values[0], _with_direction(*values)
        for original, new in zip(self.tensors(), values, strict=True):
            original.copy_(new)


class _WeightNormed(Computed):
    """``torch.nn.utils.weight_norm`` (Salimans & Kingma 2016)."""

    def __init__(self, module: nn.Module, hook: WeightNorm) -> None:
        super().__init__(module, hook.name, (hook.name + "_g", hook.name + "_v"))
        self._hook = hook

    def _value(self) -> Tensor:
        value: Tensor = self._hook.compute_weight(self.module)
        return value

    def set_(self, value: Tensor) -> None:
        g, v = self.tensors()
        g.copy_(torch.norm_except_dim(value, 2, self._hook.dim))
        v.copy_(_with_direction(g, value))
        setattr(self.module, self.leaf, self.value())


def _with_direction(g: Tensor, v: Tensor) -> Tensor:
    """Of v, what g gives the length 0 still needs a direction: 0 / 0 is no weight."""
    return torch.where(g == 0, torch.ones_like(v), v)


class _SpectralNormed(Computed):
    """``torch.nn.utils.spectral_norm`` (Miyato et al. 2018). Its vectors are buffers."""

    def __init__(self, module: nn.Module, hook: SpectralNorm) -> None:
        super().__init__(module, hook.name, (hook.name + "_orig",))
        self._hook = hook

    def _value(self) -> Tensor:
        return self._hook.compute_weight(self.module, do_power_iteration=False)

    def set_(self, value: Tensor) -> None:
        (original,) = self.tensors()
        original.copy_(value)


class _Pruned(Computed):
    """``torch.nn.utils.prune``. What is pruned stays so: the mask is a buffer."""

    def __init__(self, module: nn.Module, hook: BasePruningMethod) -> None:
        super().__init__(module, hook._tensor_name, (hook._tensor_name + "_orig",))
        self._hook = hook

    def _value(self) -> Tensor:
        value: Tensor = self._hook.apply_mask(self.module)  # type: ignore[no-untyped-call]
        return value

    def set_(self, value: Tensor) -> None:
        (original,) = self.tensors()
        original.copy_(value)
        setattr(self.module, self.leaf, self.value())


_HOOKS: dict[type, Callable[[nn.Module, Any], Computed]] = {
    WeightNorm: _WeightNormed,
    SpectralNorm: _SpectralNormed,
    BasePruningMethod: _Pruned,
}
