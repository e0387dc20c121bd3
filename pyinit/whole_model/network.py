"""A model as recipes and rules see it: its modules, and its parameters in their places."""

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter, is_lazy
from torch.nn.utils.parametrize import ParametrizationList

from pyinit._graph.graph import Graph
from pyinit._graph.kinds import weight_layout
from pyinit._graph.trace import trace
from pyinit._torch.once import once
from pyinit._torch.placement import has_dtensors
from pyinit._torch.views import whole_shape
from pyinit._torch.wrappers import named_modules
from pyinit.initializers import Weight
from pyinit.whole_model.own_resets import OwnResets
from pyinit.whole_model.reparametrized import Computed, computed_by


class Site:
    """A parameter in its place.

    name: its qualified name, the first one if it has several
    tensor: the parameter, or a stand-in of the same shape, dtype and device if the module computes
        it (parametrizations, weight_norm, spectral_norm, pruning)
    module: the module that owns it
    path: the qualified name of that module
    leaf: its name in the module, such as ``"weight"``
    weight: its shape, and how its layer uses it
    tied: its further names
    computed: how the module computes it, if it does
    originals: the names of the parameters that it is computed from
    """

    __slots__ = (
        "computed",
        "leaf",
        "module",
        "name",
        "originals",
        "path",
        "tensor",
        "tied",
        "weight",
    )

    def __init__(self, name: str, tensor: Tensor, module: nn.Module, path: str, leaf: str) -> None:
        self.name, self.tensor, self.module, self.path, self.leaf = name, tensor, module, path, leaf
        self.tied: tuple[str, ...] = ()
        self.originals: tuple[str, ...] = ()
        self.computed: Computed | None = None
        groups, transposed = weight_layout(module) if leaf == "weight" else (1, False)
        self.weight = Weight(whole_shape(tensor), groups, transposed)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape

    @property
    def parameters(self) -> list[Tensor]:
        """The parameter as it is now, or the parameters that it is computed from."""
        if self.computed is not None:
            return self.computed.tensors()
        return [self.module._parameters[self.leaf]]  # type: ignore[list-item]

    @property
    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """``parameters`` with their names, each once if the module has several names."""
        return zip(self.originals or (self.name,), self.parameters, strict=False)

    def __repr__(self) -> str:
        return f"Site({self.name!r}, {type(self.module).__name__}, {self.shape})"


class Network:
    """A model's modules and parameters, and what follows what.

    Names are those of the plain model, whatever wrappers of torch are in it.

    model: the model
    modules: the modules by qualified name, each once
    sites: a ``Site`` for each parameter, tied ones once, in the order of
        ``model.named_parameters()``
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modules: dict[str, nn.Module] = {}
        self.sites: list[Site] = list(self._sites())

    @once
    def graph(self) -> Graph:
        """What follows each layer, and the residual branches; the model is traced on first use."""
        return trace(self.model)

    @once
    def own_resets(self) -> OwnResets:
        """How the model's own code gives values to its parameters."""
        return OwnResets(self.modules)

    @once
    def by_name(self) -> dict[str, Site]:
        """The sites by all of their names."""
        return {name: site for site in self.sites for name in (site.name, *site.tied)}

    @once
    def has_dtensors(self) -> bool:
        """Whether a parameter is a DTensor."""
        return has_dtensors(tensor for site in self.sites for tensor in site.parameters)

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
        computed: dict[nn.Module, Sequence[Site]] = {}
        # A module that stands in two places has two names.
        for path, module in named_modules(self.model):
            prefix = path + "." if path else ""
            here = computed.get(module)
            if here is None:
                self.modules[path] = module
                of_module = computed_by(module)
                here = [_computed(c, path) for c in of_module] if of_module else _NONE
                computed[module] = here
                yield from here
            else:
                for site in here:
                    site.tied += (prefix + site.leaf,)
            originals: Collection[str] = ()
            if here:
                for site in here:
                    site.originals += _originals(site, prefix)
                originals = {name for site in here for name in _originals(site, "")}
            if not module._parameters or isinstance(module, ParametrizationList):
                continue
            for leaf, tensor in module._parameters.items():
                if tensor is None or leaf in originals:
                    continue
                name = prefix + leaf
                if type(tensor) is not Parameter:
                    refuse_lazy(name, tensor)
                known = seen.get(id(tensor))
                if known is None:
                    seen[id(tensor)] = site = Site(name, tensor, module, path, leaf)
                    yield site
                else:
                    known.tied += (name,)


_NONE: Sequence[Site] = ()


def refuse_lazy(name: str, tensor: Tensor) -> None:
    """Raise ValueError if a parameter or buffer has no shape yet."""
    if is_lazy(tensor):
        raise ValueError(
            f"parameter {name} has no shape yet: it is lazy; run a batch through the model first"
        )


def _computed(computed: Computed, path: str) -> Site:
    name = f"{path}.{computed.leaf}" if path else computed.leaf
    value = computed.value() if computed.is_here else computed.tensors()[-1]
    like = torch.empty((), dtype=value.dtype, device=value.device).expand(whole_shape(value))
    # To set it would set all of its originals, and frozen ones stay as they are.
    like.requires_grad_(all(tensor.requires_grad for tensor in computed.tensors()))
    site = Site(name, like, computed.module, path, computed.leaf)
    site.computed = computed
    return site


def _originals(site: Site, prefix: str) -> tuple[str, ...]:
    return tuple(prefix + name for name in site.computed.originals) if site.computed else ()
