"""The runs of a study: which there are, how one is made, and those that are there already."""

import inspect
import os
import platform
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from pyinit._messages import needed
from pyinit._random.generators import global_states_kept, seed_python
from pyinit.inspection.batches import described
from pyinit.inspection.default_loss import classes_second, default_loss
from pyinit.models import MODELS
from pyinit.nn import convert_
from pyinit.studies import arms, executors, references
from pyinit.studies.data import Split, split_of
from pyinit.studies.definition import TRAINING, Definition, Training
from pyinit.studies.records import (
    DIVERGED,
    FAILED,
    FINISHED,
    Record,
    RecordFile,
    Run,
    read_records,
)
from pyinit.studies.tracking import NoTracker, Tracker
from pyinit.studies.train import per_epoch, seed_of, train

_BATCH = 256  # samples that an arm may look at
_DATA = "data"  # the factor that changes the data set
RECORDS = "runs.jsonl"

Watch = Callable[[Record, int], object]


# ---- which runs there are ------------------------------------------------------------------------


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


def training_of(study: Definition, factors: Mapping[str, Any]) -> Training:
    """The training with the factors that change it."""
    changed = {name: value for name, value in factors.items() if name in TRAINING}
    return replace(study.training, **changed)


def arguments_of(study: Definition, factors: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the model."""
    own = {name: each for name, each in factors.items() if name not in TRAINING and name != _DATA}
    return {**study.arguments, **own}


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
        name = run.factors.get(_DATA, "")
        if name not in self._data:
            self._data[name] = data_of(study, run.factors).digest()
        decides = (
            self._model,
            arguments_of(study, run.factors),
            self._data[name],
            self._arms[run.arm],
            run.seed,
            run.lr,
            replace(training_of(study, run.factors), lr=run.lr),
            device_of(study.training).type,
            (study.steps, study.epochs, study.track, is_halved(study)),
            [*versions().items()],
        )
        return references.digest(references.fingerprint(decides).encode())


def is_halved(study: Definition) -> bool:
    """Whether half of the data is kept for pretraining."""
    return any(map(arms.is_pretrained_here, study.arms.values()))


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """The versions of what computes the numbers."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pyinit": version("pyinit"),
    }


# ---- what a run needs ----------------------------------------------------------------------------


def factory_of(study: Definition) -> Callable[..., nn.Module]:
    """The function that makes the model.

    Raises:
        ValueError: if there is none of that name, or it does not take the arguments.
    """
    name = study.model
    if isinstance(name, str) and name not in MODELS and ":" not in name:
        known = ", ".join(MODELS)
        raise ValueError(f"model: {name!r} is neither module:function nor one of {known}")
    try:
        factory = MODELS[name] if isinstance(name, str) and name in MODELS else None
        return factory or references.resolve(name)
    except ValueError as error:
        raise ValueError(f"model: {error}") from error


@lru_cache(maxsize=4)
def _named_data(name: str) -> Split:
    return split_of(name)


def data_of(study: Definition, factors: Mapping[str, Any]) -> Split:
    """The data of a run."""
    source = factors.get(_DATA, study.data)
    return _named_data(source) if isinstance(source, str) else split_of(source)


def device_of(training: Training) -> torch.device:
    """Where models are trained."""
    chosen = training.device
    return torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if chosen == "auto" else chosen
    )


def steps_of(study: Definition, samples: int, training: Training) -> int:
    """How many steps a run takes."""
    if study.steps is not None:
        return study.steps
    return (study.epochs or 0) * per_epoch(samples, training.batch_size)


def built(study: Definition, factors: Mapping[str, Any], seed: int) -> nn.Module:
    """The model before an arm initializes it: what its constructors draw is the same for every arm.

    Raises:
        TypeError: if the function makes none.
    """
    start = seed_of("model", seed)
    torch.manual_seed(start)
    seed_python(start)
    model = factory_of(study)(**arguments_of(study, factors))
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: the function made {type(model).__name__}, and no torch.nn.Module")
    return model


