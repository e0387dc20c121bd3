"""MetaInit: norms of weights, learned so that the gradient changes least along itself."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyinit._random.generators import global_states, global_states_kept, set_global_states
from pyinit._torch.eager import eager
from pyinit.data_driven.differentiated import Differentiated, check_search, differentiated
from pyinit.data_driven.engine import Base, working
from pyinit.data_driven.pictures import FACTOR, About
from pyinit.data_driven.quotient import gradient_quotient
from pyinit.data_driven.results import Measured, MethodReport
from pyinit.inspection.batches import Batch, batches_of, further, named_tensors
from pyinit.inspection.default_loss import default_loss
from pyinit.inspection.progress import progress
from pyinit.whole_model.methods import register_method

_MOMENTUM = 0.9
_LEAST = 0.01  # of a norm, as a part of what it was


@dataclass(frozen=True)
class MetaInitWeight(Measured):
    """What ``metainit_`` found for one weight.

    Args:
        name: the weight's name
        norm_before: its Euclidean norm as it began
        norm_after: its norm now
        scale: what it was multiplied by
    """

    about: ClassVar[Mapping[str, About]] = {
        "norm": About("norm of the weight"),
        "scale": FACTOR,
    }

    norm_before: float
    norm_after: float
    scale: float


@dataclass(frozen=True)
class MetaInitReport(MethodReport[MetaInitWeight]):
    """What ``metainit_`` did: a row for each weight.

    Args:
        init: what ``replay_`` needs
        layers: the rows
        left: pairs of the name of a parameter that stays as it was, and why
        quotient_before, quotient_after: the gradient quotient on the first batch
        steps_to_best: how many steps the search had taken when it met the norms that were taken

    Example:
        >>> import torch, pyinit
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
        >>> report = pyinit.metainit_(model, (32, 8), steps=20, seed=0)
        >>> report.quotient_after <= report.quotient_before
        True
        >>> pyinit.MetaInitReport.from_dict(report.to_dict()) == report
        True
    """

    row: ClassVar[type[Measured]] = MetaInitWeight

    quotient_before: float = math.nan
    quotient_after: float = math.nan
    steps_to_best: int = 0


@eager
@register_method("metainit", source="Dauphin & Schoenholz 2019", takes_shape=True)
def metainit_(
    model: nn.Module,
    data: Any,
    *,
    loss: Callable[..., Tensor] | None = None,
    steps: int = 500,
    lr: float = 0.1,
    base: Base = "kaiming",
    seed: int | None = None,
    layers: Any = None,
    verbose: bool = False,
) -> MetaInitReport:
    """Learn the norms of the weights, such that the gradient changes least along itself.

    With the gradient g and the Hessian H of the loss, a step along the gradient turns g into g - H g.
    The gradient quotient is the mean over all trained parameters of ``|(g - H g) / g - 1|``, where
    1e-5 is added to the size of each divisor: how much the gradient changes. It is lowered by the signs
    of its derivatives by the norms, with momentum 0.9. A norm stays above a hundredth of what it was.
    Of the norms that the search met, those with the least quotient are taken, unless the quotient on the
    first batch is then no less than at the start.

    Weights have two dimensions or more; biases and norms stay. So do weights that are computed from
    others, such as those under ``weight_norm``. Tensors of 16 bits are taken in float32. Modules keep
    their modes, and running statistics stay.

    Whatever is raised, ``KeyboardInterrupt`` included, the model is afterwards as it was before.

    Args:
        model: the model
        data: the shape of the inputs, a tuple of whole numbers such as ``(64, 3, 32, 32)``, for normal
            random numbers that are drawn anew for each step, as in the paper; or a batch, or a source of
            batches, as ``pyinit.inspect`` takes it
        loss: a function of the output, or of output and target if the data has one; by default what
            ``pyinit.inspect`` differentiates. Without a target, the default is the cross-entropy with
            random classes, if the output has two dimensions and several columns, and otherwise the mean
            squared distance to normal random numbers; they are drawn anew for each step
        steps: how many steps to search
        lr: the learning rate of the norms, in their own units
        base: what the parameters begin with: a recipe, or None for the parameters as they are
        seed: the seed of the base, of random inputs and targets, and of what the model draws
        layers: which layers to initialize and scale, as ``only=`` of ``initialize_`` says it; names of
            modules will do, too. The quotient is that of all parameters that require gradients
        verbose: print a line for each step of the search

    Returns:
        The report, which ``replay_`` takes.

    Raises:
        TypeError, ValueError: for arguments that are none of these, data that ends early or has NaN, a
            loss that is no scalar, a quotient that is not finite at the start, and models without a
            layer that may be scaled.
        RuntimeError: where the model fails, and for an operation that has no second derivatives, by name.

    References:
        Dauphin & Schoenholz 2019, "MetaInit: Initializing learning by learning to initialize", NeurIPS.

    Example:
        >>> import torch, pyinit
        >>> from torch import nn
        >>> model = nn.Sequential(*(p for _ in range(8) for p in (nn.Linear(16, 16), nn.Tanh())))
        >>> _ = pyinit.initialize_(model, "kaiming", seed=0)
        >>> with torch.no_grad():
        ...     for layer in model[::2]:
        ...         layer.weight *= 3
        >>> report = pyinit.metainit_(model, (64, 16), base=None, steps=200, seed=0)
        >>> report.quotient_after < report.quotient_before / 10
        True
    """
    check_search(steps, lr=lr)
    options = {"steps": steps, "lr": lr}
    with (
        batches_of(_inputs(data, model, seed)) as batches,
        working(
            "metainit",
            options,
            model,
            next(batches, data),
            base=base,
            seed=seed,
            layers=layers,
            verbose=verbose,
        ) as work,
        differentiated("metainit", work, loss or _loss, _is_weight) as network,
        progress() as bar,
    ):
        assert work.batch is not None
        search = _Search(network, lr)
        first = work.batch
        before = search.quotient_of(None, first)
        if not math.isfinite(before):
            raise ValueError(
                f"the gradient quotient must be finite at the start, got {before}: the weights are too "
                "large, or the data is"
            )
        batch, others = first, further(work.model, batches)
        for step in range(steps):
            bar.step(f"metainit: step {step + 1} of {steps}")
            work.say(f"step {step + 1}: gradient quotient {search.step(batch):.4g}")
            if step + 1 < steps:
                batch = next(others)
        after = search.quotient_of(search.best, first)
        if not after < before:
            after, search.best, search.best_step = before, torch.ones_like(search.best), 0
        rows = []
        for part, norm, factor in zip(network.parts, search.norms, search.best, strict=True):
            scale = float(factor)
            part.set_(scale=scale)
            rows.append(MetaInitWeight(part.name, float(norm), float(norm) * scale, scale))
        return MetaInitReport(
            work.report(),
            tuple(rows),
            tuple(work.left.items()),
            before,
            after,
            search.best_step,
        )


class _Search:
    """Steps of the search.

    norms: of the weights, as they began
    best: the factors with the least quotient so far; best_step: after how many steps they were met
    """

    def __init__(self, network: Differentiated, lr: float) -> None:
        self._network, self._lr = network, lr
        self._states = global_states()  # the same random numbers before and after
        bases = [each.base for each in network.parts]
        self.norms = torch.stack([each.double().norm() for each in bases])
        self._factors = torch.ones_like(self.norms)
        self._speed = torch.zeros_like(self.norms)
        self.best, self.best_step, self._least = self._factors, 0, math.inf
        self._count = 0

    def step(self, batch: Batch) -> float:
        """The quotient before the step."""
        factors = self._factors.clone().requires_grad_()
        quotient = self._quotient(factors, batch)
        (gradient,) = self._network.by(quotient, [factors], last=True)
        value = float(quotient.detach())
        if value < self._least:
            self.best, self.best_step, self._least = self._factors, self._count, value
        # A derivative by a norm has the sign of that by the factor. One that is not finite says nothing.
        self._speed = _MOMENTUM * self._speed - self._lr * gradient.nan_to_num(0, 0, 0).sign()
        self._factors = (self._factors + self._speed / self.norms).clamp(min=_LEAST)
        self._count += 1
        return value

    def quotient_of(self, factors: Tensor | None, batch: Batch) -> float:
        """The quotient with some factors, or with none, without a step."""
        with global_states_kept():
            set_global_states(self._states)
            chosen = torch.ones_like(self.norms) if factors is None else factors
            return float(self._quotient(chosen, batch).detach())

    def _quotient(self, factors: Tensor, batch: Batch) -> Tensor:
        return gradient_quotient(self._network, self._network.values(factors), batch)


def _is_weight(each: Any) -> bool:
    return len(each.site.shape) > 1


def _loss(output: Any, target: Any = None) -> Tensor:
    """The default loss, with a random target where there is none."""
    if target is not None or isinstance(getattr(output, "loss", None), Tensor):
        return default_loss(output, target)
    first = next((each for _, each in named_tensors(output) if each.is_floating_point()), None)
    if first is None:
        return default_loss(output)  # which says so
    if first.dim() == 2 and first.shape[1] > 1:
        classes = torch.randint(first.shape[1], first.shape[:1], device=first.device)
        return functional.cross_entropy(first, classes)
    return functional.mse_loss(first, torch.randn_like(first))


def _inputs(data: Any, model: nn.Module, seed: int | None) -> Any:
    """The data, or normal random numbers without an end for a shape."""
    is_shape = isinstance(data, tuple) and data and all(type(each) is int for each in data)
    if not is_shape:
        return data
    if min(data) < 1:
        raise ValueError(f"a shape of inputs must be of numbers above 0, got {tuple(data)}")
    return _normal(data, model, seed)


def _normal(shape: tuple[int, ...], model: nn.Module, seed: int | None) -> Iterator[Tensor]:
    like = next((each for each in model.parameters() if each.is_floating_point()), torch.empty(0))
    generator = torch.Generator()
    generator.manual_seed(torch.initial_seed() if seed is None else seed)
    while True:
        yield torch.randn(shape, generator=generator).to(like.device, like.dtype)
