"""Pretrained weights for another task: from three colours and 1000 classes to gray and 10.

    python examples/pretrained.py

``load_pretrained_`` copies what fits, sums the first convolution's filters over the colours, and
initializes the new head.
"""

import torch
from safetensors.torch import save_file
from torch import nn

import pyinit


def network(channels: int, classes: int) -> nn.Sequential:
    """A small CNN, whose weights stand for those of a large one that was trained."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, classes),
    )


torch.manual_seed(0)
trained = network(3, 1000)
save_file(trained.state_dict(), "trained.safetensors")

model = network(1, 10)
report = pyinit.load_pretrained_(model, "trained.safetensors", seed=0, freeze=["2.*"])
print(report)

gray = torch.rand(8, 1, 32, 32)
by_trained = trained[:-1](gray.expand(-1, 3, -1, -1))
by_model = model[:-1](gray)
print()
print(f"features of gray images are alike: {torch.allclose(by_trained, by_model, atol=1e-5)}")
frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
print(f"frozen: {', '.join(frozen)}")
