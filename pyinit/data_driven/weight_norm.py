"""The data-dependent initialization of weight-normalized layers: pre-activations N(0, 1) per channel."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from pyinit._torch.eager import eager
from pyinit.data_driven.affine import Affine
from pyinit.data_driven.engine import Base, working
from pyinit.data_driven.pictures import About
from pyinit.data_driven.results import Measured, MethodReport
from pyinit.data_driven.standardized import standardize
from pyinit.inspection.walk import Call
from pyinit.whole_model.methods import register_method


@dataclass(frozen=True)
class WeightNormLayer(Measured):
    """What ``weight_norm_init_`` measured of one layer.

    Args:
        name: the layer's name
        mean_before: how far the mean of a channel of its output was from 0 at most; None without a bias
        mean_after: the same with g and the bias as they are now
        std_before: how far the standard deviation of a channel was from 1 at most
        std_after: the same with g and the bias as they are now
    """

    about: ClassVar[Mapping[str, About]] = {
        "mean": About("greatest distance of a channel's mean from 0"),
        "std": About("greatest distance of a channel's standard deviation from 1"),
    }

    mean_before: float | None
    mean_after: float | None
    std_before: float
    std_after: float


@dataclass(frozen=True)
class WeightNormReport(MethodReport[WeightNormLayer]):
    """What ``weight_norm_init_`` did: a row for each layer, in the order of execution.

    Args:
        init: what ``replay_`` needs
        layers: the rows
        left: pairs of the name of a layer that stays as it was, and why
        largest_deviation: the greatest distance of a channel's mean from 0 or standard deviation from 1

    Example:
        >>> import torch, pyinit
        >>> from torch.nn.utils.parametrizations import weight_norm
        >>> x = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
        >>> report = pyinit.weight_norm_init_(weight_norm(torch.nn.Linear(64, 32)), x, seed=0)
        >>> len(report), report.largest_deviation < 1e-5
        (1, True)
        >>> pyinit.WeightNormReport.from_dict(report.to_dict()) == report
        True
    """

    row: ClassVar[type[Measured]] = WeightNormLayer

    largest_deviation: float = 0.0


@eager
@register_method("weight_norm_init", source="Salimans & Kingma 2016")
def weight_norm_init_(
    model: nn.Module,
    data: Any,
    *,
    base: Base = "kaiming",
    seed: int | None = None,
    layers: Any = None,
    verbose: bool = False,
) -> WeightNormReport:
    """Set g and the bias of weight-normalized layers so that each channel has mean 0 and variance 1.

    The weight of such a layer is g v / |v|. One pass goes through the model, and at each of these layers,
    by either of torch's ``weight_norm``, g and the bias become what makes the pre-activations of every
    channel have mean 0 and variance 1 on the batch; without a bias, variance 1. The direction of v is that
    of the base. As where torch registers a weight norm, v is afterwards the weight itself, with g as its
    norm; in the paper its elements keep a standard deviation of 0.05.

    Layers without weight norm keep their base and are named in ``left``; ``data_dependent_`` does the same
    for all layers. A channel without variance is left as it is. Whatever is raised,
    ``KeyboardInterrupt`` included, the model is afterwards as it was before.

    Args:
        model: the model
        data: a batch, as ``pyinit.inspect`` takes it
        base: what the weights begin with: a recipe, or None for the weights as they are
        seed: the seed of the base, and of what the model draws when it runs
        layers: which layers to work on, as ``only=`` of ``initialize_`` says it; names of modules will do
        verbose: print a line for each layer

    Returns:
        The report, which ``replay_`` takes.

    Raises:
        TypeError, ValueError: for arguments that are none of these, a batch that ends early or has NaN,
            and models in which no weight-normalized layer is called.
        RuntimeError: where the model fails, naming the layer.

    References:
        Salimans & Kingma 2016, "Weight Normalization", arXiv:1602.07868, section 3.

    Example:
        >>> import torch, pyinit
        >>> from torch import nn
        >>> from torch.nn.utils.parametrizations import weight_norm
        >>> model = nn.Sequential(weight_norm(nn.Linear(64, 32)), nn.ReLU(), weight_norm(nn.Linear(32, 8)))
        >>> x = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
        >>> report = pyinit.weight_norm_init_(model, x, seed=0)
        >>> y = model(x)
        >>> bool(y.mean(0).abs().max() < 1e-5), bool((y.var(0, correction=0) - 1).abs().max() < 1e-5)
        (True, True)
    """
    found: list[WeightNormLayer] = []
    with working(
        "weight_norm_init",
        {},
        model,
        data,
        over_ranks=True,
        base=base,
        seed=seed,
        layers=layers,
        verbose=verbose,
    ) as work:
        is_idle = True

        def visit(call: Call) -> None:
            nonlocal is_idle
            for affine in work.affines(call):
                if not _is_normed(affine):
                    work.leave(
                        affine.name, "it has no weight norm; data_dependent_ takes all layers"
                    )
                    continue
                is_idle = False
                done = standardize(affine)
                if isinstance(done, str):
                    work.leave(affine.name, done)
                    work.say(f"{affine.name}: left as it was: {done}")
                    continue
                if done.still:
                    channels = f"{done.still} of its {affine.channels} output channels"
                    work.leave(affine.name, f"{channels} have no variance, and are not adjusted")
                before, after = done.before, done.after
                found.append(
                    WeightNormLayer(affine.name, before.mean, after.mean, before.std, after.std)
                )
                work.say(found[-1])

        work.walk(visit)
        work.refuse_idle(is_idle, "weight-normalized layer that it may change")
        deviations = [max(row.mean_after or 0.0, row.std_after) for row in found]
        return WeightNormReport(
            work.report(), tuple(found), tuple(work.left.items()), max(deviations, default=0.0)
        )


def _is_normed(affine: Affine) -> bool:
    computed = affine.weight.site.computed
    return computed is not None and computed.is_weight_norm
