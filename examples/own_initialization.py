"""A model's own initialization: run it as it is, with numbers that stay when the model grows.

    python examples/own_initialization.py

torch draws one parameter after the other from one sequence, so another layer in the middle changes all that
come after it. Under ``keyed`` each parameter draws by its own name.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

import pyinit


def init_weights(module: nn.Module) -> None:
    """What the model's authors have written."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def weights(*names: str, keyed: bool) -> dict[str, Tensor]:
    """The weights of a chain of layers with these names, by its own initialization from seed 0."""
    model = nn.Sequential(OrderedDict((name, nn.Linear(32, 32)) for name in names))
    if keyed:
        with pyinit.keyed(model, seed=0):
            model.apply(init_weights)
    else:
        torch.manual_seed(0)
        model.apply(init_weights)
    return {name: layer.weight.detach() for name, layer in model.named_children()}


for keyed in (False, True):
    before = weights("first", "second", "head", keyed=keyed)
    after = weights("first", "adapter", "second", "head", keyed=keyed)
    kept = [name for name, weight in before.items() if torch.equal(weight, after[name])]
    print(
        f"{'with' if keyed else 'without'} keyed, an adapter leaves as they were:", ", ".join(kept)
    )
