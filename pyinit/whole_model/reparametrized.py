"""Parameters that a module computes from others, by torch's parametrizations or by hooks."""

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
    """A parameter that a module computes.

    module: the module
    leaf: the name in it of the computed parameter
    originals: the names in it of the parameters from which it is computed
    """

    def __init__(self, module: nn.Module, leaf: str, originals: tuple[str, ...]) -> None:
        self.module, self.leaf, self.originals = module, leaf, originals

    @property
    def is_weight_norm(self) -> bool:
        """Whether it is a weight norm of torch's, g v / |v|."""
        return False

    def tensors(self) -> list[Tensor]:
        """The originals as they are now."""
        return [self.module.get_parameter(name) for name in self.originals]

    @property
    def is_here(self) -> bool:
        """Whether it can be computed: torch may crash on originals whose values are elsewhere."""
        return all(elsewhere(tensor) is None for tensor in self.tensors())

    def value(self) -> Tensor:
        """The computed value; it requires a gradient if an original does."""
        with torch.enable_grad():
            return self._value()

    @abstractmethod
    def _value(self) -> Tensor: ...

    @abstractmethod
    def set_(self, value: Tensor) -> None:
        """Set the originals so that the computed value comes as near to ``value`` as it can."""


def computed_by(module: nn.Module) -> Sequence[Computed]:
    """The parameters that a module computes."""
    if not module._forward_pre_hooks and "parametrizations" not in module._modules:
        return ()
    found: list[Computed] = []
    if parametrize.is_parametrized(module):
        found += (_Parametrized(module, leaf) for leaf in module.parametrizations)  # type: ignore[union-attr]
    for hook in module._forward_pre_hooks.values():
        found += (kind(module, hook) for cls, kind in _HOOKS.items() if isinstance(hook, cls))
    # A parametrized buffer has no parameters among its originals.
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

    @property
    def is_weight_norm(self) -> bool:
        return isinstance(self._steps[0], _WeightNorm)

    def _value(self) -> Tensor:
        """Compute in evaluation mode, in which parametrizations change nothing of their own."""
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
        """Set the originals through the inverses of the parametrizations.

        If one has no inverse, the original itself is set, as torch does when a parametrization is
        registered. Unlike an assignment, this writes into the originals' own memory.
        """
        values: Any = value
        if all(hasattr(step, "right_inverse") for step in self._steps):
            with suppress(NotImplementedError):
                for step in reversed(self._steps):
                    values = step.right_inverse(values)
        values = (values,) if isinstance(values, Tensor) else values
        if self.is_weight_norm:
            values = values[0], _with_direction(*values)
        for original, new in zip(self.tensors(), values, strict=True):
            original.copy_(new)


class _WeightNormed(Computed):
    """``torch.nn.utils.weight_norm`` (Salimans & Kingma 2016)."""

    def __init__(self, module: nn.Module, hook: WeightNorm) -> None:
        super().__init__(module, hook.name, (hook.name + "_g", hook.name + "_v"))
        self._hook = hook

    @property
    def is_weight_norm(self) -> bool:
        return True

    def _value(self) -> Tensor:
        value: Tensor = self._hook.compute_weight(self.module)
        return value

    def set_(self, value: Tensor) -> None:
        g, v = self.tensors()
        g.copy_(torch.norm_except_dim(value, 2, self._hook.dim))
        v.copy_(_with_direction(g, value))
        setattr(self.module, self.leaf, self.value())


def _with_direction(g: Tensor, v: Tensor) -> Tensor:
    """Give v a direction also where g is 0: the weight would be 0 / 0."""
    return torch.where(g == 0, torch.ones_like(v), v)


class _SpectralNormed(Computed):
    """``torch.nn.utils.spectral_norm`` (Miyato et al. 2018); its vectors are buffers."""

    def __init__(self, module: nn.Module, hook: SpectralNorm) -> None:
        super().__init__(module, hook.name, (hook.name + "_orig",))
        self._hook = hook

    def _value(self) -> Tensor:
        return self._hook.compute_weight(self.module, do_power_iteration=False)

    def set_(self, value: Tensor) -> None:
        (original,) = self.tensors()
        original.copy_(value)


class _Pruned(Computed):
    """``torch.nn.utils.prune``. Pruned elements stay pruned: the mask is a buffer."""

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
