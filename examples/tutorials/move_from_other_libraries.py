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
# gives the same bits in less time.
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import matplotlib.pyplot as plt
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
# are the same, and are built faster.
torch.manual_seed(0)
expected_vit = timm.create_model("vit_tiny_patch16_224", num_classes=10)
torch.manual_seed(0)
with pyinit.patch():
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=10)
same = map(torch.equal, vit.parameters(), expected_vit.parameters())
print("the same bits:", all(same))

# %% From timm: its initialization, with a seed
# Inside of `keyed` timm's own code runs as before, and each parameter draws by its name. The
# recipe `vit` knows the same distributions, for a vision transformer of any library.
starts = {"timm": dict(expected_vit.named_parameters())}

with pyinit.keyed(vit, seed=0):
    vit.init_weights()
starts["keyed"] = {name: weight.detach().clone() for name, weight in vit.named_parameters()}

print(pyinit.initialize_(vit, "vit", seed=0).summary)
starts["recipe vit"] = dict(vit.named_parameters())

# %% In a picture
# The three give each weight the same standard deviation.
names = [name for name, weight in vit.named_parameters() if weight.ndim > 1]
figure, axes = plt.subplots()
for (label, weights), marker in zip(starts.items(), ("o", "+", "x"), strict=True):
    fill = "none" if marker == "o" else None
    axes.plot([weights[name].std().item() for name in names], marker, fillstyle=fill, label=label)
axes.set_ylim(0, None)
axes.set_title("Standard deviation of each weight")
axes.set_xlabel("weight, in the model's order")
axes.legend()
title = "Standard deviation of the weights of a vision transformer: timm's own, keyed, and by the recipe vit"
figure.savefig("timm-weights.svg", metadata={"Title": title})

# %% From Keras: its names
# Rules understand the names of Keras's initializers, and the recipe `keras` gives a whole torch
# model what Keras's layers have by default. The fans are those of the torch layers.
keras_model = keras.Sequential(
    [keras.Input((64,)), keras.layers.Dense(256), keras.layers.Dense(10)]
)
by_keras = [keras.ops.convert_to_numpy(layer.kernel).std() for layer in keras_model.layers]

by_torch = [layer.weight.std().item() for layer in (build()[0], build()[2])]
pyinit.initialize_(model, "keras", seed=0)
by_recipe = [model[0].weight.std().item(), model[2].weight.std().item()]
pyinit.initialize_(model, "keras", rules={"0.weight": "he_normal"}, seed=0)
by_rule = [model[0].weight.std().item(), model[2].weight.std().item()]

for label, values in [
    ("Keras's Dense", by_keras),
    ("recipe keras", by_recipe),
    ("with he_normal for the first", by_rule),
    ("torch's Linear", by_torch),
]:
    print(f"{label:<29}", *(f"{value:.3f}" for value in values))

# %% From Keras: its layers
# In a model of Keras's, `pyinit.keras` takes the place of `keras.initializers`: the same classes
# and arguments, with numbers that are the same on each backend.
layer = keras.layers.Dense(256, kernel_initializer=pyinit.keras.HeNormal(seed=0))
layer.build((None, 64))
kernel = keras.ops.convert_to_numpy(layer.kernel)
print(
    f"{kernel.shape}: standard deviation {kernel.std():.3f}, that of He's rule is {(2 / 64) ** 0.5:.3f}"
)
