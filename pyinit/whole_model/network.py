"""A model as recipes and rules see it: its parameters, each in its place."""

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from pyinit.whole_model.graph import Graph, trace
from pyinit.whole_model.initializers import Weight


class Site:
    """A parameter in its place.

    name: its qualified name, the first if it has several
    tensor: the parameter; of a parametrized one, what the module computes from the originals
    module, path: the module that owns it and that module's qualified name
    leaf: its name in the module, such as ``"weight"``
    tied: its further names
    originals: of a parametrized one, the names of the parameters that it is computed from
    """

    __slots__ = ("leaf", "module", "name", "originals", "path", "tensor", "tied", "weight")

    def __init__(self, name: str, tensor: Tensor, module: nn.Module, path: str, leaf: str) -> None:
        self.name, self.tensor, self.module, self.path, self.leaf = name, tensor, module, path, leaf
        self.tied: tuple[str, ...] = ()
        self.originals: tuple[str, ...] = ()
        groups, transposed = usage(module) if leaf == "weight" else (1, False)
        self.weight = Weight(tuple(tensor.shape), groups, transposed)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape

    def __repr__(self) -> str:
        return f"Site({self.name!r}, {type(self.module).__name__}, {self.shape})"


def usage(module: nn.Module) -> tuple[int, bool]:
    """Groups of a layer's weight, and whether the inputs stand in its dim 0."""
    if isinstance(module, _ConvNd):
        return module.groups, isinstance(module, _ConvTransposeNd)
    return 1, is_conv1d(module)


def is_conv1d(module: nn.Module) -> bool:
    """Whether it is transformers' Conv1D: a linear layer with weight (in, out)."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def computed(module: nn.Module, leaf: str) -> Tensor:
    """A parametrized parameter; nothing that its parametrization does in training mode is done."""
    modes = [(part, part.training) for part in module.parametrizations.modules()]  # type: ignore[union-attr]
    try:
        for part, _ in modes:
            part.training = False
        with torch.enable_grad():  # for requires_grad to tell whether it is frozen
            value: Tensor = getattr(module, leaf)
        return value
    finally:
        for part, mode in modes:
            part.training = mode


class Network:
    """A model's modules and parameters, and what follows what.

    model: the model
    modules: qualified name to module, each module once
    sites: one for each parameter, tied ones once, in the order of ``model.named_parameters()``
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modules: dict[str, nn.Module] = {}
        self.sites: list[Site] = list(self._sites())

    @cached_property
    def graph(self) -> Graph:
        """What follows each layer, and the residual branches."""
        return trace(self.model)

    @cached_property
    def by_name(self) -> dict[str, Site]:
        """Sites by all of their names."""
        return {name: site for site in self.sites for name in (site.name, *site.tied)}

    @property
    def is_on_meta(self) -> bool:
        """Whether a parameter or buffer is on the meta device."""
        return any(site.tensor.is_meta for site in self.sites) or any(
            buffer is not None and buffer.is_meta
            for module in self.modules.values()
            for buffer in module._buffers.values()
        )

    def _sites(self) -> Iterator[Site]:
        seen: dict[int, Site] = {}
        modules: set[nn.Module] = set()
        # A module that is there twice has names twice.
        for path, module in self.model.named_modules(remove_duplicate=False):
            if module not in modules:
                modules.add(module)
                self.modules[path] = module
                if "parametrizations" in module._modules:
                    yield from self._parametrized(module, path)
            if isinstance(module, parametrize.ParametrizationList):
                continue
            prefix = path + "." if path else ""
            for leaf, tensor in module._parameters.items():
                if tensor is None:
                    continue
                name = prefix + leaf
                if is_lazy(tensor):
                    raise ValueError(
                        f"parameter {name} has no shape yet: it is lazy; run a batch through the model first"
                    )
                known = seen.get(id(tensor))
                if known is None:
                    seen[id(tensor)] = site = Site(name, tensor, module, path, leaf)
                    yield site
                else:
                    known.tied += (name,)

    def _parametrized(self, module: nn.Module, path: str) -> Iterator[Site]:
        if not parametrize.is_parametrized(module):
            return
        prefix = path + "." if path else ""
        for leaf, originals in module.parametrizations.items():  # type: ignore[union-attr, operator]
            site = Site(prefix + leaf, computed(module, leaf), module, path, leaf)
            within = f"{prefix}parametrizations.{leaf}"
            site.originals = tuple(f"{within}.{name}" for name, _ in originals.named_parameters())
            yield site
