"""Data-dependent initialization: each channel to mean beta and variance 1, then equal gradient ratios."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pyinit._messages import near, needed
from pyinit._torch.eager import eager
from pyinit.data_driven.adjustable import Adjustable
from pyinit.data_driven.affine import Affine
from pyinit.data_driven.engine import Base, Work, working
from pyinit.data_driven.patches import Patches, is_finite, why_no_patches
from pyinit.data_driven.pictures import FACTOR, About
from pyinit.data_driven.results import Measured, MethodReport
from pyinit.data_driven.standardized import Standardized, standardize
from pyinit.inspection.batches import named_tensors
from pyinit.inspection.walk import Call
from pyinit.whole_model.methods import register_method

_RATIO = 0.01  # how near the ratios are to their geometric mean at the end
_CLUSTERED = 20_000  # patches that k-means gets
_NOISE = (
    0.01  # of the largest variance: what whitening for k-means adds to each, so that no noise grows
)


@dataclass(frozen=True)
class DataDependentLayer(Measured):
    """What ``data_dependent_`` measured of one layer.

    Args:
        name: the layer's name
        weights: ``"base"``, ``"pca"`` or ``"kmeans"``: where the weights come from
        mean_before: how far the mean of a channel of its output was from beta at most; None without a bias
        mean_after: the same after the first step
        std_before: how far the standard deviation of a channel was from 1 at most
        std_after: the same after the first step
        ratio_before: the relative size of the gradient after the first step: the root mean square of the
            gradient by the weight over that of the weight; None if the layer takes no part in the second
        ratio_after: the same after the second step
        scale: what the second step multiplied the weight by
    """

    about: ClassVar[Mapping[str, About]] = {
        "mean": About("greatest distance of a channel's mean from beta"),
        "std": About("greatest distance of a channel's standard deviation from 1"),
        "ratio": About("gradient by the weight, over the weight"),
        "scale": FACTOR,
    }

    weights: str
    mean_before: float | None
    mean_after: float | None
    std_before: float
    std_after: float
    ratio_before: float | None = None
    ratio_after: float | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class DataDependentReport(MethodReport[DataDependentLayer]):
    """What ``data_dependent_`` did: a row for each layer, in the order of execution.

    Args:
        init: what ``replay_`` needs
        layers: the rows
        left: pairs of the name of a layer that stays as it was, and why
        spread_before: the largest ratio of a gradient to its weight over the smallest, after the first step
        spread_after: the same after the second
        iterations: how often the second step rescaled the layers
        output_change: the root mean square of what the second step changed in the model's output, over that
            of the output; 0 without a second step

    Example:
        >>> import torch, pyinit
        >>> from torch import nn
        >>> x = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
        >>> model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
        >>> report = pyinit.data_dependent_(model, x, seed=0)
        >>> [row.name for row in report], report.spread_before > 1.5, report.spread_after < 1.01
        (['0', '2'], True, True)
        >>> pyinit.DataDependentReport.from_dict(report.to_dict()) == report
        True
    """

    row: ClassVar[type[Measured]] = DataDependentLayer

    spread_before: float = 1.0
    spread_after: float = 1.0
    iterations: int = 0
    output_change: float = 0.0


@eager
@register_method("data_dependent", source="Krähenbühl et al. 2016")
def data_dependent_(
    model: nn.Module,
    data: Any,
    *,
    base: Base = "kaiming",
    weights: str = "base",
    beta: float = 0.0,
    equalize: bool = True,
    iterations: int = 10,
    seed: int | None = None,
    layers: Any = None,
    verbose: bool = False,
) -> DataDependentReport:
    """Bring each channel of each layer's output to mean beta and variance 1, then equalize gradients.

    The first step goes through the model once. At each layer it scales the weights of every output
    channel, and sets its bias, so that the channel has mean beta and variance 1 on the batch; without a
    bias, variance 1. A channel without variance is left as it is. The second step measures, for random
    directions of the model's output, the root mean square of each layer's gradient over that of its
    weight, and multiplies weights by numbers whose product is 1, so that these ratios become equal. Biases
    follow the inputs of their layer. In chains of layers and ReLU the network remains the same function;
    elsewhere the second step changes it, and ``output_change`` says how much. It is repeated until the
    ratios are within 1 % of their geometric mean, and what is nearest to that stays.

    The gates of recurrent layers take part in the first step alone. Whatever is raised,
    ``KeyboardInterrupt`` included, the model is afterwards as it was before.

    Args:
        model: the model
        data: a batch, as ``pyinit.inspect`` takes it
        base: what the weights begin with: a recipe, or None for the weights as they are
        weights: ``"base"``; or ``"pca"``: the principal components of what the layer's weight multiplies
            (patches of a convolution's input); or ``"kmeans"``: the centres of clusters of these, whitened
            and of length 1, which needs scikit-learn. Layers that are neither linear nor convolutions, and
            channels beyond the number of components or patches, keep their base
        beta: the mean of each channel
        equalize: whether to make the second step, which needs the gradient
        iterations: how often the second step may rescale the layers
        seed: the seed of the base, of the directions, of k-means, and of what the model draws when it runs
        layers: which layers to work on, as ``only=`` of ``initialize_`` says it; names of modules will do
        verbose: print a line for each layer

    Returns:
        The report, which ``replay_`` takes.

    Raises:
        TypeError, ValueError: for arguments that are none of these, a batch that ends early or has NaN,
            and models without a layer that may be scaled.
        ImportError: for ``weights="kmeans"`` without scikit-learn.
        RuntimeError: where the model fails, naming the layer.

    References:
        Krähenbühl, Doersch, Donahue & Darrell 2016, "Data-dependent Initializations of Convolutional Neural
        Networks", arXiv:1511.06856; the ratio and the factors are those of the authors' program.

    Example:
        >>> import torch, pyinit
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
        >>> x = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
        >>> report = pyinit.data_dependent_(model, x, beta=0.5, equalize=False, seed=0)
        >>> y = model[0](x)
        >>> bool((y.mean(0) - 0.5).abs().max() < 1e-5), bool((y.var(0, correction=0) - 1).abs().max() < 1e-5)
        (True, True)
        >>> again = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
        >>> _ = pyinit.replay_(again, report)
        >>> torch.equal(again[2].weight, model[2].weight)
        True
    """
    if weights not in _WEIGHTS:
        raise ValueError(f"unknown weights {weights!r}; {near(weights, _WEIGHTS)}")
    if not (isinstance(beta, (int, float)) and math.isfinite(beta)):
        raise ValueError(f"beta must be a finite number, got {beta!r}")
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise ValueError(f"iterations must be a whole number of at least 1, got {iterations!r}")
    make = _WEIGHTS[weights]
    options = {"weights": weights, "beta": beta, "equalize": equalize, "iterations": iterations}
    if weights == "kmeans":
        _clusters()
    found: list[_Layer] = []
    with working(
        "data_dependent",
        options,
        model,
        data,
        over_ranks=True,
        base=base,
        seed=seed,
        layers=layers,
        verbose=verbose,
    ) as work:
        numbers = (
            seed
            if seed is not None
            else work.ranks.counts("numbers", int(torch.randint(2**31, ())))[0]
        )

        def visit(call: Call) -> None:
            for affine in work.affines(call, is_last=not equalize):
                values = None
                if make is not None and why_no_patches(affine) is None and is_finite(affine):
                    values = make(affine, numbers)
                done = standardize(affine, beta, values)
                if isinstance(done, str):
                    work.leave(affine.name, done)
                    work.say(f"{affine.name}: left as it was: {done}")
                    continue
                if done.still:
                    channels = f"{done.still} of its {affine.channels} output channels"
                    work.leave(affine.name, f"{channels} have no variance, and are not adjusted")
                found.append(
                    _Layer(affine, call, done, "base" if values is None else weights, values)
                )
                work.say(found[-1].row())

        work.walk(visit)
        work.refuse_idle()
        totals = {}
        if equalize and found:
            totals = _equalized(
                work, [each for each in found if each.can_scale], iterations, numbers
            )
        return DataDependentReport(
            work.report(),
            tuple(each.row() for each in found),
            tuple(work.left.items()),
            **totals,
        )


class _Layer:
    """A layer that has been through the first step, for the second one."""

    def __init__(
        self, affine: Affine, call: Call, done: Standardized, weights: str, values: Tensor | None
    ) -> None:
        self.name, self.weights = affine.name, weights
        self._done, self._values = done, values
        self.call = call.name
        self.weight, self.bias = affine.weight, affine.bias
        self.can_scale = call.kind != "recurrent"
        self._ranks = affine.ranks
        self.input_size = self._size(affine.input)
        self.scale = self.growth = 1.0
        self.ratio_before: float | None = None
        self.ratio_after: float | None = None

    def set_(self, inputs: Any) -> None:
        """Write the layer's scale, with its bias as its input has grown since the first step."""
        if self.input_size and (size := self._size(inputs)):
            self.growth = size / self.input_size
        self.weight.set_(scale=self._done.scale * self.scale, values=self._values)
        if self.bias is not None:
            grown = self.scale * self.growth
            self.bias.set_(scale=self._done.scale * grown, shift=self._done.shift * grown)

    def _size(self, inputs: Any) -> float:
        """The mean of absolute values; 0 of what is not in floating point."""
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            return 0.0
        size = torch.linalg.vector_norm(inputs.detach(), 1, dtype=torch.float64)
        sums = torch.stack([size, size.new_tensor(max(1, inputs.numel()))])
        total, count = self._ranks.total(f"{self.name}, size of its input", sums).tolist()
        return float(total / count)

    def row(self) -> DataDependentLayer:
        before, after = self._done.before, self._done.after
        return DataDependentLayer(
            self.name,
            self.weights,
            *(before.mean, after.mean, before.std, after.std),
            *(self.ratio_before, self.ratio_after, self.scale),
        )


# ---- the second step -----------------------------------------------------------------------------


def _equalized(work: Work, layers: list[_Layer], iterations: int, seed: int) -> dict[str, Any]:
    """Rescale layers until their gradients have the same relative size. The network's totals.

    In a chain that is homogeneous, factors whose product is 1 keep the function, and a ratio falls by
    the square of its layer's factor. Elsewhere that is a guess, and steps that are too long are halved.
    """
    output, ratios = _ratios(work, layers, seed)
    for layer, ratio in zip(layers, ratios.tolist(), strict=True):
        if 0 < ratio < math.inf:
            layer.ratio_before = layer.ratio_after = ratio
        else:
            work.leave(layer.name, f"the gradient by its weight is {ratio:g}: it is not equalized")
    layers = [layer for layer in layers if layer.ratio_before is not None]
    if not layers:
        return {}
    ratios = ratios[(ratios > 0) & ratios.isfinite()]
    first, best, scales = ratios, ratios, torch.ones_like(ratios)
    last, power, done = output, 0.5, 0
    while _off(best) > _RATIO and done < iterations:
        tried = scales * (best / _middle(best)) ** power
        _rescale(work, layers, tried)
        after, ratios = _ratios(work, layers, seed)
        done += 1
        if _off(ratios) < _off(best):
            best, scales, last = ratios, tried, after
        else:
            power /= 2
    if done:
        _rescale(work, layers, scales)
    for layer, ratio in zip(layers, best.tolist(), strict=True):
        layer.ratio_after = ratio
    squares = [
        sum(float((a - b).double().square().sum()) for a, b in zip(last, output, strict=True)),
        sum(float(each.double().square().sum()) for each in output),
    ]
    found = work.ranks.total(
        "the outputs", torch.tensor(squares, dtype=torch.float64, device="cpu")
    )
    change, size = map(math.sqrt, found.tolist())
    return {
        "spread_before": float(first.max() / first.min()),
        "spread_after": float(best.max() / best.min()),
        "iterations": done,
        "output_change": change / size if size else 0.0,
    }


def _middle(ratios: Tensor) -> Tensor:
    return ratios.log().mean().exp()


def _off(ratios: Tensor) -> float:
    """How far a ratio is from the geometric mean, at most; infinite if one is no number."""
    if not bool((ratios > 0).all() and ratios.isfinite().all()):
        return math.inf
    return float((ratios / _middle(ratios) - 1).abs().max())


def _ratios(work: Work, layers: list[_Layer], seed: int) -> tuple[list[Tensor], Tensor]:
    """The model's output, and for each layer the root mean square of the gradient over the weight's.

    What is differentiated is a random linear function of each sample's output, so that the expected
    square of the gradient is the sum of those of the samples.
    """
    squares = [0.0] * len(layers)
    of: dict[int, list[int]] = {}
    for i, layer in enumerate(layers):
        for parameter in layer.weight.site.parameters:
            of.setdefault(id(parameter), []).append(i)

    def take(_: str, parameter: nn.Parameter, gradient: Tensor) -> None:
        for i in of.get(id(parameter), ()):
            part = _part(layers[i].weight, gradient)
            if work.ranks.are_several:
                part = work.ranks.total(f"{layers[i].name}, gradient", part)
            squares[i] += _square(part)

    def loss(output: Any, *_: Any) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        terms = [
            (each * _directions(work, each, generator).to(each)).sum() for each in _outputs(output)
        ]
        return torch.stack([each.double() for each in terms]).sum()

    walked = work.walk(loss=loss, visit_weight=take)
    weights = [
        sum(_square(_part(layer.weight, each.detach())) for each in layer.weight.site.parameters)
        for layer in layers
    ]
    ratios = [
        math.sqrt(square / weight) if weight else math.inf
        for square, weight in zip(squares, weights, strict=True)
    ]
    output = [each.detach().clone() for each in _outputs(walked.output)]
    return output, torch.tensor(ratios, dtype=torch.float64)


def _directions(work: Work, output: Tensor, generator: torch.Generator) -> Tensor:
    """Random numbers for what the model returned: this rank's part of those for the outputs of all ranks."""
    if not (work.ranks.are_several and output.dim()):
        return torch.randn(output.shape, generator=generator)
    first, count = work.ranks.before("the number of outputs", len(output))
    numbers = torch.randn((count, *output.shape[1:]), generator=generator)
    return numbers[first : first + len(output)]


def _rescale(work: Work, layers: list[_Layer], scales: Tensor) -> None:
    """Write scales in the order of execution, while one pass goes on from what they give."""
    at: dict[str, list[_Layer]] = {}
    for layer, scale in zip(layers, scales.tolist(), strict=True):
        layer.scale = scale
        at.setdefault(layer.call, []).append(layer)

    def visit(call: Call) -> None:
        here = at.get(call.name, ()) if call.number == 1 else ()
        for layer in here:
            layer.set_(call.inputs[0] if call.inputs else None)
        if here:
            torch.clear_autocast_cache()  # which has the weights as they were
            call.again()

    work.walk(visit)


def _outputs(output: Any) -> Iterable[Tensor]:
    return (each for _, each in named_tensors(output) if each.is_floating_point())


def _part(weight: Adjustable, tensor: Tensor) -> Tensor:
    """What of a parameter or its gradient belongs to some output channels."""
    if weight.is_whole:
        return tensor
    return tensor.narrow(weight.dim, weight.rows.start, len(weight.rows))


def _square(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) ** 2


# ---- weights from the inputs ---------------------------------------------------------------------


def _principal(affine: Affine, _: int) -> Tensor:
    """The principal components of the inputs, the first ones first."""
    patches = Patches(affine)

    def filters(group: int, count: int) -> Tensor:
        return patches.components(group)[2][:count]

    return _by_group(affine, patches, filters)


def _centres(affine: Affine, seed: int) -> Tensor:
    """The centres of clusters of the inputs, whitened and of length 1 (Coates & Ng 2012)."""
    patches = Patches(affine)

    def filters(group: int, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        rows = patches.sample(group, _CLUSTERED, generator)
        mean, values, components = (each.cpu() for each in patches.components(group))
        whitener = components / (values + _NOISE * values[:1]).sqrt().unsqueeze(1)
        white = torch.nn.functional.normalize((rows - mean) @ whitener.T)
        count = min(count, len(torch.unique(white, dim=0))) if len(values) else 0
        if count == 0:
            return white.new_zeros(0, patches.size)
        found = _clusters()(n_clusters=count, batch_size=10 * count, n_init=1, random_state=seed)
        centres = torch.from_numpy(found.fit(white.numpy()).cluster_centers_)
        return centres @ whitener

    return _by_group(affine, patches, filters)


def _by_group(affine: Affine, patches: Patches, filters: Callable[[int, int], Tensor]) -> Tensor:
    """Weights that are made for each group of a convolution; those of the base where there are too few."""
    values = affine.weight.base.clone()
    count = len(values) // patches.groups
    for group in range(patches.groups):
        made = filters(group, count)
        first = group * count
        values[first : first + len(made)] = made.view(-1, *values.shape[1:])
    return values


def _clusters() -> Any:
    package = needed("sklearn.cluster", 'weights="kmeans"', "scikit-learn", '"pyinit[data]"')
    return package.MiniBatchKMeans


_WEIGHTS: dict[str, Callable[[Affine, int], Tensor] | None] = {
    "base": None,
    "pca": _principal,
    "kmeans": _centres,
}
