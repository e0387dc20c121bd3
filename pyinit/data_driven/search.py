"""A search for the initializers of a model's layers, by a score that is cheap to compute."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pyinit._messages import near, needed
from pyinit._random.generators import global_states, global_states_kept, set_global_states
from pyinit._torch.digests import digest
from pyinit._torch.eager import eager
from pyinit.data_driven.adjustable import Adjustable
from pyinit.data_driven.differentiated import check_search, differentiated
from pyinit.data_driven.engine import Base, Work, as_layer, working
from pyinit.data_driven.quotient import gradient_quotient
from pyinit.data_driven.results import Measured, MethodReport
from pyinit.initializers import Initializer
from pyinit.inspection.batches import Batch, named_tensors
from pyinit.inspection.default_loss import default_loss
from pyinit.inspection.progress import progress
from pyinit.inspection.put_back import put_back
from pyinit.whole_model.methods import register_method
from pyinit.whole_model.recipes.registry import Choice
from pyinit.whole_model.rules import matcher
from pyinit.whole_model.rules.rule import as_initializer

Scheme = Initializer | str | Mapping[str, Any] | None
"""An initializer, its name or its dictionary; None for what the base gives."""

Schemes = Sequence[Scheme] | Mapping[Any, Sequence[Scheme]]

_SCHEMES = (None, "xavier_normal", "kaiming_normal", "orthogonal")
_BASE = "base"  # how None is called
_WHY = "search"
_STUDY = "pyinit"  # the name of the study in its file, and of what it holds of the search


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
    may be chosen. The best of those tried stays in the model. A weight has the same random numbers in all trials, and the model draws the same when it
    runs. Biases and the parameters of norms have what the base gives them.

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
    scored_by = _name_of(score)
    optuna = needed("optuna", "search_recipe", "Optuna", '"pyinit[search]"')
    options = {"score": scored_by, "trials": trials, "steps": steps, "lr": lr}
    states = global_states()
    model = _model(model_or_factory)
    kept = None if study is None else Path(study)
    known = _facts(optuna, kept)
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
            _quiet(optuna, verbose),
        ):
            groups = _groups(work, schemes)
            scorer = _Scorer(work, groups, score, steps, lr, loss)
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
            _refuse_other(known, facts, kept)
            of_base = scorer.of_base()
            search = _Search(optuna, kept, groups, facts, new=known is None)
            return search.run(work, scorer, of_base, trials)
    except BaseException:
        set_global_states(states)
        raise


# ---- what there is to choose ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Group:
    """Weights that share a choice.

    choices: for each initializer by its name, what each of the weights gets
    """

    name: str
    weights: tuple[Adjustable, ...]
    choices: Mapping[str, tuple[Choice, ...]]


_Chosen = Mapping[str, str]
"""The name of an initializer for each group."""


def _groups(work: Work, schemes: Schemes) -> list[_Group]:
    weights = _weights(work)
    if not isinstance(schemes, Mapping):
        initializers = _initializers("schemes", schemes)
        return [_group(work, each.name, [each], initializers) for each in weights]
    if not schemes:
        raise ValueError("schemes must name weights and their initializers, got an empty mapping")
    groups = []
    for pattern, several in schemes.items():
        matches = matcher(pattern)
        name = str(matches)
        initializers = _initializers(f"schemes[{name!r}]", several)
        found = [each for each in weights if matches(each.site) or matches(as_layer(each.site))]
        if not found:
            names = [each.name for each in weights]
            raise ValueError(
                f"schemes[{name!r}] matches no weight that an earlier pattern leaves; "
                f"{near(name, names)}"
            )
        weights = [each for each in weights if each not in found]
        groups.append(_group(work, name, found, initializers))
    for each in weights:
        work.leave(each.name, "no pattern of schemes matches it")
    return groups


def _weights(work: Work) -> list[Adjustable]:
    """Those that can be drawn anew."""
    found = []
    for each in work.parameters():
        row = work.row_of(each.site)
        if len(each.site.shape) < 2:
            continue
        if row.is_kept:
            work.leave(each.name, row.why)
        elif row.key is None or not row.initializer.resolve(row.weight):
            work.leave(each.name, f"{row.initializer} does not draw it from a key")
        else:
            found.append(each)
    if not found:
        raise ValueError("search found no weight that the base recipe draws from a key")
    return found


def _initializers(where: str, schemes: object) -> dict[str, Initializer | None]:
    """By the names that reports have."""
    if isinstance(schemes, (str, Mapping, Initializer)) or not isinstance(schemes, Sequence):
        raise TypeError(f"{where} must be a list of initializers, got {schemes!r}")
    found: dict[str, Initializer | None] = {}
    for scheme in schemes:
        try:
            initializer = None if scheme is None else as_initializer(scheme)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{where}: {error}") from None
        name = _BASE if initializer is None else str(initializer)
        if name in found:
            raise ValueError(f"{where} has {name} twice")
        found[name] = initializer
    if not found:
        raise ValueError(f"{where} must have at least one initializer, got none")
    return found


def _group(
    work: Work, name: str, weights: list[Adjustable], initializers: Mapping[str, Initializer | None]
) -> _Group:
    choices = {
        called: tuple(_choice(work, each, initializer) for each in weights)
        for called, initializer in initializers.items()
    }
    return _Group(name, tuple(weights), choices)


def _choice(work: Work, weight: Adjustable, initializer: Initializer | None) -> Choice:
    row = work.row_of(weight.site)
    if initializer is None:
        return Choice(row.initializer, row.why)
    choice = work.chosen(weight, initializer, _WHY)
    if not choice.initializer.resolve(row.weight):
        raise ValueError(
            f"{initializer} draws nothing for {weight.name}: None stands for what the base gives"
        )
    return choice


# ---- scores --------------------------------------------------------------------------------------


def _name_of(score: object) -> str:
    if isinstance(score, str):
        if score not in _SCORES:
            raise ValueError(f"unknown score {score!r}; {near(score, _SCORES)}")
        return score
    if not callable(score):
        names = " or ".join(map(repr, _SCORES))
        raise TypeError(f"score must be {names}, or a function of model and batch, got {score!r}")
    return str(getattr(score, "__qualname__", type(score).__qualname__))


class _Scorer:
    """Gives the model a choice, and computes its score."""

    def __init__(  # noqa: PLR0917
        self,
        work: Work,
        groups: Sequence[_Group],
        score: str | Callable[[nn.Module, Batch], float],
        steps: int,
        lr: float,
        loss: Callable[..., Tensor] | None,
    ) -> None:
        self._work, self._groups, self._score = work, groups, score
        self._loss, self.steps, self.lr = loss or default_loss, steps, lr
        self._base = {
            each.name: _choice(work, each, None) for group in groups for each in group.weights
        }

    def of_base(self) -> float:
        """The score with what the base gives."""
        return self._scored()

    def base_of(self, weight: Adjustable) -> str:
        return str(self._base[weight.name].initializer)

    def __call__(self, chosen: _Chosen) -> float:
        """The score of a choice; infinite if it is not finite."""
        self.apply(chosen)
        return self._scored()

    def apply(self, chosen: _Chosen) -> None:
        """Give the weights their initializers."""
        for group in self._groups:
            several = group.choices[chosen[group.name]]
            for weight, choice in zip(group.weights, several, strict=True):
                self._work.initialize_(weight, choice)

    def _scored(self) -> float:
        batch = self._work.batch
        assert batch is not None
        if isinstance(self._score, str):
            value = _SCORES[self._score](self, batch)
        else:
            with self._work.passes(), put_back(self._work.model):
                value = _number(self._score(self._work.model, batch))
        return value if math.isfinite(value) else math.inf

    def quotient(self, batch: Batch) -> float:
        with differentiated("search", self._work, self._loss, None) as network:
            return float(gradient_quotient(network, network.values(), batch).detach())

    def trained_loss(self, batch: Batch) -> float:
        with differentiated("search", self._work, self._loss, None) as network:
            values = network.values()
            for _ in range(self.steps):
                trained = {name: each for name, each in values.items() if each.requires_grad}
                gradients = network.by(
                    network.loss(values, batch), list(trained.values()), last=True
                )
                values |= {
                    name: (each - self.lr * gradient).detach().requires_grad_()
                    for (name, each), gradient in zip(trained.items(), gradients, strict=True)
                }
            return float(network.loss(values, batch).detach())


_SCORES: Mapping[str, Callable[[_Scorer, Batch], float]] = {
    "gradient_quotient": _Scorer.quotient,
    "loss": _Scorer.trained_loss,
}


def _number(value: object) -> float:
    try:
        return float(value.detach() if isinstance(value, Tensor) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"score must return a number, got {value!r}") from None


# ---- the search ----------------------------------------------------------------------------------


class _Search:
    """Trials in a study of Optuna's."""

    def __init__(
        self,
        optuna: Any,
        path: Path | None,
        groups: Sequence[_Group],
        facts: Mapping[str, Any],
        new: bool,
    ) -> None:
        self._optuna, self._groups, self._seed = optuna, groups, facts["seed"]
        self._study = optuna.create_study(
            study_name=_STUDY,
            storage=None if path is None else _storage(optuna, path),
            load_if_exists=True,
        )
        if new:
            self._study.set_user_attr(_STUDY, facts)
        self.space = math.prod(len(group.choices) for group in groups)

    def run(self, work: Work, scorer: _Scorer, of_base: float, trials: int) -> SearchReport:
        known = {_key(chosen): value for chosen, value in self._finished()}
        with progress() as bar:
            while (trial := self._next(trials)) is not None:
                bar.step(f"search: trial {len(self._finished()) + 1} of {min(trials, self.space)}")
                chosen = trial.params
                try:
                    if _key(chosen) not in known:
                        known[_key(chosen)] = scorer(chosen)
                except BaseException:
                    self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
                    raise
                value = known[_key(chosen)]
                self._study.tell(trial, value)
                work.say(f"trial {trial.number}: score {value:.4g}: {_told(chosen)}")
        done = len(self._finished())
        best, after = min(self._finished(), key=lambda pair: pair[1])
        if after == math.inf:
            raise ValueError(f"no score is finite, of {done} trials")
        scorer.apply(best)
        rows = (
            SearchedWeight(
                each.name,
                group.name,
                scorer.base_of(each),
                str(work.row_of(each.site).initializer),
            )
            for group in self._groups
            for each in group.weights
        )
        return SearchReport(
            work.report(),
            tuple(rows),
            tuple(work.left.items()),
            of_base if math.isfinite(of_base) else None,
            after,
            done,
            self.space,
        )

    def _finished(self) -> list[tuple[_Chosen, float]]:
        states = (self._optuna.trial.TrialState.COMPLETE,)
        return [(t.params, t.value) for t in self._study.get_trials(deepcopy=False, states=states)]

    def _next(self, trials: int) -> Any:
        """The next trial; None if there have been enough."""
        optuna, study, finished = self._optuna, self._study, self._finished()
        if len(finished) >= trials:
            return None
        if not finished and all(_BASE in group.choices for group in self._groups):
            study.enqueue_trial({group.name: _BASE for group in self._groups})
        elif self.space <= trials:
            seen = {_key(chosen) for chosen, _ in finished}
            chosen = next((each for each in self._all() if _key(each) not in seen), None)
            if chosen is None:
                return None
            study.enqueue_trial(chosen)
        # Each proposal has numbers of its own: a search that was interrupted goes on as if it were not.
        study.sampler = optuna.samplers.TPESampler(seed=(self._seed + len(finished)) % 2**32)
        return study.ask(
            {
                group.name: optuna.distributions.CategoricalDistribution(list(group.choices))
                for group in self._groups
            }
        )

    def _all(self) -> Iterator[_Chosen]:
        names = [group.name for group in self._groups]
        for several in product(*(group.choices for group in self._groups)):
            yield dict(zip(names, several, strict=True))


