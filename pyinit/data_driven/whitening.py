"""Whitening: a first layer of principal components and their negatives, or every layer's output by ZCA."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from pyinit._messages import near
from pyinit._torch.eager import eager
from pyinit.data_driven.affine import Affine
from pyinit.data_driven.engine import Base, working
from pyinit.data_driven.over_ranks import covariance
from pyinit.data_driven.patches import Patches, directions, why_no_patches
from pyinit.data_driven.pictures import About
from pyinit.data_driven.results import Measured, MethodReport
from pyinit.data_driven.standardized import reset
from pyinit.inspection.walk import Call
from pyinit.whole_model.methods import register_method

_FOLLOWS = 0.05  # how far variances may be from what they are expected to be, in 16 bits, too


@dataclass(frozen=True)
class WhiteningLayer(Measured):
    """What ``whitening_`` measured of one layer.

    Args:
        name: the layer's name
        axes: in how many directions its output is white: without their negatives, and without those in
            which nothing varies
        before: how far a variance along a principal axis of these channels was from 1 at most
        after: the same with the weights as they are now
    """

    about: ClassVar[Mapping[str, About]] = {
        "": About("greatest distance from 1 of a variance along a principal axis"),
    }

    axes: int
    before: float
    after: float


@dataclass(frozen=True)
class WhiteningReport(MethodReport[WhiteningLayer]):
    """What ``whitening_`` did: a row for each layer, in the order of execution.

    Args:
        init: what ``replay_`` needs
        layers: the rows
        left: pairs of the name of a layer that stays as it was, and why
        largest_deviation: the greatest distance from 1 of a variance along a principal axis

    Example:
        >>> import torch, pyinit
        >>> x = torch.randn(256, 4, generator=torch.Generator().manual_seed(0)).cumsum(1)
        >>> report = pyinit.whitening_(torch.nn.Linear(4, 8), x, eps=0.0, seed=0)
        >>> report[0].axes, report.largest_deviation < 1e-4
        (4, True)
        >>> pyinit.WhiteningReport.from_dict(report.to_dict(), report.init.tensors) == report
        True
    """

    row: ClassVar[type[Measured]] = WhiteningLayer

    largest_deviation: float = 0.0


@eager
@register_method("whitening", source="Jordan 2024; Kessy et al. 2018")
def whitening_(
    model: nn.Module,
    data: Any,
    *,
    base: Base = "kaiming",
    mode: str = "pca",
    eps: float = 1e-3,
    seed: int | None = None,
    layers: Any = None,
    verbose: bool = False,
) -> WhiteningReport:
    """Make the outputs of the first layer, or of every layer, uncorrelated and of variance 1.

    With ``mode="pca"`` the first half of the first layer's channels are the principal components of what
    its weight multiplies (patches of a convolution's input, with the padding), each divided by its
    standard deviation, the largest first; the second half are their negatives, so that a ReLU loses
    nothing. Channels beyond the number of components, and all other layers, keep their base. With
    ``mode="zca"`` each layer, in the order of execution, is multiplied by the inverse square root of its
    output's covariance, the whitening that changes the output least. Biases make the outputs' means 0.

    Whatever is raised, ``KeyboardInterrupt`` included, the model is afterwards as it was before.

    Args:
        model: the model
        data: a batch, as ``pyinit.inspect`` takes it
        base: what the weights begin with: a recipe, or None for the weights as they are
        mode: ``"pca"`` or ``"zca"``
        eps: what is added to each variance before it is divided by, so that noise does not grow
        seed: the seed of the base, and of what the model draws when it runs
        layers: which layers to work on, as ``only=`` of ``initialize_`` says it; names of modules will do
        verbose: print a line for each layer

    Returns:
        The report, which ``replay_`` takes.

    Raises:
        TypeError, ValueError: for arguments that are none of these, a batch that ends early or has NaN,
            a first layer that cannot be whitened (a grouped or transposed convolution, an embedding).
        RuntimeError: where the model fails, naming the layer.

    References:
        Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv:2404.00498, for the first
        layer; Kessy, Lewin & Strimmer 2018, "Optimal Whitening and Decorrelation", arXiv:1512.00809, for
        ZCA.

    Example:
        >>> import torch, pyinit
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
        >>> x = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)).cumsum(-1)
        >>> report = pyinit.whitening_(model, x, eps=0.0, seed=0)
        >>> y = model[0](x).transpose(0, 1).flatten(1)
        >>> torch.allclose(torch.cov(y[:4], correction=0), torch.eye(4), atol=1e-4)
        True
        >>> torch.equal(model[0].weight[4:], -model[0].weight[:4])
        True
    """
    if mode not in _MODES:
        raise ValueError(f"unknown mode {mode!r}; {near(mode, _MODES)}")
    if not (isinstance(eps, (int, float)) and 0 <= eps < math.inf):
        raise ValueError(f"eps must be a number of at least 0, got {eps!r}")
    whiten, is_first_alone = _MODES[mode]
    found: list[WhiteningLayer] = []
    is_idle = True
    with working(
        "whitening",
        {"mode": mode, "eps": eps},
        *(model, data),
        over_ranks=True,
        base=base,
        seed=seed,
        layers=layers,
        verbose=verbose,
    ) as work:

        def visit(call: Call) -> None:
            nonlocal is_idle
            for affine in work.affines(call):
                if is_first_alone and (found or work.left):
                    continue
                is_idle = is_idle and _why_not(affine) is not None
                row = whiten(affine, eps)
                if isinstance(row, str):
                    work.leave(affine.name, row)
                    work.say(f"{affine.name}: left as it was: {row}")
                else:
                    found.append(row)
                    work.say(row)

        work.walk(visit)
        work.refuse_idle(is_idle, "layer that it could whiten")
        return WhiteningReport(
            work.report(),
            tuple(found),
            tuple(work.left.items()),
            max((row.after for row in found), default=0.0),
        )


def _principal(affine: Affine, eps: float) -> WhiteningLayer | str:
    """Whiten what a layer's weight multiplies, in its first channels, and in others the negatives."""
    why = why_no_patches(affine) or _why_not(affine)
    if why is not None:
        raise ValueError(
            f"whitening_ cannot begin with the layer {affine.name or '(model)'}: {why}; choose another "
            "first layer by layers=, or mode='zca'"
        )
    is_finite = bool(affine.output.isfinite().all())
    if not affine.ranks.all(f"{affine.name}, whether its output is finite", is_finite):
        return "its output is not finite"
    mean, variances, components = Patches(affine).components()
    half = (affine.channels + 1) // 2
    count = min(half, len(variances))
    if count == 0:
        return "its input has no variance"
    before = _variances(affine, count, count)
    rows = components[:count] / (variances[:count, None] + eps).sqrt()
    negatives = min(count, affine.channels - half)
    weight = affine.weight.base.to(torch.float64, copy=True)
    bias = None if affine.bias is None else affine.bias.base.to(torch.float64, copy=True)
    for first, made in ((0, rows), (half, -rows[:negatives])):
        weight[first : first + len(made)] = made.view(-1, *weight.shape[1:])
        if bias is not None:
            bias[first : first + len(made)] = -(made @ mean)
    return _written(affine, count, weight, bias, before, variances[:count], eps)


