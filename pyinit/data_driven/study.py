"""For ``search.py``: a study of Optuna's, which proposes choices and keeps their scores in a file."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from pyinit.data_driven.schemes import BASE, Chosen, Group
from pyinit.data_driven.scores import Scorer
from pyinit.inspection.progress import progress

_STUDY = "pyinit"  # the name of the study in its file, and of what it holds of the search


class Found(NamedTuple):
    """The best choice of a search, its score, and how many trials there were."""

    chosen: Chosen
    score: float
    trials: int


class Study:
    """Trials in a study of Optuna's."""

    def __init__(
        self,
        optuna: Any,
        path: Path | None,
        groups: Sequence[Group],
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

    def run(self, scorer: Scorer, trials: int, say: Callable[[str], None]) -> Found:
        """Try choices, until there have been enough. The best one.

        Raises:
            ValueError: if no trial has a finite score.
        """
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
                say(f"trial {trial.number}: score {value:.4g}: {_told(chosen)}")
        done = len(self._finished())
        best, after = min(self._finished(), key=lambda pair: pair[1])
        if after == math.inf:
            raise ValueError(f"no score is finite, of {done} trials")
        return Found(best, after, done)

    def _finished(self) -> list[tuple[Chosen, float]]:
        states = (self._optuna.trial.TrialState.COMPLETE,)
        return [(t.params, t.value) for t in self._study.get_trials(deepcopy=False, states=states)]

    def _next(self, trials: int) -> Any:
        """The next trial; None if there have been enough."""
        optuna, study, finished = self._optuna, self._study, self._finished()
        if len(finished) >= trials:
            return None
        if not finished and all(BASE in group.choices for group in self._groups):
            study.enqueue_trial({group.name: BASE for group in self._groups})
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

    def _all(self) -> Iterator[Chosen]:
        names = [group.name for group in self._groups]
        for several in product(*(group.choices for group in self._groups)):
            yield dict(zip(names, several, strict=True))


def _key(chosen: Chosen) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(chosen.items()))


def _told(chosen: Chosen) -> str:
    return ", ".join(f"{name} {initializer}" for name, initializer in chosen.items())


def _storage(optuna: Any, path: Path) -> Any:
    journal = optuna.storages.journal.JournalFileBackend(str(path))
    return optuna.storages.JournalStorage(journal)


def facts_of(optuna: Any, path: Path | None) -> dict[str, Any] | None:
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
        with quiet(optuna, False):
            study = optuna.load_study(study_name=_STUDY, storage=_storage(optuna, path))
            facts: dict[str, Any] = study.user_attrs[_STUDY]
    except Exception as error:
        raise ValueError(f"study: {path} is no study of search_recipe: {error!r}") from error
    return facts


def refuse_other(
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


@contextmanager
def quiet(optuna: Any, verbose: bool) -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO if verbose else optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
