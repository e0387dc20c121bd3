"""``inspect``: what signals, gradients and weights of a model are like, call by call."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from os import PathLike, fspath
from typing import Any

import torch
from torch import Tensor, nn

from pyinit._random.generators import States, global_states_kept, set_global_states
from pyinit._torch.placement import refuse_elsewhere
from pyinit._torch.wrappers import unwrapped
from pyinit.inspection.arguments import check_flag, check_function, check_model, whole_number
from pyinit.inspection.batches import Batch, read_batch
from pyinit.inspection.default_loss import default_loss
from pyinit.inspection.jacobians import with_jacobians
from pyinit.inspection.layers import refuse_unready
from pyinit.inspection.measure import look_at
from pyinit.inspection.no_training import no_training
from pyinit.inspection.put_back import put_back
from pyinit.inspection.remedies import diagnosed
from pyinit.inspection.results import Inspection
from pyinit.inspection.rows import Look
from pyinit.inspection.training import trained, with_rates
from pyinit.whole_model.initialize import initialize_
from pyinit.whole_model.recipes.registry import Recipe

_RATE = 1e-3  # of Adam, by default

Given = str | Recipe | PathLike[str]


def inspect(
    model: nn.Module,
    batch: Any,
    target: Any = None,
    loss: Callable[..., Tensor] | None = None,
    *,
    recipes: Given | Iterable[Given | None] | None = None,
    seed: int | None = None,
    layers: Any = None,
    steps: int = 0,
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
    spectra: bool = False,
    jacobians: bool = False,
) -> Inspection:
    """Look at signals, gradients and weights of a model, at every call of every layer.

    One pass forward and backward is run for each recipe, and each number is taken as the pass goes by:
    no activation is kept. Faults are told in words, with the first layer where they show. Where another
    recipe may help, it is tried, and what came of it is told.

    Parameters, buffers, gradients, modes, hooks and generators are afterwards as they were, bit for bit,
    whatever is raised. With ``recipes``, ``steps``, or a fault, parameters and buffers are copied once.

    Args:
        model: the model; each module keeps its mode
        batch: a tensor; a tuple of inputs, or of inputs and a target; a mapping; a ``DataLoader`` or
            another iterable, whose first batch is taken; an iterator; or a function that returns a batch
        target: the target, if it does not come with the batch
        loss: a function of the output, or of output and target if there is one, whose scalar is
            differentiated. By default it is what the model returns as ``loss``; or else, for a target of
            integers, the cross-entropy; for another target the mean squared error; and without a target
            the mean of the squares of the outputs
        recipes: what to initialize the model with: a recipe, or several to compare. None among them, and
            by default, means the weights as they are
        seed: the seed of all recipes; without it, a key is drawn from torch's generator
        layers: which layers to look at, as in ``pyinit.inspection.walk.walk``. By default they are those
            with parameters, and activations
        steps: how many steps of training to take on the batch, to see how far weights go
        optimizer: a function that makes an optimizer for parameters, such as ``torch.optim.AdamW``;
            Adam with a learning rate of 0.001 by default
        spectra: whether to compute the extreme singular values of weights
        jacobians: whether to estimate the norm of each layer's Jacobian, by a further backward pass

    Returns:
        The inspection.

    Raises:
        TypeError, ValueError: for arguments that are none of these, before anything is written; where the
            pass calls none of the layers; for a batch
            that does not fit, is empty or has NaN; for lazy parameters and those on the meta device; for a
            loss that is no scalar or cannot be differentiated.
        RuntimeError: where the model fails, naming the layer.

    References:
        Doshi, He and Gromov 2021, "Critical initialization of wide and deep neural networks through
        partial Jacobians" (``jacobians``).

    Example:
        >>> import torch, pyinit
        >>> from torch import nn
        >>> parts = (part for _ in range(20) for part in (nn.Linear(64, 64), nn.Tanh()))
        >>> model = nn.Sequential(*parts)
        >>> x = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
        >>> report = pyinit.inspect(model, x, recipes=["torch", "auto"], seed=0)
        >>> for recipe in report.recipes:
        ...     print(recipe, f"{report.of(recipe)[-1].forward.std:.0e}")
        torch 8e-02
        auto 6e-01
        >>> {finding.recipe for finding in report.findings}
        {'torch'}
    """
    check_model(model)
    check_function("loss", loss, "the output, or of output and target")
    steps = whole_number("steps", steps, 0)
    if seed is not None:
        seed = whole_number("seed", seed, 0, 2**64 - 1)
    check_flag("spectra", spectra)
    check_flag("jacobians", jacobians)
    _check_optimizer(optimizer)
    chosen = _recipes(recipes)
    with unwrapped(model) as plain, global_states_kept() as states, no_training():
        refuse_unready(plain)
        refuse_elsewhere("inspect", plain.named_parameters(remove_duplicate=False), plain)
        if steps and not any(each.requires_grad for each in plain.parameters()):
            raise ValueError("steps need parameters to train, and all are frozen")
        with global_states_kept():
            read = read_batch(plain, batch, target)
        view = _View(plain, read, loss, layers, seed, steps, optimizer, spectra, jacobians)
        looks = list(view.all(chosen, states))
        findings = tuple(diagnosed(looks, view.again(chosen, states)))
    first = looks[0]
    return Inspection(
        rows=tuple(row for look in looks for row in look.rows),
        recipes=tuple(look.recipe for look in looks),
        losses=tuple(look.loss for look in looks),
        findings=findings,
        unused=first.unused,
        frozen=first.frozen,
        quantized=first.quantized,
    )


class _View:
    """How to look, whatever the recipe."""

    def __init__(  # noqa: PLR0917
        self,
        model: nn.Module,
        batch: Batch,
        loss: Callable[..., Tensor] | None,
        layers: Any,
        seed: int | None,
        steps: int,
        optimizer: Any,
        spectra: bool,
        jacobians: bool,
    ) -> None:
        self.model, self.batch, self.layers, self.seed = model, batch, layers, seed
        learns = any(each.requires_grad for each in model.parameters())
        self.loss = loss or (default_loss if learns else None)
        self.steps, self.optimizer = steps, optimizer
        self.spectra, self.jacobians = spectra, jacobians

    def all(self, recipes: Sequence[Given | None], states: States) -> Iterator[Look]:
        """A look under each recipe."""
        for recipe in recipes:
            set_global_states(states)
            yield self.under(recipe)

    def again(
        self, recipes: Sequence[Given | None], states: States
    ) -> Callable[[str, float], Look]:
        """For remedies: a look under a recipe, as if it had been asked for."""
        by_name = {name_of(recipe): recipe for recipe in recipes}

        def look(recipe: str, factor: float) -> Look:
            set_global_states(states)
            return self.under(by_name.get(recipe, recipe or None), factor)

        return look

    def under(self, recipe: Given | None, factor: float = 1.0) -> Look:
        """A look under a recipe; the weights are as they were afterwards.

        factor: of the learning rates
        """
        with ExitStack() as stack:
            report = None
            if recipe is not None or self.steps:
                stack.enter_context(put_back(self.model))
            if recipe is not None:
                report = initialize_(self.model, recipe, seed=self.seed)
            look = look_at(
                self.model,
                self.batch,
                self.loss,
                self.layers,
                recipe=name_of(recipe),
                report=report,
                spectra=self.spectra,
            )
            if not look.rows and (self.layers is not None or not look.unused):
                raise ValueError(_nothing(self.model, self.layers))
            if self.jacobians:
                look = with_jacobians(look, self.model, self.batch, self.layers)
            if self.steps and self.loss is not None:
                make = self.optimizer or partial(torch.optim.Adam, lr=_RATE)
                look = trained(
                    look,
                    self.model,
                    self.batch,
                    self.loss,
                    self.steps,
                    lambda parameters: with_rates(make(parameters), factor),
                )
                if self.optimizer is None:  # rates that nobody chose are nobody's fault
                    look = look._replace(optimizer="")
        return look


def _nothing(model: nn.Module, layers: Any) -> str:
    if layers is None:
        return (
            f"{type(model).__name__} has called nothing to look at: no layer with parameters, and no "
            "activation"
        )
    return f"layers: the pass called no layer that {layers!r} chooses"


def name_of(recipe: Given | None) -> str:
    """How a recipe is named in rows."""
    if recipe is None:
        return ""
    return fspath(recipe) if isinstance(recipe, PathLike) else str(recipe)


def _recipes(given: Any) -> list[Given | None]:
    if given is None:
        return [None]
    if isinstance(given, (str, Recipe, PathLike)):
        return [given]
    if not isinstance(given, Iterable) or isinstance(given, bytes):
        raise TypeError(f"recipes must be a recipe or several, got {type(given).__name__}")
    chosen = list(given)
    for each in chosen:
        if each is not None and not isinstance(each, (str, Recipe, PathLike)):
            raise TypeError(f"recipes must be names, Recipes, files or None, got {each!r}")
    if not chosen:
        raise ValueError("recipes must name at least one, got none")
    names = [name_of(each) for each in chosen]
    if len(set(names)) < len(names):
        raise ValueError(f"recipes must differ, got {', '.join(names)}")
    return chosen


def _check_optimizer(optimizer: object) -> None:
    if isinstance(optimizer, torch.optim.Optimizer) or (optimizer and not callable(optimizer)):
        raise TypeError(
            "optimizer must be a function that makes an optimizer for parameters, such as "
            f"torch.optim.AdamW, got {type(optimizer).__name__}"
        )