def _zca(affine: Affine, eps: float) -> WhiteningLayer | str:
    """Multiply a layer by the inverse square root of its output's covariance."""
    if (why := _why_not(affine)) is not None:
        return why
    mean, found = covariance(affine.ranks, affine.name, _rows(affine))
    if not bool(found.isfinite().all()):
        return "the covariance of its output is not finite"
    variances, axes = directions(found, affine.output.dtype)
    if len(variances) == 0:
        return "its output has no variance"
    before = _variances(affine, affine.channels, len(variances))
    whitener = axes.T / (variances + eps).sqrt() @ axes
    dim = affine.weight.dim
    weight = torch.tensordot(whitener, affine.weight.base.double(), ([1], [dim])).movedim(0, dim)
    bias = None if affine.bias is None else whitener @ (affine.bias.base.double() - mean)
    return _written(affine, affine.channels, weight, bias, before, variances, eps)


def _written(  # noqa: PLR0917
    affine: Affine,
    channels: int,
    weight: Tensor,
    bias: Tensor | None,
    before: Tensor,
    variances: Tensor,
    eps: float,
) -> WhiteningLayer | str:
    """Write values; what the first channels then are like, or, in words, why the layer has its base."""
    affine.weight.set_(values=weight)
    if affine.bias is not None:
        affine.bias.set_(values=bias)
    affine.again()
    after = _variances(affine, channels, len(variances))
    wanted = (variances / (variances + eps)).sort(descending=True).values
    if bool((after - wanted).abs().max() <= _FOLLOWS):
        return WhiteningLayer(affine.name, len(variances), _off(before), _off(after))
    reset(affine)
    return "its output does not follow its weight"


def _why_not(affine: Affine) -> str | None:
    if not (affine.weight.is_whole and isinstance(affine.module, (nn.Linear, _ConvNd))):
        return "it is neither a linear layer nor a convolution"
    if affine.channel is None:
        return "where its output channels stand cannot be told"
    if getattr(affine.module, "groups", 1) == 1:
        return None
    return "its groups see a part of the input each"


def _rows(affine: Affine) -> Tensor:
    """A layer's output, channels x positions, in float64."""
    assert affine.channel is not None
    return affine.output.double().movedim(affine.channel, 0).flatten(1)


def _variances(affine: Affine, channels: int, count: int) -> Tensor:
    """The largest variances along the principal axes of the first channels of a layer's output."""
    _, of_output = covariance(affine.ranks, affine.name, _rows(affine)[:channels])
    if not bool(of_output.isfinite().all()):
        return of_output.new_full((count,), math.inf)
    found: Tensor = torch.linalg.eigvalsh(of_output)
    return found.flip(0)[:count]


def _off(variances: Tensor) -> float:
    return float((variances - 1).abs().max())


_MODES: dict[str, tuple[Callable[[Affine, float], WhiteningLayer | str], bool]] = {
    "pca": (_principal, True),  # of the first layer alone
    "zca": (_zca, False),
}
