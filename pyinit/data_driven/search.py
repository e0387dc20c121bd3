"""A search for the initializers of a model's layers, by a score that is cheap to compute."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pyinit._messages import needed
from pyinit._random.generators import global_states, global_states_kept, set_global_states
from pyinit._torch.digests import digest
from pyinit._torch.eager import eager
from pyinit.data_driven.differentiated import check_search
from pyinit.data_driven.engine import Base, working
from pyinit.data_driven.results import Measured, MethodReport
from pyinit.data_driven.schemes import Schemes, groups_of
from pyinit.data_driven.scores import Scorer, name_of
from pyinit.data_driven.study import Study, facts_of, quiet, refuse_other
from pyinit.inspection.batches import Batch, named_tensors
from pyinit.whole_model.methods import register_method

_SCHEMES = (None, "xavier_normal", "kaiming_normal", "orthogonal")


@dataclass(frozen=True)
class SearchedWeight(Measured):
    """What ``search_recipe`` chose for one weight.

    Args:
        name: the weight's name
        group: the group of weights that share a choice
        before: the initializer that the base gives it
        after: the initializer that it got
    """

    group: str
    before: str
    after: str


@dataclass(frozen=True)
class SearchReport(MethodReport[SearchedWeight]):
    """What ``search_recipe`` did: a row for each weight.

    Args:
        init: what ``replay_`` needs
        layers: the rows
        left: pairs of the name of a weight that stays as the base has it, and why
        score_before, score_after: the score with the base's initializers, and with those chosen; None
            if it is not finite
        trials: how many trials there were, with those that the study file had
        space: how many ways there are to choose

    Example:
        >>> import torch, pyinit
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
        >>> report = pyinit.search_recipe(model, torch.randn(32, 8), trials=3, seed=0)
        >>> report.trials, report.space
        (3, 16)
        >>> pyinit.SearchReport.from_dict(report.to_dict()) == report
        True
    """

    row: ClassVar[type[Measured]] = SearchedWeight

    score_before: float | None = None
    score_after: float | None = None
    trials: int = 0
    space: int = 0


@eager
@register_method("search", source="Akiba et al. 2019; Dauphin & Schoenholz 2019")
def search_recipe(
    model_or_factory: nn.Module | Callable[[], nn.Module],
    data: Any,
    *,
    schemes: Schemes = _SCHEMES,
    score: str | Callable[[nn.Module, Batch], float] = "gradient_quotient",
    trials: int = 100,
    steps: int = 10,
    lr: float = 0.1,
    loss: Callable[..., Tensor] | None = None,
    study: str | PathLike[str] | None = None,
    base: Base = "auto",
    seed: int | None = None,
    layers: Any = None,
    verbose: bool = False,
) -> SearchReport:
    """Search the initializers of the weights, layer by layer, that give the lowest score.

    A trial gives each layer, or each group of layers, one of the initializers in ``schemes``, and
    computes the score. If there are no more ways to choose than trials, all of them are tried;
    otherwise Optuna's tree-structured Parzen estimator proposes them, after what the base gives, if that
    may be chosen. The best of those tried stays in the model. A weight has the same random numbers in all
    trials, and the model draws the same when it runs. Biases and the parameters of norms have what the
    base gives them.

    This needs Optuna: ``pip install "pyinit[search]"``.

    Whatever is raised, ``KeyboardInterrupt`` included, the model is afterwards as it was before. A
    study file then holds the trials that were finished, and the same call goes on from there.

    Args:
        model_or_factory: the model; or a function without arguments that builds one, for the report
            alone: ``replay_`` gives a model what was found
        data: a batch, as ``pyinit.inspect`` takes it
        schemes: a list of initializers, from which each layer has its own choice; or a mapping from
            patterns, in the forms of ``only=`` of ``initialize_`` or as names of modules, to lists of
            initializers: all weights that a pattern matches share a choice, and the first that matches
            counts. An initializer is a value, a name or a dictionary, as in rules; None is what the base
            gives
        score: what is to be low: ``"gradient_quotient"``, how much a step along the gradient changes the
            gradient (of MetaInit); ``"loss"``, the loss after some steps of plain gradient descent on the
            batch; or a function of the model and the batch (its ``args``, ``kwargs`` and ``target``), which
            may train the model: all is put back
        trials: how many trials in all; those that the study file has count
        steps: how many steps to take for ``"loss"``
        lr: their learning rate
        loss: a function of the output, or of output and target if the data has one; by default what
            ``pyinit.inspect`` differentiates
        study: a file that keeps the trials (Optuna's journal, under the name ``pyinit``); None to keep none
        base: the recipe that all parameters begin with
        seed: the seed of the base, of the search, and of what the model draws; by default that of the
            study file, if there is one
        layers: which layers to initialize and to search, as ``only=`` of ``initialize_`` says it; names
            of modules will do, too
        verbose: print a line for each trial, and what Optuna says

    Returns:
        The report, which ``replay_`` takes.

    Raises:
        TypeError, ValueError: for arguments that are none of these, initializers that cannot fill a
            weight, a study file of another search, and if no trial has a finite score.
        RuntimeError: where the model fails, and for an operation that has no second derivatives, by name.
        ImportError: if Optuna is not installed.

    References:
        Akiba et al. 2019, "Optuna: A next-generation hyperparameter optimization framework",
        arXiv:1907.10902. Dauphin & Schoenholz 2019, "MetaInit: Initializing learning by learning to
        initialize", NeurIPS.

    Example:
        >>> import torch, pyinit
        >>> from torch import nn
        >>> model = nn.Sequential(*(p for _ in range(8) for p in (nn.Linear(16, 16), nn.Tanh())))
        >>> x = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
        >>> small, large = ({"name": "normal", "std": std} for std in (0.25, 1.0))
        >>> report = pyinit.search_recipe(model, x, schemes={"*": [small, large]}, seed=0)
        >>> print(report[0].after)
        normal(std=0.25)
    """
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise ValueError(f"trials must be a whole number of at least 1, got {trials!r}")
    check_search(steps, lr=lr)
    if base is None:
        raise ValueError("base must be a recipe, got None: a search draws weights anew")
    scored_by = name_of(score)
    optuna = needed("optuna", "search_recipe", "Optuna", '"pyinit[search]"')
    options = {"score": scored_by, "trials": trials, "steps": steps, "lr": lr}
    states = global_states()
    model = _model(model_or_factory)
    kept = None if study is None else Path(study)
    known = facts_of(optuna, kept)
    try:
        if seed is None:
            seed = known["seed"] if known else int(torch.randint(2**63 - 1, ()))
        with (
            working(
                "search",
                options,
                model,
                data,
                base=base,
                seed=seed,
                layers=layers,
                verbose=verbose,
            ) as work,
            quiet(optuna, verbose),
        ):
            groups = groups_of(work, schemes)
            scorer = Scorer(work, groups, score, steps, lr, loss)
            start = work.report()
            facts = {
                "seed": seed,
                "weights": [
                    f"{each.name} {each.site.shape}" for group in groups for each in group.weights
                ],
                "schemes": {group.name: list(group.choices) for group in groups},
                "score": scored_by,
                "steps": steps,
                "lr": lr,
                "base": [start.recipe, *start.rules],
                "data": _digests(work.batch),
            }
            refuse_other(known, facts, kept)
            of_base = scorer.of_base()
            search = Study(optuna, kept, groups, facts, new=known is None)
            found = search.run(scorer, trials, work.say)
            scorer.apply(found.chosen)
            rows = (
                SearchedWeight(
                    each.name,
                    group.name,
                    scorer.base_of(each),
                    str(work.row_of(each.site).initializer),
                )
                for group in groups
                for each in group.weights
            )
            return SearchReport(
                work.report(),
                tuple(rows),
                tuple(work.left.items()),
                of_base if math.isfinite(of_base) else None,
                found.score,
                found.trials,
                search.space,
            )
    except BaseException:
        set_global_states(states)
        raise


def _model(given: object) -> nn.Module:
    if isinstance(given, nn.Module):
        return given
    if not callable(given):
        raise TypeError(
            "model_or_factory must be a torch.nn.Module or a function that builds one, got "
            f"{type(given).__name__}"
        )
    with global_states_kept():
        model = given()
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model_or_factory must build a torch.nn.Module, got {type(model).__name__}"
        )
    return model


def _digests(batch: Batch | None) -> list[str]:
    return [
        f"{name} {tuple(each.shape)} {digest(each.cpu())}"
        for name, each in named_tensors(tuple(batch or ()))
    ]
