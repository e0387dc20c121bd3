"""Convolutions that compute their activation: convert a model, and get it back as it was.

    python examples/fused_convolutions.py

``convert_`` changes the class of the model's convolutions, in place. With ``fuse=True`` a convolution also
computes the activation behind it, in one pass over its output.
"""

import torch
from torch import nn

import pyinit

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(16, 16, 3, padding=1, groups=16),
    nn.GELU(),
    nn.Conv2d(16, 32, 1),
    nn.SiLU(),
)
images = torch.randn(4, 3, 32, 32)
expected = model(images)
expected.square().mean().backward()
gradient = model[0].weight.grad.clone()

pyinit.nn.convert_(model, fuse=True)
print(model)

model.zero_grad()
outputs = model(images)
outputs.square().mean().backward()
error = (outputs - expected).abs().max() / expected.abs().max()
print(f"outputs differ from torch's by {error:.0e} of the largest")
error = (model[0].weight.grad - gradient).abs().max() / gradient.abs().max()
print(f"gradients differ by {error:.0e} of the largest")

pyinit.nn.unconvert_(model)
print(f"torch's modules are back: {type(model[0]) is nn.Conv2d and type(model[1]) is nn.ReLU}")
print(f"and give torch's own bits: {torch.equal(model(images), expected)}")
