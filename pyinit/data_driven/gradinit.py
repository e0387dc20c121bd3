"""GradInit: a factor on each parameter, learned so that one step of training lowers the loss most."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from pyinit._messages import near
from pyinit._random.generators import global_states, global_states_kept, set_global_states
from pyinit._torch.eager import eager
from pyinit.data_driven.differentiated import Differentiated, check_search, differentiated
from pyinit.data_driven.engine import Base, Work, working
from pyinit.data_driven.pictures import About
from pyinit.data_driven.results import Measured, MethodReport
from pyinit.inspection.batches import Batch, batches_of, further, gives_several
from pyinit.inspection.default_loss import default_loss
from pyinit.inspection.progress import progress
from pyinit.whole_model.methods import register_method

# As the paper's own code has them.
_LEAST = 0.01  # of a factor
_MOST = 1.0  # of the gradient by a factor


class Step(NamedTuple):
    """The first step of an optimizer, and its defaults.

    norm: the norm of the gradient that is dual to the step
    direction: what the step subtracts, but for its size
    eta: the step's size
    gamma: the bound of the norm
    """

    norm: Callable[[list[Tensor]], Tensor]
    direction: Callable[[Tensor], Tensor]
    eta: float
    gamma: float


def _euclidean(gradients: list[Tensor]) -> Tensor:
    return torch.stack([each.square().sum() for each in gradients]).sum().sqrt()


def _sum_of_sizes(gradients: list[Tensor]) -> Tensor:
    return torch.stack([each.abs().sum() for each in gradients]).sum()


_STEPS = {
    "sgd": Step(_euclidean, lambda gradient: gradient, 0.1, 1.0),
    "adam": Step(_sum_of_sizes, torch.sign, 1e-3, 1e3),
}


@dataclass(frozen=True)
class GradInitTensor(Measured):
    """What ``gradinit_`` found for one parameter.

    Args:
        name: the parameter's name
        scale: what it was multiplied by
        gradient_before: the Euclidean norm of the gradient by it, with the values that it began with
        gradient_after: the same with its values now
    """

    about: ClassVar[Mapping[str, About]] = {
        "scale": About("factor on the parameter", 1.0),
        "gradient": About("norm of the gradient by the parameter"),
    }

    scale: float
    gradient_before: float
    gradient_after: float


@dataclass(frozen=True)
class GradInitReport(MethodReport[GradInitTensor]):
    """What ``gradinit_`` did: a row for each parameter that has a factor.

    All totals are those of the first batch (or pair of batches).

    Args:
        init: what ``replay_`` needs
        layers: the rows
        left: pairs of the name of a parameter that stays as it was, and why
        loss_before, loss_after: the loss before any step of training
        step_before, step_after: the loss after one step of training
        norm_before, norm_after: the norm of the gradient that is bounded
        gamma: its bound
        bounding_steps: how many steps of the search lowered that norm, and not the loss

    Example:
        >>> import torch, pyinit
        >>> x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
        >>> batch = (x, (x[:, 0] > 0).long())
        >>> report = pyinit.gradinit_(torch.nn.Linear(8, 2), batch, steps=20, seed=0)
        >>> report.step_after < report.step_before
        True
        >>> pyinit.GradInitReport.from_dict(report.to_dict()) == report
        True
    """

    row: ClassVar[type[Measured]] = GradInitTensor

    loss_before: float = math.nan
    loss_after: float = math.nan
    step_before: float = math.nan
    step_after: float = math.nan
    norm_before: float = math.nan
    norm_after: float = math.nan
    gamma: float = math.nan
    bounding_steps: int = 0


@eager
@register_method("gradinit", source="Zhu et al. 2021")
def gradinit_(
    model: nn.Module,
    data: Any,
    *,
    loss: Callable[..., Tensor] | None = None,
    optimizer: str = "sgd",
    eta: float | None = None,
    gamma: float | None = None,
    steps: int = 100,
    lr: float = 0.01,
    base: Base = "kaiming",
    seed: int | None = None,
    layers: Any = None,
    verbose: bool = False,
) -> GradInitReport:
    """Multiply each parameter by a factor, such that one step of training lowers the loss most.

    The factors are learned by Adam. Where the norm of the gradient exceeds ``gamma``, a step of the
    search lowers that norm; elsewhere it lowers the loss that a first step of training would lead to.
    Of the factors that it met, those are taken that keep the bound and have the least loss after a step
    on the first batch. Parameters that are 0 have no factor. Nor have those that are computed from
    others, such as weights under ``weight_norm``.

    A batch serves for the gradient and for the loss after the step. With a loader or another source of
    several batches, the second loss is that of half of the batch and half of the next one, as in the
    paper. Tensors of 16 bits are taken in float32. Modules keep their modes, and running statistics
    stay.

    Whatever is raised, ``KeyboardInterrupt`` included, the model is afterwards as it was before.

    Args:
        model: the model
        data: a batch, or a source of batches, as ``pyinit.inspect`` takes it; an iterator has to have
            enough of them
        loss: a function of the output, or of output and target if there is one; by default what
            ``pyinit.inspect`` differentiates
        optimizer: the one that the model is to be trained with: ``"sgd"``, whose first step is ``eta``
            times the gradient, or ``"adam"``, whose first step is ``eta`` times its signs
        eta: the size of that step; by default 0.1 for SGD, 0.001 for Adam
        gamma: the bound of the gradient's norm: the Euclidean norm for SGD, by default 1; the sum of
            sizes for Adam, by default 1000
        steps: how many steps to search
        lr: the learning rate of the factors
        base: what the parameters begin with: a recipe, or None for the parameters as they are
        seed: the seed of the base, and of what the model draws when it runs
        layers: which layers to initialize and scale, as ``only=`` of ``initialize_`` says it; names of
            modules will do, too. The step of training moves all parameters that require gradients
        verbose: print a line for each step of the search

    Returns:
        The report, which ``replay_`` takes.

    Raises:
        TypeError, ValueError: for arguments that are none of these, data that ends early or has NaN, a
            loss that is no finite scalar, and models without a layer that may be scaled.
        RuntimeError: where the model fails; for an operation that has no second derivatives, by name;
            and if the norm of the gradient is still beyond its bound at the end.

    References:
        Zhu et al. 2021, "GradInit: Learning to initialize neural networks for stable and efficient
        training", arXiv:2102.08098.

    Example:
        >>> import torch, pyinit
        >>> from torch import nn
        >>> model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(6)))
        >>> x = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
        >>> report = pyinit.gradinit_(model, (x, x[:, :8].argmax(1)), seed=0)
        >>> report.norm_before > 1 >= report.norm_after, report.step_after < report.step_before
        (True, True)
    """
    if optimizer not in _STEPS:
        raise ValueError(f"unknown optimizer {optimizer!r}; {near(str(optimizer), _STEPS)}")
    options = {"optimizer": optimizer, "eta": eta, "gamma": gamma, "steps": steps, "lr": lr}
    kind = _STEPS[optimizer]
    eta, gamma = kind.eta if eta is None else eta, kind.gamma if gamma is None else gamma
    check_search(steps, lr=lr, eta=eta, gamma=gamma)
    kind = kind._replace(eta=eta, gamma=gamma)
    with (
        batches_of(data) as batches,
        working(
            "gradinit",
            options,
            model,
            next(batches, data),
            base=base,
            seed=seed,
            layers=layers,
            verbose=verbose,
        ) as work,
        differentiated("gradinit", work, loss or default_loss) as network,
        progress() as bar,
    ):
        pairs = _pairs(work, batches, gives_several(data))
        search = _Search(network, kind, lr)
        first = next(pairs)
        start = search.look(torch.ones(len(network.parts), dtype=torch.float64), first)
        if not math.isfinite(start.loss):
            raise ValueError(f"loss must be finite at the start, got {start.loss}")
        pair = first
        for step in range(steps):
            bar.step(f"gradinit: step {step + 1} of {steps}")
            work.say(f"step {step + 1}: {search.step(pair)}")
            if step + 1 < steps:
                pair = next(pairs)
        looks = [search.look(factors, first) for factors in search.candidates]
        found = min(looks, key=lambda look: look.rank(gamma))
        if not found.norm <= gamma:
            raise RuntimeError(
                f"gradinit: after {steps} steps the norm of the gradient is {found.norm:.4g}, and "
                f"gamma={gamma:.4g} is its bound: take more steps, a higher lr or a higher gamma"
            )
        rows = []
        for i, part in enumerate(network.parts):
            scale = float(found.factors[i])
            part.set_(scale=scale)
            rows.append(
                GradInitTensor(part.name, scale, start.norms[part.name], found.norms[part.name])
            )
        return GradInitReport(
            work.report(),
            tuple(rows),
            tuple(work.left.items()),
            start.loss,
            found.loss,
            start.after,
            found.after,
            start.norm,
            found.norm,
            gamma,
            search.bounding,
        )


class _Look(NamedTuple):
    """What was measured with some factors.

    after: the loss after one step of training
    norms: of the gradient, by parameter
    """

    factors: Tensor
    loss: float
    norm: float
    after: float
    norms: dict[str, float]

    def rank(self, gamma: float) -> tuple[bool, float]:
        """Those that keep the bound come first."""
        is_within = self.norm <= gamma
        value = self.after if is_within else self.norm
        return not is_within, value if math.isfinite(value) else math.inf

    def __str__(self) -> str:
        return f"loss {self.loss:.4g}, norm {self.norm:.4g}, loss after a step {self.after:.4g}"


class _Search:
    """Steps of the search.

    bounding: how many of them lowered the norm
    """

    def __init__(self, network: Differentiated, kind: Step, lr: float) -> None:
        self._network, self._kind, self.bounding = network, kind, 0
        self._states = global_states()  # the same masks of dropout for all that are compared
        self._factors = torch.ones(
            len(network.parts), dtype=torch.float64, device=network.parts[0].base.device
        ).requires_grad_()
        # Each aim has moments of its own.
        self._by_loss, self._by_norm = (torch.optim.Adam([self._factors], lr=lr) for _ in range(2))
        self._best: tuple[tuple[bool, float], Tensor] | None = None

    @property
    def candidates(self) -> list[Tensor]:
        """The factors that may be the best: those at first, the best that were met, and the last."""
        now = self._factors.detach().clone()
        best = [] if self._best is None else [self._best[1]]
        return [torch.ones_like(now), *best, now]

    def step(self, pair: tuple[Batch, Batch]) -> _Look:
        """What was measured before the step."""
        look, objective = self._measured(self._factors, pair)
        rank = look.rank(self._kind.gamma)
        if self._best is None or rank < self._best[0]:
            self._best = rank, look.factors
        is_bounding = not look.norm <= self._kind.gamma
        (gradient,) = self._network.by(objective, [self._factors], last=True)
        if not bool(gradient.isfinite().all()):
            raise RuntimeError(f"gradinit: the gradient by the factors is not finite: {look}")
        self.bounding += is_bounding
        optimizer = self._by_norm if is_bounding else self._by_loss
        # A gradient that falls by orders of magnitude would make Adam's steps ever smaller.
        self._factors.grad = gradient.detach().clamp(-_MOST, _MOST)
        optimizer.step()
        with torch.no_grad():
            self._factors.clamp_(min=_LEAST)
        return look

    def look(self, factors: Tensor, pair: tuple[Batch, Batch]) -> _Look:
        """What is measured with some factors."""
        with global_states_kept():
            set_global_states(self._states)
            return self._measured(factors, pair)[0]

    def _measured(self, factors: Tensor, pair: tuple[Batch, Batch]) -> tuple[_Look, Tensor]:
        """And what the next step is to lower."""
        network, kind = self._network, self._kind
        values = network.values(factors)
        loss = network.loss(values, pair[0])
        gradients = network.gradients(loss, values)
        norm = kind.norm(list(gradients.values()))
        moved = {
            name: each - kind.eta * kind.direction(gradients[name]) if name in gradients else each
            for name, each in values.items()
        }
        after = network.loss(moved, pair[1])
        norms = {part.name: float(gradients[part.name].detach().norm()) for part in network.parts}
        look = _Look(
            factors.detach().clone(),
            float(loss.detach()),
            float(norm.detach()),
            float(after.detach()),
            norms,
        )
        return look, after if look.norm <= kind.gamma else norm


def _pairs(work: Work, batches: Iterator[Any], are_several: bool) -> Iterator[tuple[Batch, Batch]]:
    """Batches for the gradient, and for the loss after the step."""
    first = work.batch
    assert first is not None
    while not are_several:
        yield first, first
    for second in further(work.model, batches):
        yield first, halves_of(first, second)
        first = second


def halves_of(first: Batch, second: Batch) -> Batch:
    """Half of the samples of a batch, and half of those of another; all of the other where its tensors
    do not go with the first one's."""
    one, layout = tree_flatten(tuple(first))
    other, others = tree_flatten(tuple(second))
    pairs = [
        pair for pair in zip(one, other, strict=False) if any(isinstance(x, Tensor) for x in pair)
    ]
    if layout != others or not pairs or not all(_goes(*pair, pairs[0]) for pair in pairs):
        return second
    count, more = (len(each) for each in pairs[0])
    joined = [
        torch.cat([a[: count // 2], b[: more - more // 2]]) if isinstance(a, Tensor) else b
        for a, b in zip(one, other, strict=True)
    ]
    return Batch(*tree_unflatten(joined, others))


def _goes(one: Any, other: Any, first: tuple[Any, Any]) -> bool:
    """Whether two tensors have as many samples as the first two, of one shape."""
    return (
        all(isinstance(each, Tensor) and each.dim() > 0 for each in (one, other, *first))
        and (len(one), len(other)) == (len(first[0]), len(first[1]))
        and one.shape[1:] == other.shape[1:]
        and (one.dtype, one.device) == (other.dtype, other.device)
    )