def check(study: Definition) -> None:
    """Build the model of the first combination, and try it on the data, before anything is trained.

    Raises:
        ValueError: for a model that cannot be made or does not fit the data, and data that cannot be had.
    """
    factors = {name: values[0] for name, values in study.factors.items()}
    factory, arguments = factory_of(study), arguments_of(study, factors)
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        raise ValueError(
            f"model: it does not take {', '.join(arguments) or 'no arguments'}: {error}"
        ) from None
    except ValueError:  # of code that tells nothing about itself
        pass
    data = data_of(study, factors)
    training = training_of(study, factors)
    inputs, target = (each[: training.batch_size] for each in (data.inputs, data.target))
    with global_states_kept(), torch.no_grad():
        try:
            model = built(study, factors, 0)
        except Exception as error:
            raise ValueError(f"model: {_told(error)}") from error
        try:
            output = model(inputs)
        except Exception as error:
            raise ValueError(
                f"the model does not fit the data {data.name}, whose batches are "
                f"{described(inputs)}: {_told(error)}"
            ) from error
        _check_output(output, target, data)


def _check_output(output: Any, target: Tensor, data: Split) -> None:
    if isinstance(output, Tensor) and data.classes is not None and output.dim() > 1:
        given = classes_second(output, target).shape[1]
        if given < data.classes:
            raise ValueError(
                f"the model does not fit the data {data.name}: it gives {described(output)}, "
                f"{given} classes, and the data has {data.classes}"
            )
    try:
        default_loss(output, target)
    except Exception as error:
        raise ValueError(
            f"the model does not fit the data {data.name}: its output is {described(output)} and the "
            f"target {described(target)}: {_told(error)}"
        ) from error


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


# ---- one run -------------------------------------------------------------------------------------


def perform(study: Definition, run: Run) -> Record:
    """Make a run. What raises an error is recorded, and so is what diverges; only an interrupt is not.

    Torch's generators and threads are those of the process; they are put back at the end, and the runs of
    several threads are made one after the other.
    """
    training = training_of(study, run.factors)
    record = Record(
        run.arm,
        run.seed,
        run.factors,
        run.lr,
        FAILED,
        fingerprint=run.fingerprint,
        versions=versions(),
    )
    with global_states_kept(), _threads(training.threads), _deterministic():
        try:
            return _performed(study, run, training, record)
        except Exception as error:
            return replace(record, error=_where(error))


def _performed(study: Definition, run: Run, training: Training, record: Record) -> Record:
    device = device_of(training)
    data = data_of(study, run.factors)
    first, data = data.halves() if is_halved(study) else (data, data)
    data = data.to(device)
    steps = steps_of(study, len(data.inputs), training)
    model = built(study, run.factors, run.seed).to(device)
    start = perf_counter()
    around = arms.Surroundings(
        run.seed,
        _batch(data, run.seed),
        partial(_pretrained, study, run, training, first.to(device), steps),
    )
    torch.manual_seed(seed_of("arm", run.seed))
    seed_python(seed_of("arm", run.seed))
    arms.apply(model, study.arms[run.arm], around)
    if training.kernels == "pyinit":
        convert_(model)
    init_seconds = perf_counter() - start
    tracker = Tracker(model, steps) if study.track else NoTracker()
    start = perf_counter()
    log, is_whole = train(model, data, training, run.lr, steps, run.seed, tracker)
    return replace(
        record,
        status=FINISHED if is_whole else DIVERGED,
        steps=log.steps,
        epochs=log.epochs,
        layers=tracker.rows if isinstance(tracker, Tracker) else [],
        seconds=perf_counter() - start,
        init_seconds=init_seconds,
    )


def _batch(data: Split, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed_of("batch", seed))
    some = torch.randperm(len(data.inputs), generator=generator)[:_BATCH].to(data.inputs.device)
    return data.inputs[some], data.target[some]


