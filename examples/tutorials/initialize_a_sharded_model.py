"""Initialize a sharded model

Two processes train one model, and each holds a part of every weight. This tutorial initializes
such a model on the CPU, so that it needs no GPU, and shows what goes wrong with `torch.nn.init`.
It takes about half a minute on a laptop:

```sh
pip install ".[plot]" "torch==2.13.0"
torchrun --standalone --nproc-per-node 2 examples/tutorials/initialize_a_sharded_model.py
```

The page is made from [the script](../../examples/tutorials/initialize_a_sharded_model.py), and
shows what it prints.
"""

# %% Two processes
# `torchrun` starts the script twice. Everything in it runs in both processes, which find each
# other by `init_process_group`; only the first one prints.
import matplotlib.pyplot as plt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

import pyinit
from pyinit.models.llama import Llama

dist.init_process_group("gloo")
rank = dist.get_rank()


def say(text: str) -> None:
    if rank == 0:
        print(text)


say(f"{dist.get_world_size()} processes")


# %% Build, spread, give memory
# A model that no machine holds is built on the meta device, where parameters have shapes and no
# values. `fully_shard` cuts each into as many parts as there are processes, and `to_empty` gives
# memory to what this process holds. What is in this memory is up to chance.
def build() -> nn.Module:
    return Llama(vocab=256, width=64, hidden=160, layers=3, head_dim=16, heads=4, kv_heads=2)


def spread() -> nn.Module:
    with torch.device("meta"):
        model = build()
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    return model.to_empty(device="cpu")


model = spread()
weight = model.model.layers[0].mlp.up_proj.weight
say(f"the whole weight is {tuple(weight.shape)}; here is {tuple(weight.to_local().shape)} of it")

# %% What torch.nn.init does
# On the CPU each process fills its own part, and both begin from the same seed. So the parts are
# the same: the lower half of the weight is a copy of the upper one, and so half of the layer's
# units are twins of the other half.
torch.manual_seed(0)
nn.init.normal_(weight, std=0.1)
by_torch = weight.full_tensor().detach()
upper, lower = by_torch.chunk(2)
say(f"the lower half equals the upper half: {torch.equal(upper, lower)}")

# %% What pyinit does
# `initialize_` is called as for any model. Each process fills what it holds with the numbers that
# the whole model has there, which follow from the seed, the parameter's name and the place of the
# element. Nothing is sent for that.
report = pyinit.initialize_(model, "llama", seed=0)
say(report.summary)
by_pyinit = weight.full_tensor().detach()
upper, lower = by_pyinit.chunk(2)
say(f"the lower half equals the upper half: {torch.equal(upper, lower)}")

# %% The same as in one process
# The model in one piece, from the same seed, has the same bits. So a run on two processes can be
# compared with one on a single machine, or be continued on eight.
plain = build()
pyinit.initialize_(plain, "llama", seed=0)
whole = [parameter.full_tensor() for parameter in model.parameters()]
same = sum(map(torch.equal, whole, plain.parameters()))
say(f"{same} of {len(whole)} parameters are the same bits as in one process")


# %% In a picture
# Some columns of the weight, with the part of the first process above the line and that of the
# second one below. `torch.nn.init` has drawn the same picture twice.
def show(axes: plt.Axes, values: Tensor, title: str) -> None:
    half = len(values) // 2
    parts = torch.cat([values[:12, :24], values[half : half + 12, :24]])
    most = parts.abs().max()
    axes.pcolormesh(parts, cmap="RdBu", vmin=-most, vmax=most, edgecolors="face")
    axes.axhline(12, color="black", linewidth=2)
    axes.invert_yaxis()
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks([6, 18], ["process 1", "process 2"])
    axes.set_title(title)


if rank == 0:
    figure, (above, below) = plt.subplots(2, 1, figsize=(5.2, 6.4))
    show(above, by_torch, "torch.nn.init")
    show(below, by_pyinit, "pyinit")
    title = "Parts of a weight: by torch both processes have the same numbers, by pyinit their own"
    figure.savefig("sharded-weight.svg", metadata={"Title": title})

# %% The end
# An optimizer is made after the model was spread, and training goes on as usual. For a model that
# brings an initialization of its own, `pyinit.keyed` does the same. Without any process group,
# `pyinit init ... --shards N` writes a checkpoint. [Beyond one machine](../scale.md) has both.
model(torch.arange(16)[None]).square().mean().backward()
say(f"gradients are sharded, too: {type(weight.grad).__name__}")
dist.destroy_process_group()
