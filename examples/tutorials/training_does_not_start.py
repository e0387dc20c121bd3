"""Why does my training not start?

A network of twenty layers is trained, and its loss stays where it was. This tutorial looks for
the cause step by step, until the network learns. It takes about a minute on a laptop:

```sh
pip install ".[data,plot]" "torch==2.13.0"
python examples/tutorials/training_does_not_start.py
```

The page is made from [the script](../../examples/tutorials/training_does_not_start.py), and shows
what it prints.
"""

# %% A network that does not learn
# Twenty linear layers with ReLU shall tell the ten digits of scikit-learn's images apart. The
# code has no fault that one could see: the sizes fit, the optimizer has the parameters, and the
# learning rate is a usual one.
from functools import partial
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from torch import nn

import pyinit
from pyinit.datasets import load

training, test = load("digits").split()


def build() -> nn.Sequential:
    sizes = [64, *[100] * 19]
    parts = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *parts, nn.Linear(100, 10))


def train(model: nn.Module, steps: int = 300) -> list[float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for step in range(steps):
        batch = training.batch(64, seed=step)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch.inputs), batch.target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        right = model(test.inputs).argmax(1) == test.target
    accuracy = right.float().mean()
    print(f"the loss goes from {losses[0]:.2f} to {losses[-1]:.2f}; accuracy {accuracy:.2f}")
    return losses


torch.manual_seed(0)
model = build()
losses = {"as built": train(model)}

# %% Is every parameter initialized?
# A loss of 2.30 is that of guessing, the logarithm of ten. The first question is whether all
# parameters have been written, and with sane values. `check` builds the model in memory that it
# has poisoned, and looks for what is left of the poison; it also compares the size of each weight
# with what its layer wants, and passes what is up to four times as large or as small.
print(pyinit.check(build))

# %% Where do the signals die?
# So each weight is sound by itself. What twenty of them do one after the other, `inspect` shows.
# It sends a batch through the model and back, and measures the output and the gradient of each
# layer.
torch.manual_seed(0)
batch = training.batch(256, seed=0)
report = pyinit.inspect(build(), batch.inputs, batch.target)
for finding in report.findings:
    print("-", finding)

# %% Look at the layers
# A finding says how fast it goes wrong, where it begins, what the cause is, and behind the
# semicolon what helps: another recipe, tried on this batch. Each layer leaves over a sixth of
# what tells two images apart, and the squared gradient shrinks likewise on its way back. With
# `recipes`, `inspect` compares initializations, and leaves the model's weights as they are. On a
# logarithmic scale a constant factor is a straight line; from `kaiming` both lines stay level.
report = pyinit.inspect(model, batch.inputs, batch.target, recipes=["torch", "kaiming"], seed=0)
figure, (signals, gradients) = plt.subplots(2, 1, figsize=(5.2, 5.2), sharex=True)
for recipe in report.recipes:
    rows = [row for row in report.of(recipe) if row.kind == "linear"]
    depths = range(1, len(rows) + 1)
    signals.semilogy(depths, [row.forward.variance**0.5 for row in rows], "o-", label=recipe)
    gradients.semilogy(depths, [row.backward.std for row in rows], "o-", label=recipe)
signals.set_title("Standard deviation over the images")
signals.legend()
gradients.set_title("Standard deviation of the gradient")
gradients.set_xlabel("layer")
gradients.set_xticks([1, 5, 10, 15, 20])
title = "What tells images apart, and the gradient, by layer: both die from torch's start"
figure.savefig("signals-die.svg", metadata={"Title": title})

# %% The remedy
# Initialize by the recipe that was named. Everything else stays: the same layers, the same
# batches, the same learning rate.
model = build()
print(pyinit.initialize_(model, "kaiming", seed=0).summary)
losses["kaiming"] = train(model)

figure, axes = plt.subplots()
for name, values in losses.items():
    axes.plot(values, label=name)
axes.set_title("Training loss")
axes.set_xlabel("step")
axes.legend()
title = "Training loss over 300 steps: as built it stays at that of guessing, from kaiming it falls"
figure.savefig("signals-live.svg", metadata={"Title": title})

# %% If the start was sound
# Then the first steps may be at fault. With `steps` and an `optimizer`, `inspect` makes that many
# steps on the batch, measures how long the updates are, and puts everything back. Here the start
# is the good one, and the learning rate is a hundred times as large as above. The remedy leads
# back to about 0.01.
pyinit.initialize_(model, "kaiming", seed=0)
report = pyinit.inspect(
    model, batch.inputs, batch.target, steps=1, optimizer=partial(torch.optim.SGD, lr=1.0)
)
for finding in report.findings:
    print("-", finding)
