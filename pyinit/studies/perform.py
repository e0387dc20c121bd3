"""One run: the model is built, initialized and trained."""

import inspect
import platform
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from pyinit._random.generators import global_states_kept, seed_python
from pyinit._torch.settings import settings_kept
from pyinit.inspection.batches import described
from pyinit.inspection.default_loss import classes_second, default_loss
from pyinit.models import MODELS
from pyinit.nn import convert_
from pyinit.studies import arms, references
from pyinit.studies.batched import train_together
from pyinit.studies.data import Data, data_of
from pyinit.studies.definition import TRAINING, Definition, Training
from pyinit.studies.records import DIVERGED, FAILED, FINISHED, Record, Run
from pyinit.studies.tracking import NoTracker, Tracker
from pyinit.studies.train import Plan, per_epoch, seed_of, train

_BATCH = 256  # samples that an arm may look at
DATA = "data"  # the factor that changes the data set


def training_of(study: Definition, factors: Mapping[str, Any]) -> Training:
    """The training with the factors that change it."""
    changed = {name: value for name, value in factors.items() if name in TRAINING}
    return replace(study.training, **changed)


def arguments_of(study: Definition, factors: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the model."""
    own = {name: each for name, each in factors.items() if name not in TRAINING and name != DATA}
    return {**study.arguments, **own}


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


def loaded(study: Definition, factors: Mapping[str, Any]) -> Data:
    """The data of a run."""
    try:
        return data_of(factors.get(DATA, study.data), study.data_dir)
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:  # a user's data set ends the program, say
        raise ValueError(f"data: {_told(error)}") from error


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


def check(study: Definition, *, is_here: bool = True) -> None:
    """Build the model of the first combination, and try it on the data, before anything is trained.

    Raises:
        ValueError: for a model that cannot be made or does not fit the data, data that cannot be had, and,
            if runs are made on this machine, a device that it does not have.
    """
    if is_here:
        _check_devices(study)
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
    data = loaded(study, factors)
    training = training_of(study, factors)
    inputs = data.training.inputs[: training.batch_size].clone()  # a model may write to its input
    target = data.training.target[: training.batch_size]
    with global_states_kept(), settings_kept(), torch.no_grad():
        with _told_as("model"):
            model, other = built(study, factors, 0), built(study, factors, 0)
        if not [*model.parameters()]:
            raise ValueError("model: it has no parameters, so there is nothing to train")
        if {*map(id, model.parameters())} & {*map(id, other.parameters())}:
            raise ValueError("model: the function must make a new model each time it is called")
        batches = f"whose batches are {described(inputs)}"
        with _told_as(f"the model does not fit the data {data.training.name}, {batches}"):
            output = model(inputs)
        _check_output(output, target, data)


def _check_devices(study: Definition) -> None:
    for name in study.factors.get("device", (study.training.device,)):
        device = device_of(replace(study.training, device=name))
        with _told_as(f"device: {name!r} cannot be used"):
            torch.zeros(1, device=device).item()


def _unused_classes(data: Data) -> str:
    """The hint that labels count from 1, if no sample has the first class."""
    if bool((data.training.target == 0).any()) or bool((data.test.target == 0).any()):
        return ""
    return ": no sample is of class 0, so count classes from 0"


def _check_output(output: Any, target: Tensor, data: Data) -> None:
    if isinstance(output, Tensor) and data.classes is not None and output.dim() > 1:
        given = classes_second(output, target).shape[1]
        if given < data.classes:
            raise ValueError(
                f"the model does not fit the data {data.training.name}: it gives {described(output)}, "
                f"{given} classes, and the data has {data.classes}{_unused_classes(data)}"
            )
    try:
        default_loss(output, target)
    except Exception as error:
        raise ValueError(
            f"the model does not fit the data {data.training.name}: its output is {described(output)} and the "
            f"target {described(target)}: {_told(error)}"
        ) from error


@contextmanager
def _told_as(what: str) -> Iterator[None]:
    """Tell whatever a user's code raises as what is wrong with a study."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ValueError(f"{what}: {_told(error)}") from error


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


# ---- one run -------------------------------------------------------------------------------------


def perform(study: Definition, runs: Sequence[Run]) -> list[Record]:
    """Make a run, or several of other seeds alone together. What raises an error is recorded, and so is
    what diverges; only an interrupt is not.

    Torch's generators and settings are those of the process; they are put back at the end, and the runs of
    several threads are made one after the other.
    """
    training = replace(training_of(study, runs[0].factors), lr=runs[0].lr)
    _warm_up()
    with global_states_kept(), _settings(training.threads):
        try:
            return _performed(study, runs, training)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  whatever a user's code raises
            return [failed(run, _where(error)) for run in runs]


@lru_cache(maxsize=1)
def _warm_up() -> None:
    """Have torch import now what it imports with the first optimizer, which takes seconds."""
    torch.optim.SGD([torch.zeros(1)], lr=1.0)


def failed(run: Run, error: str) -> Record:
    """The record of a run that came to nothing."""
    return replace(_record(run), error=error)


def _record(run: Run) -> Record:
    how = {"fingerprint": run.fingerprint, "versions": versions()}
    return Record(run.arm, run.seed, run.factors, run.lr, FAILED, **how)  # type: ignore[arg-type]


def _performed(study: Definition, runs: Sequence[Run], training: Training) -> list[Record]:
    data = loaded(study, runs[0].factors)
    first, data = data.halves() if is_halved(study) else (data, data)
    first, data = (each.to(device_of(training)) for each in (first, data))
    plan = Plan(training, steps_of(study, len(data.training.inputs), training))
    models, init_seconds = [], []
    for run in runs:
        start = perf_counter()
        models.append(_initialized(study, run, data, first, plan))
        init_seconds.append(perf_counter() - start)
    start = perf_counter()
    trackers: list[Tracker | NoTracker] = [
        Tracker(model, plan.steps) if study.track else NoTracker() for model in models
    ]
    if training.batch_seeds:
        logs = train_together(models, data, plan, [run.seed for run in runs])
    else:
        logs = [train(models[0], data, plan, runs[0].seed, trackers[0])]
    return [
        replace(
            _record(run),
            status=FINISHED if is_whole else DIVERGED,
            steps=log.steps,
            epochs=log.epochs,
            layers=list(tracker.rows),
            seconds=(perf_counter() - start) / len(runs),
            init_seconds=seconds,
        )
        for run, (log, is_whole), tracker, seconds in zip(
            runs, logs, trackers, init_seconds, strict=True
        )
    ]


def _initialized(study: Definition, run: Run, data: Data, first: Data, plan: Plan) -> nn.Module:
    """The model of a run before training; ``first`` is what weights may be trained on before."""
    model = built(study, run.factors, run.seed).to(data.training.inputs.device)

    def pretrain(arm: Any, steps: int | None) -> dict[str, Tensor]:
        # From another seed: a new head drawn as the pretrained one was would fit the features that grew on it.
        seed = seed_of("pretraining", run.seed)
        other = built(study, run.factors, seed).to(data.training.inputs.device)
        _apply(other, arm, first, seed, _refuse)
        own = replace(plan, steps=steps or plan.steps)
        train(other, first, own, seed, NoTracker())
        return other.state_dict()

    _apply(model, study.arms[run.arm], data, run.seed, pretrain)
    return convert_(model) if plan.training.kernels == "pyinit" else model


def _apply(model: nn.Module, arm: Any, data: Data, seed: int, pretrain: arms.Pretrain) -> None:
    some = data.training.batch(_BATCH, seed_of("batch", seed))
    torch.manual_seed(seed_of("arm", seed))
    seed_python(seed_of("arm", seed))
    arms.apply(model, arm, arms.Surroundings(seed, (some.inputs, some.target), pretrain))


def _refuse(*_: Any) -> dict[str, Tensor]:
    raise ValueError("pretrained weights cannot begin with pretrained weights")


def _where(error: BaseException) -> str:
    """An error in words, with the user's line that it comes from."""
    frames = [
        each
        for each in traceback.extract_tb(error.__traceback__)
        if "/pyinit/" not in each.filename
    ]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{_told(error)}{place}"


@contextmanager
def _settings(threads: int) -> Iterator[None]:
    """So many threads, and deterministic convolutions; what a run sets in torch is put back at the end."""
    with settings_kept():
        torch.set_num_threads(threads)
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            yield
