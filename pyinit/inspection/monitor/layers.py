"""Which layers of a model are watched, and the parameters that each owns."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from pyinit._graph.activations import is_activation
from pyinit._graph.kinds import PARAMETER_HOLDERS
from pyinit._torch.placement import loaded, refuse_elsewhere
from pyinit._torch.wrappers import named_modules
from pyinit.whole_model.rules.patterns import Matcher, matcher


@dataclass(eq=False)
class Layer:
    """A module that is watched.

    name: its qualified name, the first one if it stands in several places
    module: the module
    parameters: those of floating-point numbers that it owns itself, by their first qualified name
    tied: its further names
    """

    name: str
    module: nn.Module
    parameters: dict[str, nn.Parameter]
    tied: tuple[str, ...] = ()
    originals: ClassVar[tuple[str, ...]] = ()  # patterns ask a parameter for them

    @property
    def samples_and_channel(self) -> tuple[int, int] | None:
        """For an output (N, ..., C) or (N, C, ...): the leading dimensions that number samples, and that
        of channels, which may count from the end; None if the kind of module does not say."""
        if isinstance(self.module, (_ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)):
            return 1, 1
        return (-1, -1) if isinstance(self.module, _CHANNELS_LAST) else None


_CHANNELS_LAST = (
    *(nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm),
    *(nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase),
)


def layers_of(model: nn.Module, patterns: Any) -> list[Layer]:
    """The layers that patterns choose; by default activations and what owns parameters.

    Raises:
        TypeError: for what is no pattern.
        ValueError: for a pattern that no layer matches, lazy parameters, those on the meta device and
            those whose values are elsewhere.
    """
    found = _all_layers(model)
    if patterns is None:
        chosen = [layer for layer in found if layer.parameters or is_activation(layer.module)]
    else:
        matches = matcher(patterns)
        _refuse_unmatched(matches, found)
        chosen = [layer for layer in found if matches(cast(Any, layer))]
    _refuse_unready(chosen, model)
    return chosen


def compiled_parts(model: nn.Module) -> set[nn.Module]:
    """The modules that run in graphs of ``torch.compile``, which do not call hooks that are added later."""
    graph = loaded("torch._dynamo.eval_frame", "OptimizedModule")
    return {
        inner
        for module in model.modules()
        if module._compiled_call_impl is not None or (graph and isinstance(module, graph))
        for inner in module.modules()
    }


def _all_layers(model: nn.Module) -> list[Layer]:
    """All modules, each once, with what is a part of theirs taken into them."""
    layers: dict[nn.Module, Layer] = {}
    owners: dict[str, Layer] = {}  # by the path of a module
    names: dict[int, str] = {}  # the first one of each parameter
    for path, module in named_modules(model):
        parent, _, name = path.rpartition(".")
        around = owners.get(parent) if path else None
        if around is not None and _is_part(around.module, name, module, parent != around.name):
            owners[path] = layer = around
        elif module in layers:
            owners[path] = layer = layers[module]
            layer.tied += (path,)
            continue
        else:
            owners[path] = layer = layers[module] = Layer(path, module, {})
        prefix = f"{path}." if path else ""
        for leaf, parameter in module._parameters.items():
            if parameter is not None and parameter.is_floating_point():
                layer.parameters[names.setdefault(id(parameter), prefix + leaf)] = parameter
    return list(layers.values())


def _is_part(around: nn.Module, name: str, module: nn.Module, is_inside_part: bool) -> bool:
    """Whether a module's parameters are those of the layer around it."""
    if isinstance(module, PARAMETER_HOLDERS):
        return True
    if name == "parametrizations" and parametrize.is_parametrized(around):
        return True
    return is_inside_part and parametrize.is_parametrized(around)


class _Names:
    """What matchers ask of a network, to say what may have been meant."""

    def __init__(self, layers: list[Layer]) -> None:
        self.by_name = {layer.name: layer for layer in layers}
        self.sites = layers


def _refuse_unmatched(matches: Matcher, layers: list[Layer]) -> None:
    for each in getattr(matches, "matchers", (matches,)):
        if not any(each(cast(Any, layer)) for layer in layers):
            names = cast(Any, _Names(layers))
            raise ValueError(f"layers: no layer matches {each}; {each.near(names)}")


def _refuse_unready(layers: Iterable[Layer], model: nn.Module) -> None:
    named: list[tuple[str, Tensor]] = [
        item for layer in layers for item in layer.parameters.items()
    ]
    for name, parameter in named:
        if is_lazy(parameter):
            raise ValueError(
                f"{name} has no shape yet: it is lazy; run a batch through the model first"
            )
        if parameter.is_meta:
            raise ValueError(
                f"{name} is on the meta device, where nothing is trained: initialize the model first, "
                'as by pyinit.initialize_(model, device="cpu")'
            )
    refuse_elsewhere("Monitor", named, model)
