"""AutoInit: weights whose outputs have mean 0 and variance 1, by what is known of the layers before."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from pyinit._random.generators import global_states_kept
from pyinit._scale.fans import mean_fan
from pyinit._torch.eager import eager
from pyinit._torch.wrappers import unwrapped
from pyinit.data_driven.engine import Base, working
from pyinit.data_driven.over_ranks import mean_and_spread
from pyinit.data_driven.pictures import FACTOR, About
from pyinit.data_driven.ranks import together
from pyinit.data_driven.results import Measured, MethodReport
from pyinit.inspection.batches import named_tensors, read_batch
from pyinit.inspection.statistics import describe
from pyinit.whole_model.methods import register_method
from pyinit.whole_model.network import Network
from pyinit.whole_model.recipes.autoinit import scale_for, signals
from pyinit.whole_model.recipes.registry import recipe
from pyinit.whole_model.recipes.roles import Role, use_of


@dataclass(frozen=True)
class AutoInitLayer(Measured):
    """What ``autoinit_`` expects of one layer.

    Args:
        name: the name of its weight
        input_mean: the mean of what goes into it
        input_variance: the variance of that
        std: the standard deviation of the weight, which gives its output variance 1
        scale: what the base was multiplied by; 1 for weights that were drawn so
    """

    about: ClassVar[Mapping[str, About]] = {
        "input_mean": About("expected mean of the inputs"),
        "input_variance": About("expected variance of the inputs"),
        "std": About("standard deviation of the weight"),
        "scale": FACTOR,
    }

    input_mean: float
    input_variance: float
    std: float
    scale: float


@dataclass(frozen=True)
class AutoInitReport(MethodReport[AutoInitLayer]):
    """What ``autoinit_`` did: a row for each weight, in the order of the parameters.

    Args:
        init: what ``replay_`` needs
        layers: the rows
        left: pairs of the name of a parameter that stays as it was, and why
        mean, variance: what the network's inputs were taken to have

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> report = pyinit.autoinit_(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)))
        >>> print(report[1])
        2.weight: input_mean 0, input_variance 0.3943, std 0.563, scale 1
        >>> pyinit.AutoInitReport.from_dict(report.to_dict()) == report
        True
    """

    row: ClassVar[type[Measured]] = AutoInitLayer

    mean: float = 0.0
    variance: float = 1.0


@eager
@register_method("autoinit", source="Bingham & Miikkulainen 2023", needs_data=False)
def autoinit_(
    model: nn.Module,
    data: Any = None,
    *,
    base: Base = "autoinit",
    seed: int | None = None,
    layers: Any = None,
    verbose: bool = False,
) -> AutoInitReport:
    """Give each layer's output mean 0 and variance 1, by analysis of the layers before it, without data.

    The distribution of single elements is followed from the input through the calls of the model's
    forward: activations, pools, dropout, norms, sums, products and concatenations, elements taken as
    independent, and the model as training. A weight has the variance 1 / (fan_in E[x^2]), which takes the
    mean of the inputs into account, and mean 0. This is the recipe ``"autoinit"``. With another base,
    weights are those of the base, multiplied so that the mean of their squares is that variance.

    Whatever is raised, ``KeyboardInterrupt`` included, the model is afterwards as it was before.

    Args:
        model: the model
        data: None for inputs of mean 0 and variance 1; or a batch, as ``pyinit.inspect`` takes it, whose
            first tensor of floating-point numbers says mean and variance. It is not run
        base: what the weights begin with: by default the recipe ``"autoinit"``; another recipe, such as
            ``"orthogonal"``; or None for the weights as they are
        seed: the seed of the base
        layers: which layers to initialize, as ``only=`` of ``initialize_`` says it; names of modules
            will do, too
        verbose: print a line for each weight

    Returns:
        The report, which ``replay_`` takes.

    Raises:
        TypeError, ValueError: for arguments that are none of these, a batch with NaN or zeros alone,
            activations without a finite second moment, and models without a weight to set.

    References:
        Bingham & Miikkulainen 2023, "AutoInit: Analytic signal-preserving weight initialization for
        neural networks", arXiv:2109.08958.

    Example:
        >>> import torch, pyinit
        >>> from torch import nn
        >>> parts = (nn.Linear(512, 512), nn.SiLU(), nn.Dropout(0.2), nn.Linear(512, 512), nn.ReLU())
        >>> model = nn.Sequential(*parts, nn.Linear(512, 512))
        >>> _ = pyinit.autoinit_(model, seed=0)
        >>> x = torch.randn(256, 512, generator=torch.Generator().manual_seed(0))
        >>> 0.9 < float(model(x).detach().var()) < 1.1
        True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    mean, variance = _of_inputs(model, data)
    is_drawn = isinstance(base, str) and base == "autoinit"
    of_inputs = {} if data is None else {"mean": mean, "variance": variance}
    start = recipe("autoinit", **of_inputs) if is_drawn else base
    rows = []
    with working(
        "autoinit",
        {},
        model,
        data,
        over_ranks=True,
        base=start,
        seed=seed,
        layers=layers,
        verbose=verbose,
    ) as work:
        known = signals(Network(work.model), mean, variance)
        for part in work.parameters():
            site = part.site
            use = use_of(site)
            into = known.get(site.path)
            if use is None or use.role is not Role.WEIGHT or into is None or "_hh" in site.leaf:
                continue
            weight = site.weight
            if not math.prod(weight.shape):
                work.leave(part.name, "it has no elements")
                continue
            rows_of_one = (weight.shape[0] // use.matrices, *weight.shape[1:])
            fan = mean_fan(rows_of_one, "fan_in", weight.groups, weight.transposed)
            std = (scale_for(site, into) / fan) ** 0.5
            scale = 1.0
            if not is_drawn:
                size = describe(part.base)
                root = (size.mean**2 + size.std**2) ** 0.5
                if not root > 0:
                    work.leave(part.name, "it is 0, whatever it is multiplied by")
                    continue
                scale = std / root
                part.set_(scale=scale)
            largest = torch.finfo(site.tensor.dtype).max
            if not (std < largest and bool(part.now.isfinite().all())):
                raise ValueError(
                    f"{part.name} needs the standard deviation {std:.4g}, which is beyond the range of "
                    f"{site.tensor.dtype}: the inputs, of variance {into.variance:.4g}, are too small"
                )
            rows.append(AutoInitLayer(part.name, into.mean, into.variance, std, scale))
            work.say(rows[-1])
        return AutoInitReport(work.report(), tuple(rows), tuple(work.left.items()), mean, variance)


def _of_inputs(model: nn.Module, data: Any) -> tuple[float, float]:
    """Mean and variance of the network's inputs."""
    if data is None:
        return 0.0, 1.0
    with together("autoinit_", model) as ranks:
        with unwrapped(model) as plain, global_states_kept():
            batch = read_batch(plain, data)
        tensors = (each for _, each in named_tensors((batch.args, batch.kwargs)))
        first = next((each for each in tensors if each.is_floating_point()), None)
        if first is None:  # numbers of tokens
            return 0.0, 1.0
        mean, std, _ = mean_and_spread(ranks, "the inputs", first)
        return mean, std * std
