"""Train deep plain networks of activations that are off centre from several starts: the tables in docs/auto.md.

A network is a chain of linear layers of 128 units on the 8x8 images of ``digits``, of which every fifth is
for the test. Of each start the table has, over two seeds, the least variance that samples cause in a
hidden layer's output, how much shorter the gradient at the input is than at the output, and the share of the test
images that are classified correctly after 200 steps of Adam with 64 images each. The rate is the best of
three, for each start by itself. The starts are:

* xavier: Glorot's normal weights and biases of zero
* gain: normal weights with the gain for which the variance of the signal holds at variance 1, sigma_w^2
  Var f(z) = 1, and biases that take away the mean: -E[f(z)] times the sum of an output's weights
* gain 4: the same for sigmoids with gain 4, the reciprocal of their greatest slope
* lsuv: orthogonal weights that each batch's output scales to variance 1
* auto

    python tools/compare_off_centre.py sigmoid
"""

import math
from collections.abc import Callable
from itertools import pairwise
from statistics import fmean
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import pyinit
from pyinit.datasets import load

WIDTH, BATCH, STEPS, SEEDS = 128, 64, 200, 2
RATES = (3e-4, 1e-3, 3e-3)


class ShiftedActivation(nn.Module):
    """A user's own activation, which is known by the name of its class."""

    def forward(self, x: Tensor) -> Tensor:
        return 1 + x.tanh()


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "hardsigmoid": nn.Hardsigmoid,
    "softplus": nn.Softplus,
    "logsigmoid": nn.LogSigmoid,
    "elu5": lambda: nn.ELU(5.0),
    "shifted": ShiftedActivation,
    "tanh": nn.Tanh,
}

Start = Callable[[nn.Sequential, nn.Module, Tensor, int], Any]


def linears(model: nn.Sequential) -> list[nn.Linear]:
    return [module for module in model if isinstance(module, nn.Linear)]


def moments(activation: nn.Module) -> tuple[float, float]:
    """Mean and variance of f(z) for standard normal z."""
    z = torch.linspace(-10, 10, 20_001, dtype=torch.float64)
    density = torch.exp(-z * z / 2)
    density /= density.sum()
    values = activation(z)
    mean = (values * density).sum()
    return mean.item(), ((values - mean) ** 2 * density).sum().item()


def by_recipe(name: str) -> Start:
    return lambda model, _, __, seed: pyinit.initialize_(model, name, seed=seed)


@torch.no_grad()
def shifted(
    model: nn.Sequential, activation: nn.Module, seed: int, gain: float | None = None
) -> None:
    """Independent weights, and biases that take the mean away from what comes in."""
    mean, variance = moments(activation)
    pyinit.initialize_(model, "lecun", seed=seed)
    for layer in linears(model)[1:]:
        layer.weight *= gain or 1 / math.sqrt(variance)
        layer.bias.copy_(-mean * layer.weight.sum(1))


def lsuv(model: nn.Sequential, _: nn.Module, images: Tensor, seed: int) -> None:
    pyinit.lsuv_(model, images, seed=seed)


STARTS: dict[str, Start] = {
    "xavier": by_recipe("xavier"),
    "gain": lambda model, activation, _, seed: shifted(model, activation, seed),
    "gain 4": lambda model, activation, _, seed: shifted(model, activation, seed, 4.0),
    "lsuv": lsuv,
    "auto": by_recipe("auto"),
}


def chain(depth: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    sizes = [64, *(WIDTH,) * (depth - 1)]
    parts = [part for n, m in pairwise(sizes) for part in (nn.Linear(n, m), activation())]
    return nn.Sequential(*parts, nn.Linear(sizes[-1], 10))


def signals(model: nn.Sequential, images: Tensor) -> tuple[float, float]:
    """The least variance over samples of a hidden layer's output, and how much of a gradient comes through."""
    x = images.clone().requires_grad_()
    y, least = x, math.inf
    for module in model:
        y = module(y)
        if isinstance(module, nn.Linear) and module is not model[-1]:
            least = min(least, y.var(0).mean().item())
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(y, x, direction)
    return least, (gradient.norm() / direction.norm()).item()


class Digits:
    """Images of mean 0 and variance 1, and their classes: four fifths to train with, a fifth to test."""

    def __init__(self) -> None:
        data = load("digits")
        images = torch.as_tensor(data.inputs).float().flatten(1)
        is_test = torch.arange(len(images)) % 5 == 0
        classes = torch.as_tensor(data.target)
        images = (images - images[~is_test].mean()) / images[~is_test].std()
        self.images, self.classes = images[~is_test], classes[~is_test]
        self.test = images[is_test], classes[is_test]

    def accuracy_after_training(self, model: nn.Module, rate: float, seed: int) -> float:
        optimizer = torch.optim.Adam(model.parameters(), rate)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(STEPS):
            some = torch.randint(len(self.images), (BATCH,), generator=generator)
            loss = cross_entropy(model(self.images[some]), self.classes[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            images, classes = self.test
            return (model(images).argmax(1) == classes).float().mean().item()


def measured(name: str, depth: int, start: Start, digits: Digits) -> tuple[float, float, float]:
    activation = ACTIVATIONS[name]

    def model(seed: int) -> nn.Sequential:
        torch.manual_seed(seed)
        made = chain(depth, activation)
        start(made, activation(), digits.images[:256], seed)
        return made

    found = [signals(model(seed), digits.images[:256]) for seed in range(SEEDS)]
    accuracies = [
        fmean(digits.accuracy_after_training(model(seed), rate, seed) for seed in range(SEEDS))
        for rate in RATES
    ]
    return min(x for x, _ in found), fmean(x for _, x in found), max(accuracies)


@click.command(help=__doc__)
@click.argument("activations", nargs=-1, type=click.Choice(list(ACTIVATIONS)))
@click.option("--depth", "depths", multiple=True, type=int, default=(5, 10, 20, 50))
@click.option("--start", "starts", multiple=True, type=click.Choice(list(STARTS)))
def main(activations: tuple[str, ...], depths: tuple[int, ...], starts: tuple[str, ...]) -> None:
    torch.set_num_threads(1)
    console, digits = Console(width=100), Digits()
    for name in activations or tuple(ACTIVATIONS):
        chosen = starts or tuple(s for s in STARTS if s != "gain 4" or name == "sigmoid")
        table = Table("layers", "start", "least variance", "gradient", "accuracy", title=name)
        for depth in track(depths, console=Console(stderr=True)):
            for start in chosen:
                least, gradient, accuracy = measured(name, depth, STARTS[start], digits)
                table.add_row(
                    str(depth), start, f"{least:.2g}", f"{gradient:.2g}", f"{accuracy:.3f}"
                )
        console.print(table)


if __name__ == "__main__":
    main()
