"""Steps of training and forward passes of networks, compared with the same by torch's modules."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyinit._torch.views import dtype_name
from pyinit.bench._case import LIBRARIES, Case, Unit, flops_per_second, products_per_second
from pyinit.bench._networks import NETWORKS, Network
from pyinit.init import normal_
from pyinit.nn import convert_

Part: TypeAlias = Literal["step", "forward"]

_RATE = 1e-4  # so small that the weights hardly change, however many steps are taken

_CONVERSIONS: dict[str, Callable[[nn.Module], nn.Module]] = {"": convert_}
"""How torch's modules become pyinit's, by what a case's operation says of it."""


class Trained(NamedTuple):
    """A batch, and for each library a network of the same weights and what trains it."""

    networks: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]
    images: Tensor
    target: Tensor


@dataclass(frozen=True)
class Step(Case):
    """A step of training (forward, loss, backward, and the step of SGD), or the forward pass alone.

    The pass alone is that of a network in eval mode, without gradients.
    """

    seconds: ClassVar[float] = 4.0

    network: Network
    part: Part
    conversion: str = ""
    batch: int = 64

    @property
    def labels(self) -> tuple[str, str, str]:
        operation = f"network {self.part} {self.conversion}".rstrip()
        return operation, dtype_name(torch.float32), f"{self.network} b{self.batch}"

    @property
    def group(self) -> str:
        what = {"step": "training steps", "forward": "networks forward"}[self.part]
        return f"{what}, {self.conversion}" if self.conversion else what

    @property
    def work(self) -> float:
        """Only that of convolutions and linear layers. The images need no gradient."""
        layers = _work(self.network, self.batch)
        return sum(layers) if self.part == "forward" else 3 * sum(layers) - layers[0]

    @property
    def unit(self) -> Unit:
        return "GF/s"

    @property
    def calls(self) -> int:
        return 1

    def argument(self) -> Trained:
        plain = self.network.make().train(self.part == "step")
        networks = dict.fromkeys(LIBRARIES, plain)
        networks["pyinit"] = _CONVERSIONS[self.conversion](deepcopy(plain))
        optimizers = {
            library: torch.optim.SGD(network.parameters(), _RATE)
            for library, network in networks.items()
        }
        images = normal_(torch.empty(_shape(self.network, self.batch)))
        return Trained(networks, optimizers, images, torch.randint(10, (self.batch,)))

    def function(self, library: str) -> Callable[[Trained], Tensor]:
        part = {"step": _step, "forward": _forward}[self.part]
        return lambda x: part(x, library)

    def peak(self, argument: Trained) -> float:  # noqa: ARG002
        return flops_per_second(torch.float32)

    def products(self) -> float:
        return products_per_second(torch.float32)


def _shape(network: Network, batch: int) -> tuple[int, int, int, int]:
    return batch, network.channels, network.pixels, network.pixels


def _step(x: Trained, library: str) -> Tensor:
    x.optimizers[library].zero_grad()
    loss = functional.cross_entropy(x.networks[library](x.images), x.target)
    torch.autograd.backward(loss)
    x.optimizers[library].step()
    return loss


def _forward(x: Trained, library: str) -> Tensor:
    with torch.no_grad():
        scores: Tensor = x.networks[library](x.images)
        return scores


@cache
def _work(network: Network, batch: int) -> list[float]:
    """The additions and multiplications of the layers' forward passes, from the first layer on."""
    work: list[float] = []

    def count(module: Any, _: Any, output: Tensor) -> None:
        work.append(2.0 * output.numel() * module.weight[0].numel())

    with torch.device("meta"):
        model = network.make()
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(count)
        model(torch.empty(_shape(network, batch)))
    return work


def steps() -> list[Step]:
    """Every network, trained and forward, by every conversion."""
    parts: tuple[Part, ...] = ("step", "forward")
    return [
        Step(network, part, conversion)
        for part in parts
        for conversion in _CONVERSIONS
        for network in NETWORKS
    ]
