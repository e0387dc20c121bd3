"""The runs of a study: which there are, those whose records are there already, and where the others are made."""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

from pyinit._messages import needed
from pyinit.studies import arms, executors, references
from pyinit.studies.definition import Definition
from pyinit.studies.metrics import cell
from pyinit.studies.perform import (
    DATA,
    arguments_of,
    device_of,
    factory_of,
    failed,
    is_halved,
    loaded,
    perform,
    training_of,
    versions,
)
from pyinit.studies.records import FAILED, Record, RecordFile, Run, read_records

RECORDS = "runs.jsonl"

Watch = Callable[[Record, int], object]


def runs_of(study: Definition) -> list[Run]:
    """All runs of a study: for each seed all combinations of factors, for each of these all arms, for each
    of these all learning rates."""
    fingerprints = Fingerprints(study)
    combinations = [
        dict(zip(study.factors, values, strict=True)) for values in product(*study.factors.values())
    ]
    runs = []
    for seed, factors, arm in product(range(study.seeds), combinations, study.arms):
        for lr in training_of(study, factors).lrs:
            run = Run(arm, seed, factors, lr)
            runs.append(replace(run, fingerprint=fingerprints.of(run)))
    return runs


class Fingerprints:
    """Checksums of all that decides the numbers of runs."""

    def __init__(self, study: Definition) -> None:
        self._study = study
        self._data: dict[Any, str] = {}
        self._arms = {name: arms.described(arm) for name, arm in study.arms.items()}
        self._model = references.fingerprint(factory_of(study))

    def of(self, run: Run) -> str:
        """That of one run."""
        study = self._study
        name = run.factors.get(DATA, "")
        if name not in self._data:
            self._data[name] = " ".join(each.digest for each in loaded(study, run.factors))
        decides = (
            self._model,
            arguments_of(study, run.factors),
            self._data[name],
            self._arms[run.arm],
            run.seed,
            run.lr,
            replace(training_of(study, run.factors), lr=run.lr),
            device_of(study.training).type,
            study.seeds if training_of(study, run.factors).batch_seeds else None,
            (study.steps, study.epochs, study.track, is_halved(study)),
            [*versions().items()],
        )
        return references.digest(references.fingerprint(decides).encode())


@dataclass(frozen=True)
class _Work:
    """Makes runs in another process, to which the study goes pickled by value."""

    payload: bytes

    def __call__(self, runs: Sequence[Run]) -> list[Record]:
        return perform(_unpickled(self.payload), runs)


@lru_cache(maxsize=2)
def _unpickled(payload: bytes) -> Definition:
    found: Definition = _cloudpickle().loads(payload)
    return found


def _cloudpickle() -> Any:
    return needed("cloudpickle", "a study in several processes", "loky", '"pyinit[study]"')


def records_of(
    study: Definition,
    *,
    jobs: int | None = None,
    out: Path | None = None,
    executor: Executor | None = None,
    watch: Watch | None = None,
) -> tuple[Record, ...]:
    """The records of all runs, of which those that ``out`` has are not made again."""
    runs = runs_of(study)
    found = _there(out)
    left = [
        group for group in _groups(study, runs) if any(r.fingerprint not in found for r in group)
    ]
    to_come = sum(map(len, left))
    with ExitStack() as stack:
        file = None
        if out is not None and left:
            file = stack.enter_context(RecordFile(out / RECORDS))
        # Closed whatever is raised here, so that no worker goes on.
        made = stack.enter_context(closing(_made(study, left, jobs, executor)))
        for records in made:
            if file is not None:
                file.append(records)
            for record in records:
                found[record.fingerprint] = record
                to_come -= 1
                if watch is not None:
                    watch(record, to_come)
    return tuple(_renamed(found[run.fingerprint], run) for run in runs)


def count_missing(study: Definition, out: Path | None) -> tuple[int, int]:
    """How many runs are still to be made, and how many there are."""
    runs, found = runs_of(study), _there(out)
    return sum(run.fingerprint not in found for run in runs), len(runs)


def _groups(study: Definition, runs: Sequence[Run]) -> list[tuple[Run, ...]]:
    """Runs that are made together: all seeds, if they are one batched model, or else each alone."""
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        together = training_of(study, run.factors).batch_seeds
        key = (run.arm, cell(run.factors), run.lr, None if together else run.seed)
        groups.setdefault(key, []).append(run)
    return list(map(tuple, groups.values()))


def _there(out: Path | None) -> dict[str, Record]:
    """The records of a folder that need not be made again: a failed run is tried again."""
    records = [] if out is None else read_records(out / RECORDS)
    return {each.fingerprint: each for each in records if each.status != FAILED}


def _renamed(record: Record, run: Run) -> Record:
    """The record under the names that the study has now: the same run may have had others."""
    return replace(record, arm=run.arm, factors=run.factors)


def _made(
    study: Definition,
    groups: Sequence[tuple[Run, ...]],
    jobs: int | None,
    executor: Executor | None,
) -> Generator[list[Record], None, None]:
    processes = min(jobs or executors.cores() // study.training.threads, len(groups))
    if executor is None and processes <= 1:
        for group in groups:
            yield perform(study, group)
        return
    work = _Work(_cloudpickle().dumps(study))
    if executor is None:
        made = executors.in_processes(work, groups, processes)
    else:
        made = executors.by_executor(work, groups, executor)
    for group, records in made:
        if isinstance(records, executors.LostError):
            yield [failed(run, str(records)) for run in group]
        else:
            yield records
