"""Several models of the same shape trained as one: the seeds of an arm."""

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from pyinit.inspection.default_loss import classes_second, default_loss
from pyinit.studies.data import Data
from pyinit.studies.log import Log
from pyinit.studies.train import (
    AT_ONCE,
    Plan,
    batches,
    optimizer_of,
    per_epoch,
    scheduler_of,
    seed_of,
)

Named = dict[str, Tensor]


def train_together(
    models: Sequence[nn.Module], data: Data, plan: Plan, seeds: Sequence[int]
) -> list[tuple[Log, bool]]:
    """Train models from seeds: the log of each, and whether it came to the end.

    All operations are those of ``train``, with a dimension for the models in front, in which products of
    matrices are added up in another order. What is random in training is drawn for all models at once.
    """
    inputs, target = data.training.inputs, data.training.target
    torch.manual_seed(seed_of("training", seeds[0]))
    base = copy.deepcopy(models[0]).to("meta").train()
    parameters, buffers = stack_module_state(list(models))
    for name in [name for name, each in parameters.items() if not each.requires_grad]:
        buffers[name] = parameters.pop(name)  # is frozen

    def loss_of(parameters: Named, buffers: Named, some: Tensor, wanted: Tensor) -> Tensor:
        return default_loss(functional_call(base, (parameters, buffers), (some,)), wanted)

    differentiated = vmap(grad_and_value(loss_of), randomness="different")
    optimizer = optimizer_of(plan, parameters.values())
    scheduler = scheduler_of(plan, optimizer)
    size = plan.training.batch_size
    in_epoch = per_epoch(len(inputs), size)
    logs = [Log(plan.steps) for _ in models]
    going = list(range(len(models)))
    orders = zip(*(batches(len(inputs), size, seed) for seed in seeds), strict=True)
    for step, order in zip(range(plan.steps), orders, strict=False):
        samples = torch.stack(order)
        gradients, losses = differentiated(parameters, buffers, inputs[samples], target[samples])
        now = dict(enumerate(losses.tolist()))
        on = [number for number in going if logs[number].step(step, now[number])]
        _note_epoch(base, parameters, buffers, data, logs, step, set(going) - set(on))
        going = on
        if not going:
            break
        for name, gradient in gradients.items():
            parameters[name].grad = gradient
        optimizer.step()
        scheduler.step()
        if (step + 1) % in_epoch == 0 or step + 1 == plan.steps:
            _note_epoch(base, parameters, buffers, data, logs, step + 1, going)
    return [(log, number in going and log.is_finite) for number, log in enumerate(logs)]


@torch.no_grad()
def _note_epoch(  # noqa: PLR0917
    base: nn.Module,
    parameters: Named,
    buffers: Named,
    data: Data,
    logs: Sequence[Log],
    step: int,
    numbers: Iterable[int],
) -> None:
    """Evaluate all models, and note it of those with these numbers."""
    chosen = list(numbers)
    if not chosen:
        return
    whole = data.test.target
    count = len(logs)
    loss, right = torch.zeros(count), torch.zeros(count)

    def output_of(parameters: Named, buffers: Named, some: Tensor) -> Tensor:
        result: Tensor = functional_call(base, (parameters, buffers), (some,))
        return result

    base.eval()
    several = vmap(output_of, in_dims=(0, 0, None))
    for inputs, target in zip(data.test.inputs.split(AT_ONCE), whole.split(AT_ONCE), strict=True):
        for number, output in enumerate(several(parameters, buffers, inputs.clone())):
            loss[number] += default_loss(output, target).item() * len(target)
            if data.classes is not None:
                found = classes_second(output, target).argmax(1)
                right[number] += int((found == target).sum())
    base.train()
    for number in chosen:
        accuracy = None if data.classes is None else float(right[number]) / whole.numel()
        logs[number].epoch(step, float(loss[number]) / len(whole), accuracy)