def _pretrained(
    study: Definition,
    run: Run,
    training: Training,
    data: Split,
    steps: int,
    arm: Any,
    own_steps: int | None,
) -> dict[str, Tensor]:
    """The state of a model that was trained on the other half of the data."""
    seed = run.seed
    model = built(study, run.factors, seed).to(data.inputs.device)

    def refused(*_: Any) -> dict[str, Tensor]:
        raise ValueError("pretrained weights cannot start from pretrained weights")

    arms.apply(model, arm, arms.Surroundings(seed, _batch(data, seed), refused))
    train(model, data, training, run.lr, own_steps or steps, seed, NoTracker())
    return model.state_dict()


def _where(error: Exception) -> str:
    """An error in words, with the user's line that it comes from."""
    frames = [
        each
        for each in traceback.extract_tb(error.__traceback__)
        if "/pyinit/" not in each.filename
    ]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{_told(error)}{place}"


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _deterministic() -> Iterator[None]:
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        yield


# ---- all runs ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Work:
    """Makes a run in another process, with the study pickled by value once."""

    payload: bytes

    def __call__(self, run: Run) -> Record:
        return perform(_unpickled(self.payload), run)


@lru_cache(maxsize=2)
def _unpickled(payload: bytes) -> Definition:
    found: Definition = needed("cloudpickle", "a study", "loky", '"pyinit[study]"').loads(payload)
    return found


def records_of(
    study: Definition,
    *,
    jobs: int | None = None,
    out: Path | None = None,
    executor: Executor | None = None,
    watch: Watch | None = None,
) -> tuple[Record, ...]:
    """The records of all runs, of which those that ``out`` has are not made again."""
    check(study)
    runs = runs_of(study)
    done = {} if out is None else _there(out)
    found = {run.fingerprint: done[run.fingerprint] for run in runs if run.fingerprint in done}
    left = [run for run in runs if run.fingerprint not in found]
    with ExitStack() as stack:
        file = None
        if out is not None and left:
            file = RecordFile(out / RECORDS)
            stack.callback(file.close)
        for number, record in enumerate(_made(study, left, jobs, executor), 1):
            if file is not None:
                file.append([record])
            found[record.fingerprint] = record
            if watch is not None:
                watch(record, len(left) - number)
    return tuple(_renamed(found[run.fingerprint], run) for run in runs)


def missing(study: Definition, out: Path | None) -> tuple[int, int]:
    """How many runs are still to be made, and how many there are."""
    runs = runs_of(study)
    done = {} if out is None else _there(out)
    return sum(run.fingerprint not in done for run in runs), len(runs)


def _there(out: Path) -> dict[str, Record]:
    """The records of a folder that need not be made again: a failed run is tried again."""
    records = read_records(out / RECORDS)
    return {each.fingerprint: each for each in records if each.status != FAILED}


def _renamed(record: Record, run: Run) -> Record:
    """The record under the names that the study has now: the same run may have had others."""
    return replace(record, arm=run.arm, factors=run.factors)


def _made(
    study: Definition, runs: Sequence[Run], jobs: int | None, executor: Executor | None
) -> Iterator[Record]:
    processes = min(jobs or os.cpu_count() or 1, len(runs))
    made: Iterator[tuple[Run, Record | executors.LostError]]
    if executor is None and processes <= 1:
        made = executors.here(partial(perform, study), runs)
    else:
        cloudpickle = needed("cloudpickle", "a study in processes", "loky", '"pyinit[study]"')
        work = _Work(cloudpickle.dumps(study))
        if executor is None:
            made = executors.in_processes(work, runs, processes)
        else:
            made = executors.by_executor(work, runs, executor)
    for run, record in made:
        yield _lost(run, record) if isinstance(record, executors.LostError) else record


def _lost(run: Run, error: executors.LostError) -> Record:
    return Record(
        run.arm,
        run.seed,
        run.factors,
        run.lr,
        FAILED,
        str(error),
        fingerprint=run.fingerprint,
        versions=versions(),
    )
