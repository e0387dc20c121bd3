"""Move from torch.nn.init, timm or Keras

A model that is initialized by another library need not change all at once. This tutorial shows,
for each of the three, the step that changes no number, and then what the next one brings. It
takes about half a minute on a laptop:

```sh
pip install ".[plot]" "torch==2.13.0" keras timm
python examples/tutorials/move_from_other_libraries.py
```

The page is made from [the script](../../examples/tutorials/move_from_other_libraries.py), and
shows what it prints.
"""

# %% From torch.nn.init: the same numbers
# Here is an initialization as many models have it. Under `pyinit.patch()` it runs as it is, and
# gives the same bits. [Patching torch.nn.init](../patch.md) says what it reaches, and how to
# measure what it saves.
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import matplotlib.pyplot as plt
import numpy as np
import timm
import torch
from torch import nn

import pyinit


def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def build() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 10))


torch.manual_seed(0)
expected = build().apply(init_weights)
torch.manual_seed(0)
with pyinit.patch():
    model = build().apply(init_weights)
print("the same bits:", all(map(torch.equal, model.parameters(), expected.parameters())))

# %% From torch.nn.init: the whole model in one call
# The same initialization is one recipe, or a rule for what no recipe has. Then it has a seed of
# its own, the numbers do not depend on what was drawn before, and a report says what each
# parameter got.
report = pyinit.initialize_(model, "xavier", rules={"2.weight": "xavier_uniform"}, seed=0)
print(report)

# %% From timm: the same numbers
# timm draws its weights by the methods of tensors, which the patch reaches, too. So its models
# are the same.
torch.manual_seed(0)
expected_vit = timm.create_model("vit_tiny_patch16_224", num_classes=10)
torch.manual_seed(0)
with pyinit.patch():
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=10)
same = map(torch.equal, vit.parameters(), expected_vit.parameters())
print("the same bits:", all(same))


# %% From timm: its initialization, with a seed
# Inside of `keyed` timm's own code runs as before, and each parameter draws by its name: the
# numbers stay when a layer is added, and when the model is sharded. The recipe `vit` has the same
# distributions for a vision transformer of any library. Each weight then has timm's standard
# deviation, to within what chance leaves.
def compare(start: str) -> None:
    ratios = [
        (weight.std() / expected.std()).item()
        for weight, expected in zip(vit.parameters(), expected_vit.parameters(), strict=True)
        if weight.ndim > 1 and weight.numel() > 1000
    ]
    print(f"{start}: {min(ratios):.3f} to {max(ratios):.3f} of timm's, {len(ratios)} weights")


with pyinit.keyed(vit, seed=0):
    vit.init_weights()
compare("keyed")

pyinit.initialize_(vit, "vit", seed=0)
compare("recipe vit")

# %% From Keras: its names
# Keras's layers start otherwise than torch's: the last layer here has weights of more than twice
# the size. The recipe `keras` gives a torch model what Keras's layers have by default, and rules
# understand the names of Keras's initializers.
keras_model = keras.Sequential(
    [keras.Input((64,)), keras.layers.Dense(256), keras.layers.Dense(10)]
)
starts = {"Keras's Dense": [keras.ops.convert_to_numpy(w.kernel) for w in keras_model.layers]}


def weights(model: nn.Sequential) -> list[np.ndarray]:
    return [layer.weight.detach().numpy().copy() for layer in (model[0], model[2])]


starts["torch's Linear"] = weights(build())
pyinit.initialize_(model, "keras", seed=0)
starts["recipe keras"] = weights(model)
pyinit.initialize_(model, "keras", rules={"0.weight": "he_normal"}, seed=0)
starts["he_normal first"] = weights(model)

for start, (first, last) in starts.items():
    print(f"{start:<15} standard deviations {first.std():.3f}, {last.std():.3f}")

figure, axes = plt.subplots()
for start in ("torch's Linear", "Keras's Dense", "recipe keras"):
    axes.hist(starts[start][1].ravel(), np.linspace(-0.2, 0.2, 41), histtype="step", label=start)
axes.set_title("Weights of the last layer")
axes.set_xlabel("value")
axes.set_ylabel("how many")
axes.legend()
title = "Weights of the last layer: the recipe's spread as Keras's do, torch's are narrower"
figure.savefig("keras-weights.svg", metadata={"Title": title})

# %% From Keras: its layers
# In a model of Keras's, `pyinit.keras` takes the place of `keras.initializers`: the same classes
# and arguments, with numbers that are the same on each backend.
layer = keras.layers.Dense(256, kernel_initializer=pyinit.keras.HeNormal(seed=0))
layer.build((None, 64))
kernel = keras.ops.convert_to_numpy(layer.kernel)
print(f"standard deviation {kernel.std():.3f}; He's rule has {(2 / 64) ** 0.5:.3f}")
