"""Which layers of a model are watched, and the parameters that each owns."""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from pyinit._torch.placement import loaded, refuse_elsewhere
from pyinit._torch.wrappers import unwrapped
from pyinit.inspection.layers import WITH_ACTIVATIONS, Layer, Layers, refuse_without_values


def layers_of(model: nn.Module, patterns: Any) -> list[Layer]:
    """The modules that patterns choose, with those of their parameters that are floating-point
    numbers, each by its first name; by default activations and what owns parameters.

    Raises:
        TypeError: for what is no pattern.
        ValueError: for a pattern that no module matches, lazy parameters, those on the meta device and
            those whose values are elsewhere.
    """
    with unwrapped(model) as plain:
        layers = Layers(plain, WITH_ACTIVATIONS if patterns is None else patterns)
    if patterns is not None:
        layers.refuse_unmatched(layers.modules)
    first: dict[int, str] = {}
    for layer in layers.modules:
        for name, each in layer.parameters.items():
            first.setdefault(id(each), name)
    chosen = [
        replace(
            layer,
            parameters={
                first[id(each)]: each
                for each in layer.parameters.values()
                if each.is_floating_point()
            },
        )
        for layer in layers.modules
        if layers.selects(layer)
    ]
    named = [item for layer in chosen for item in layer.parameters.items()]
    refuse_without_values(named)
    refuse_elsewhere("Monitor", named, model)
    return chosen


def compiled_parts(model: nn.Module) -> set[nn.Module]:
    """The modules that run in graphs of ``torch.compile`` or TorchScript, which do not call hooks that
    are added later."""
    of_dynamo = loaded("torch._dynamo.eval_frame", "OptimizedModule")
    graphs = (torch.jit.ScriptModule, *((of_dynamo,) if of_dynamo else ()))
    return {
        inner
        for module in model.modules()
        if isinstance(module, graphs) or module._compiled_call_impl is not None
        for inner in module.modules()
    }
