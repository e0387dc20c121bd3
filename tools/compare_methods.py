"""Train one network from each data-driven method and from plain recipes: the table in docs/data_driven.md.

The network is deep and plain: ten convolutions (3x3, 16 channels, ReLU, no normalization) and a linear
layer. The data are the 5,000 images of mnist5k, of which every fifth is for the test. A run is 200 steps
of SGD with momentum 0.9 and 64 images each, which are the same for all starts. A method looks at the
first 256 images of the training. It takes about a quarter of an hour on a core, most of it MetaInit's.
"""

import math
import time
from collections.abc import Callable
from statistics import fmean, median
from typing import Any, NamedTuple

import click
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.parametrizations import weight_norm

import pyinit
from pyinit.datasets import load

LOOKED_AT, BATCH, STEPS = 256, 64, 200

Batch = tuple[Tensor, Tensor]
Start = Callable[[nn.Module, Batch, int], Any]


def network() -> nn.Module:
    layers: list[nn.Module] = []
    channels = 1
    for stride in (2, 1, 1, 1, 2, 1, 1, 1, 1, 1):
        layers += [nn.Conv2d(channels, 16, 3, stride, padding=1), nn.ReLU()]
        channels = 16
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def recipe(name: str, **options: Any) -> Start:
    def start(model: nn.Module, _: Batch, seed: int) -> None:
        pyinit.initialize_(model, pyinit.recipe(name, **options), seed=seed)

    return start


def method(name: str, **options: Any) -> Start:
    found = pyinit.method(name, **options)

    def start(model: nn.Module, batch: Batch, seed: int) -> None:
        found.run(model, batch, seed=seed)

    return start


def weight_normalized(model: nn.Module, batch: Batch, seed: int) -> None:
    for module in list(model.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight_norm(module)
    pyinit.weight_norm_init_(model, batch, seed=seed)


STARTS: dict[str, Start] = {
    "normal(0, 0.01)": recipe("normal", std=0.01),
    "torch": recipe("torch"),
    "xavier": recipe("xavier"),
    "kaiming": recipe("kaiming"),
    "orthogonal": recipe("orthogonal"),
    "auto": recipe("auto"),
    "lsuv_": method("lsuv"),
    "consistency_aware_": method("consistency_aware"),
    "data_dependent_": method("data_dependent"),
    "whitening_": method("whitening"),
    "weight_norm_init_": weight_normalized,
    "pretrain_unsupervised_": method("pretrain_unsupervised"),
    "gradinit_": method("gradinit"),
    "metainit_": method("metainit"),
    "autoinit_": method("autoinit"),
    "search_recipe": method("search", score="loss", trials=20),
}


class Run(NamedTuple):
    """seconds: of the initialization; first: the loss before training; spread: the greatest over the least
    norm of a weight's gradient then; last: the mean loss of the last 20 steps, or infinity; accuracy: on
    the test images."""

    seconds: float
    first: float
    spread: float
    last: float
    accuracy: float


def train(model: nn.Module, training: Batch, test: Batch, rate: float, seed: int) -> Run:
    inputs, target = training
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9)
    losses, spread = [], math.nan
    order = torch.empty(0, dtype=torch.int64)
    for step in range(STEPS):
        if len(order) < BATCH:
            order = torch.randperm(len(inputs), generator=generator)
        chosen, order = order[:BATCH], order[BATCH:]
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs[chosen]), target[chosen])
        loss.backward()  # type: ignore[no-untyped-call]
        if step == 0:
            norms = [
                float(p.grad.norm())
                for p in model.parameters()
                if p.grad is not None and p.dim() > 1
            ]
            spread = max(norms) / max(min(norms), 1e-45)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        optimizer.step()
    model.eval()
    with torch.no_grad():
        right = model(test[0]).argmax(1) == test[1]
    last = fmean(losses[-20:]) if math.isfinite(losses[-1]) else math.inf
    return Run(0.0, losses[0], spread, last, float(right.float().mean()))


@click.command(help=__doc__)
@click.option("--seeds", default=3, show_default=True, help="How many times each start is trained.")
@click.option(
    "--rate",
    "rates",
    multiple=True,
    type=float,
    default=(0.01, 0.05),
    show_default=True,
    help="A learning rate. The table has the one with the least last loss, for each start.",
)
@click.option("--only", multiple=True, help="A start; by default all.")
def main(seeds: int, rates: tuple[float, ...], only: tuple[str, ...]) -> None:
    torch.set_num_threads(1)
    training, test = load("mnist5k").split()
    batch = training.inputs[:LOOKED_AT], training.target[:LOOKED_AT]
    table = Table(
        "start",
        "seconds",
        "loss at step 0",
        "gradients",
        "rate",
        "loss",
        "least",
        "most",
        "accuracy",
    )
    for name in track(only or STARTS, "training", console=Console(stderr=True)):
        by_rate: dict[float, list[Run]] = {rate: [] for rate in rates}
        for seed in range(seeds):
            torch.manual_seed(seed)
            model = network()
            began = time.perf_counter()
            STARTS[name](model, batch, seed)
            seconds = time.perf_counter() - began
            state = {key: value.clone() for key, value in model.state_dict().items()}
            for rate in rates:
                model.load_state_dict(state)
                run = train(
                    model.train(),
                    (training.inputs, training.target),
                    (test.inputs, test.target),
                    rate,
                    seed,
                )
                by_rate[rate].append(run._replace(seconds=seconds))
        rate = min(rates, key=lambda each: fmean(run.last for run in by_rate[each]))
        runs = by_rate[rate]
        last = [run.last for run in runs]
        table.add_row(
            name,
            f"{median(run.seconds for run in runs):.2g}",
            f"{fmean(run.first for run in runs):.3f}",
            f"{median(run.spread for run in runs):.3g}",
            f"{rate:g}",
            *(f"{value:.3f}" for value in (fmean(last), min(last), max(last))),
            f"{fmean(run.accuracy for run in runs):.3f}",
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
