"""What others' code writes in the backward pass of an inspection is put back, wherever it comes from."""

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import pyinit
from pyinit.inspection import one_pass
from pyinit.inspection.foreign_code import ForeignCode
from pyinit.models import build


class Model(nn.Module):
    """Counts in ``seen`` how often the code that ``way`` brings into the backward pass has run."""

    def __init__(self, way):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)
        self.register_buffer("seen", torch.zeros(()))
        self.ran = 0
        self.way = way

    def count(self, *_):
        self.seen.add_(1)
        self.runs.append(1)

    def forward(self, x):
        return self.last(self.way(self, self.first, x).relu())


def plain(model, first, x):
    return first(x)


def by_tensor_hook(model, first, x):
    y = first(x)
    y.register_hook(model.count)
    return y


def by_node_hook(model, first, x):
    y = first(x)
    y.grad_fn.register_hook(model.count)
    return y


def by_node_behind(model, first, x):
    y = first(x)
    node, _ = y.sum().grad_fn.next_functions[0]
    node.register_prehook(model.count)
    return y


def by_saved_tensors(model, first, x):
    def unpack(tensor):
        model.count()
        return tensor

    with saved_tensors_hooks(lambda tensor: tensor, unpack):
        return first(x).sigmoid()


def by_function(model, first, x):
    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(_, tensor):
            return tensor.clone()

        @staticmethod
        def backward(_, gradient):
            model.count()
            return gradient

    return Counted.apply(first(x))


def by_checkpoint(reentrant):
    def way(model, first, x):
        def part(tensor):
            if model.calls:
                model.count()
            model.calls.append(1)
            return first(tensor)

        model.calls.clear()
        return checkpoint(part, x, use_reentrant=reentrant)

    return way


def by_older_graph(model, first, x):
    return first(x) + model.older


WAYS = {
    "tensor's hook": by_tensor_hook,
    "node's hook": by_node_hook,
    "node behind": by_node_behind,
    "saved tensors": by_saved_tensors,
    "function": by_function,
    "checkpoint": by_checkpoint(False),
    "reentrant checkpoint": by_checkpoint(True),
    "older graph": by_older_graph,
    "parameter's hook": plain,
    "module's hook": plain,
}


def made(name):
    torch.manual_seed(0)
    model = Model(WAYS[name])
    object.__setattr__(model, "runs", _Runs())
    object.__setattr__(model, "calls", _Runs())
    if name == "older graph":
        older = model.last.weight.sum() * 1
        older.register_hook(model.count)
        model.older = older
    elif name == "parameter's hook":
        model.first.weight.register_hook(model.count)
    elif name == "module's hook":
        model.first.register_full_backward_hook(model.count)
    return model


class _Runs:
    """A list that is not put back: attributes of modules are."""

    __slots__ = ("items",)

    def __init__(self):
        self.items = []

    def append(self, one):
        self.items.append(one)

    def clear(self):
        self.items.clear()

    def __len__(self):
        return len(self.items)


class Counting(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.backward = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.backward += "backward" in str(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", WAYS)
def test_what_it_writes_is_put_back(name):
    model = made(name)
    x = torch.randn(3, 4, requires_grad=name in ("reentrant checkpoint", "module's hook"))
    before = model.seen.clone()
    pyinit.inspect(model, x)
    assert len(model.runs), "the code did not run: the test would show nothing"
    assert torch.equal(model.seen, before)


def test_a_mode_of_others_stays():
    with Counting() as counting:
        pyinit.inspect(made("tensor's hook"), torch.randn(3, 4))
        watched = counting.backward
        pyinit.inspect(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.randn(3, 4))
    assert counting.backward > watched > 0


@pytest.mark.parametrize("model", ["lenet5", "gpt2"])
def test_torchs_own_code_is_not_watched(model, monkeypatch):
    told = []
    ask = ForeignCode.can_run
    monkeypatch.setattr(
        one_pass.ForeignCode, "can_run", lambda *args: told.append(ask(*args)) or told[-1]
    )
    small = {"lenet5": {}, "gpt2": {"layers": 2, "width": 32, "heads": 2}}[model]
    network = build(model, **small)
    pyinit.initialize_(network, "torch", seed=0)
    batch = torch.zeros(2, 1, 28, 28) if model == "lenet5" else torch.zeros(2, 8, dtype=torch.int64)
    pyinit.inspect(network, batch)
    assert set(told) == {False}