def _key(chosen: _Chosen) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(chosen.items()))


def _told(chosen: _Chosen) -> str:
    return ", ".join(f"{name} {initializer}" for name, initializer in chosen.items())


# ---- the study's file, and the rest --------------------------------------------------------------


def _storage(optuna: Any, path: Path) -> Any:
    journal = optuna.storages.journal.JournalFileBackend(str(path))
    return optuna.storages.JournalStorage(journal)


def _facts(optuna: Any, path: Path | None) -> dict[str, Any] | None:
    """What a study's file says of its search; None if there is none yet.

    Raises:
        ValueError: if it is no such file.
        OSError: if it cannot be read or written.
    """
    if path is None:
        return None
    if not path.exists() or not path.stat().st_size:
        if not path.parent.is_dir():
            raise FileNotFoundError(f"study: there is no folder {path.parent}")
        return None
    with path.open("ab"):
        pass
    try:
        with _quiet(optuna, False):
            study = optuna.load_study(study_name=_STUDY, storage=_storage(optuna, path))
            facts: dict[str, Any] = study.user_attrs[_STUDY]
    except Exception as error:
        raise ValueError(f"study: {path} is no study of search_recipe: {error!r}") from error
    return facts


def _refuse_other(
    known: Mapping[str, Any] | None, now: Mapping[str, Any], path: Path | None
) -> None:
    if known is None:
        return
    for name, value in now.items():
        found = known.get(name)
        if found != value:
            what = f"{name} is {found!r}, got {value!r}"
            if name in ("data", "schemes", "weights"):
                what = f"it has other {name}"
            raise ValueError(f"study: {path} is of another search: {what}")


def _digests(batch: Batch | None) -> list[str]:
    return [
        f"{name} {tuple(each.shape)} {digest(each.cpu())}"
        for name, each in named_tensors(tuple(batch or ()))
    ]


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


@contextmanager
def _quiet(optuna: Any, verbose: bool) -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO if verbose else optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
