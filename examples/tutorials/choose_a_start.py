"""Choose a start for your network

There are some twenty recipes and ten methods. This tutorial narrows them down for one network: by
the plan, by a batch that is sent through it, and by a short training that decides. It takes about
a minute on a laptop:

```sh
pip install ".[study]" "torch==2.13.0"
python examples/tutorials/choose_a_start.py
```

The page is made from [the script](../../examples/tutorials/choose_a_start.py), and shows what it
prints.
"""

# %% The network
# A plain chain of eleven convolutions with ELU and without norms looks at the 8x8 digits of
# scikit-learn. Nothing in it keeps signals at their size, so that the start has to.
from collections import OrderedDict

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import pyinit
from pyinit.datasets import load
from pyinit.studies import Claim, Training


def network(depth: int = 11, width: int = 12) -> nn.Sequential:
    layers = OrderedDict(first=nn.Conv2d(1, width, 3, padding=1), elu=nn.ELU())
    for i in range(1, depth):
        layers[f"conv{i}"] = nn.Conv2d(width, width, 3, padding=1)
        layers[f"elu{i}"] = nn.ELU()
    layers |= OrderedDict(pool=nn.AvgPool2d(8), flat=nn.Flatten(), head=nn.Linear(width, 10))
    return nn.Sequential(layers)


# %% What a recipe would give
# A plan says what each parameter would get and why, and writes nothing. `auto` is the recipe that
# looks at the activations and at what follows what; `torch` is what the constructors give. The
# last number of a line is the standard deviation aimed at.
for recipe in ("torch", "auto"):
    plan = pyinit.initialize_(network(), recipe, dry_run=True)
    for name in ("first.weight", "conv5.weight", "head.weight"):
        row = plan[name]
        print(f"{recipe:<6} {name:<13} {row.initializer}: {row.target_std:.3f}")

# %% What a batch says
# Whether such numbers suit the network can be seen before any training. `inspect` sends one batch
# through it for each recipe.
training, _ = load("digits").split()
batch = training.batch(256, seed=0)
recipes = ["torch", "kaiming", "auto", "xavier"]
report = pyinit.inspect(network(), batch.inputs, batch.target, recipes=recipes, seed=0)
for finding in report.findings:
    print("-", finding)

figure, axes = plt.subplots()
for recipe, marker in zip(recipes, "os^D", strict=True):
    rows = [row for row in report.of(recipe) if row.kind == "conv"]
    spread = [row.forward.variance**0.5 for row in rows]
    axes.semilogy(range(1, len(rows) + 1), spread, f"{marker}-", label=recipe)
axes.set_title("Standard deviation over the images")
axes.set_xlabel("convolution")
axes.legend()
title = "What is left of the difference between images behind each convolution, under four recipes"
figure.savefig("start-signals.svg", metadata={"Title": title})

# %% What a short training says
# A recipe that loses the signal is out. Between the others no theory decides, so let the network
# train: a hundred steps from each start, on five seeds, each at the better of two learning rates.
# The candidates are `torch` for comparison, the two recipes whose signals live longest, and a
# method that measures the layers with a batch of the data and shifts them as well. What is
# expected is claimed before the runs.
arms = {
    "torch": "torch",
    "kaiming": "kaiming",
    "auto": "auto",
    "data": {"method": "data_dependent"},
}
study = pyinit.Study(
    network,
    "digits",
    arms,
    seeds=5,
    steps=100,
    training=Training(lr=(0.01, 0.05), momentum=0.9, batch_size=64),
    claims=[
        Claim("accuracy", better="auto", than="torch", at_least=0.1),
        Claim("accuracy", better="data", than="auto"),
    ],
)
result = study.run(jobs=1)
for verdict in result.verdicts:
    print("-", verdict)

# %% The losses
# Both claims hold: `auto` trains where torch's start does not move, and the start from data gets
# further than `auto` does. The picture has the mean training loss of each start over the seeds,
# at the rate that was chosen for it. `result.save("report.html")` writes a whole report, with the
# learning curves of all runs, the layers and the tables.
figure, axes = plt.subplots()
for arm in arms:
    losses = [[step["loss"] for step in run.steps] for run in result.compared if run.arm == arm]
    axes.plot(np.mean(losses, axis=0), label=arm)
axes.set_title("Training loss")
axes.set_xlabel("step")
axes.legend()
title = "Mean training loss over a hundred steps from each of the four starts"
figure.savefig("start-losses.svg", metadata={"Title": title})

# %% Keep what was chosen
# The training proper begins from the start that has won. Its report is kept beside the results:
# it gives the same weights again, without the data, in a later version of pyinit and on another
# machine.
model = network()
start = pyinit.data_dependent_(model, batch.inputs, seed=0)
start.save("start.json")

again = network()
pyinit.replay_(again, pyinit.DataDependentReport.load("start.json"))
same = all(map(torch.equal, again.parameters(), model.parameters()))
print(f"the same weights again: {same}")
