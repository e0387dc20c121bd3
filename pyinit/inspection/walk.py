"""Layers in execution order, while one pass runs through a model."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pyinit._random.generators import global_states_kept
from pyinit._torch.placement import refuse_elsewhere
from pyinit._torch.wrappers import unwrapped
from pyinit.inspection.arguments import check_flag, check_function, check_model
from pyinit.inspection.batches import read_batch
from pyinit.inspection.calls import Call
from pyinit.inspection.layers import (
    Layer,
    Layers,
    has_parameters,
    is_activation,
    is_quantized,
    refuse_unready,
)
from pyinit.inspection.no_training import no_training
from pyinit.inspection.one_pass import Pass, Visitors
from pyinit.inspection.progress import progress

__all__ = ["Call", "Layer", "Walked", "has_parameters", "is_activation", "walk"]


@dataclass(frozen=True)
class Walked:
    """What a pass has met.

    output: what the model returned
    loss: the loss, if there was one
    calls: how often each visited layer was called, in the order of the first calls
    unused: the layers that the pass did not call, and none of whose parameters it used
    frozen: the parameters that require no gradient
    quantized: the modules whose weights are stored in integers
    """

    output: Any
    loss: float | None
    calls: Mapping[str, int]
    unused: tuple[str, ...]
    frozen: tuple[str, ...]
    quantized: tuple[str, ...]


Visit = Callable[[Call], object]
VisitGradient = Callable[[Call, Tensor], object]
VisitWeight = Callable[[str, nn.Parameter, Tensor], object]


def walk(
    model: nn.Module,
    batch: Any,
    visit: Visit | None = None,
    *,
    target: Any = None,
    layers: Any = None,
    training: bool | None = None,
    loss: Callable[..., Tensor] | None = None,
    visit_gradient: VisitGradient | None = None,
    visit_weight: VisitWeight | None = None,
    reads_only: bool = False,
) -> Walked:
    """Run one pass through a model, and stop at each call of a layer, in the order of execution.

    Layers are met as the model runs, by hooks of modules and by functions of parameters (the
    projections of ``nn.MultiheadAttention``, a weight that is used outside its module): whatever
    decides what runs, and as often as it runs. Compiled parts run eagerly.

    ``visit`` may write to the layer's parameters, in place, and have the layer alone computed again by
    ``call.again()``. What it writes stays. Everything else is as before, whatever is raised: values of
    buffers and other attributes, the mode of each module, ``requires_grad``, ``grad``, hooks, and all
    generators. What ``visit`` itself draws from the global generators stays drawn, unless the walk
    raises; the pass does not see it.

    Args:
        model: the model, also wrapped by ``torch.compile`` or ``DistributedDataParallel``
        batch: what ``pyinit.inspection.batches.read_batch`` takes
        visit: called with each ``Call`` when the layer has returned, without gradients
        target: the target, if it does not come with the batch
        layers: which layers to visit: a glob over their names, a compiled regular expression, a class
            of modules, a function from ``Layer`` to bool, or a list of these. By default those that
            own parameters; a module whose parameters are all used by visited functions, as
            ``nn.MultiheadAttention`` is, is not visited beside these
        training: the mode of all modules during the pass; by default each keeps its own
        loss: a function of the output, or of output and target if there is one, whose scalar is
            differentiated. Without it the pass is computed without gradients, so that no activation
            is kept for long
        visit_gradient: called with a ``Call`` and the gradient by ``Call.tensor``, in the order in
            which the backward pass gets there; needs ``loss``
        visit_weight: called, after the backward pass, with each parameter's name, the parameter and
            the gradient by it; needs ``loss``
        reads_only: the visits only read: they write to nothing, draw from no global generator and have no
            layer computed again. Nothing is then kept for them to go back to, which takes time

    Returns:
        Output, loss, calls, and the layers that were not used.

    Raises:
        TypeError, ValueError: for arguments that are none of these, before the pass; see
            ``read_batch``, too. For a model with lazy parameters, with parts on the meta device or
            with values elsewhere (sharded, offloaded). For a loss that is no scalar, or that nothing
            can be differentiated from.
        RuntimeError: where the model fails, naming the layer, from the model's error.

    Example:
        >>> import torch
        >>> from pyinit.inspection.walk import walk
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
        >>> def unit_variance(call):
        ...     call.parameters[f"{call.name}.weight"].div_(call.tensor.std())
        ...     call.again()
        >>> walk(model, torch.randn(64, 3), unit_variance).calls
        {'0': 1, '2': 1}
    """
    check_model(model)
    check_function("loss", loss, "the output, or of output and target")
    check_function("visit", visit, "a Call")
    check_function("visit_gradient", visit_gradient, "a Call and a gradient")
    check_function("visit_weight", visit_weight, "a name, a parameter and a gradient")
    if training is not None:
        check_flag("training", training)
    if loss is None and (visit_gradient or visit_weight):
        raise ValueError("visit_gradient and visit_weight need a loss, got loss=None")
    if loss is not None and torch.is_inference_mode_enabled():
        raise ValueError("loss cannot be differentiated in torch.inference_mode()")
    with unwrapped(model) as plain:
        refuse_unready(plain)
        refuse_elsewhere("walk", plain.named_parameters(remove_duplicate=False), plain)
        if loss is not None:
            _refuse_hooks(plain)
        found = Layers(plain, layers)
        with global_states_kept():
            read = read_batch(plain, batch, target)
        visitors = Visitors(visit, visit_gradient, visit_weight, reads_only)
        with progress() as bar, no_training():
            one = Pass(plain, found, visitors, bar)
            output, value = one.run(read, loss, training)
        return Walked(
            output,
            value,
            one.counts,
            tuple(one.unused),
            tuple(name for name, each in plain.named_parameters() if not each.requires_grad),
            tuple(_quantized(plain)),
        )


def _refuse_hooks(model: nn.Module) -> None:
    """An optimizer may step in them, which could not be undone."""
    for name, parameter in model.named_parameters():
        if parameter._post_accumulate_grad_hooks:
            raise ValueError(
                f"{name} has a hook that runs after its gradient is accumulated, which no backward "
                "pass but training's must call: remove it for the walk"
            )


def _quantized(model: nn.Module) -> Iterator[str]:
    """Modules, but not those inside them."""
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module not in inside and is_quantized(module):
            inside.update(module.modules())
            yield name
