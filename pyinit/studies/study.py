"""A study is data: a model, data, the initializations that are compared, and how they are trained."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pyinit._messages import warn
from pyinit.reports.files import replacing
from pyinit.studies.definition import TRAINING, Claim, Definition, Training
from pyinit.studies.kinds import inside, refuse_unknown, whole
from pyinit.studies.perform import check
from pyinit.studies.result import StudyResult
from pyinit.studies.runs import records_of
from pyinit.studies.toml_files import read_study, to_toml

_FILE = "study.toml"
_LOCK = "runs.lock"

__all__ = ["Claim", "Study", "Training"]


@dataclass(frozen=True)
class Study(Definition):
    """A model trained from several initializations: what is compared, on what, and how.

    Args:
        model: a function that makes a model, or its name as ``module:function``, or the name of one of
            pyinit's models; its keyword arguments are ``arguments`` and the factors
        data: the name of a data set, as ``pyinit.datasets.load`` takes it; a ``Dataset``; a pair of
            tensors (inputs and target); or a torch ``Dataset`` of such pairs
        arms: the initializations by the names that they have in the study. Each is a recipe, the path of
            a file of rules, a data-driven method, ``"pretrained"``, a Keras initializer's name, a
            function of a model (and a batch, and a seed), or a table of one of these and its options;
            or a list of these, one after the other
        seeds: how often each arm is trained, with seeds from 0 up
        steps: how many steps each run takes; or
        epochs: how often it goes through the data
        training: how
        factors: what varies beside the arms, with the values that it takes. A field of ``Training``
            changes the training, ``data`` the data set, and any other name is an argument of the model
        arguments: arguments of the model that do not vary
        theory: a factor, and a function of another one (or its name as ``module:function``) that gives the
            factor's value which theory predicts; the report draws it as a line over the heat map of both
        claims: what is expected
        track: whether signals and gradients are recorded layer by layer: at steps 0, 1, 10, 100, ... and
            at the end of each epoch
        data_dir: the folder with the files of torchvision's data sets; ``data`` without one
        question: what the study asks
        name: what it is called
        full: fields that ``full_size`` changes

    Raises:
        ValueError: for a value that a field cannot have, with the field's name, and names that are near
            to an unknown one.

    Example:
        >>> import pyinit, torch
        >>> def build(width=8):
        ...     return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, width), torch.nn.ReLU(),
        ...         torch.nn.Linear(width, 10))
        >>> arms = {"xavier": "xavier", "he": "kaiming"}
        >>> study = pyinit.Study(model=build, data="digits", arms=arms, seeds=2, steps=30)
        >>> result = study.run(jobs=1)
        >>> len(result.records), result.records[0].status
        (4, 'finished')
    """

    def full_size(self) -> "Study":
        """The study with the fields that ``full`` changes; tables are changed key by key.

        Example:
            >>> import pyinit
            >>> study = pyinit.Study("lenet5", "mnist5k", {"he": "kaiming"}, steps=9, full={"steps": 900})
            >>> study.full_size().steps
            900
        """
        changes: dict[str, Any] = {"full": {}}
        if {"steps", "epochs"} & {*self.full}:
            changes |= {"steps": None, "epochs": None}
        for name, value in self.full.items():
            if name == "training":
                with inside("full", "training"):
                    refuse_unknown(value, TRAINING, "field of the training")
                    changes[name] = replace(self.training, **value)
            elif name == "claims":
                changes[name] = [
                    each if isinstance(each, Claim) else Claim(**each) for each in value
                ]
            elif name in ("arms", "factors", "arguments"):
                changes[name] = {**getattr(self, name), **value}
            else:
                changes[name] = value
        with inside("full"):
            return replace(self, **changes)

    def run(
        self,
        *,
        jobs: int | None = None,
        out: str | PathLike[str] | None = None,
        executor: Executor | None = None,
        watch: Callable[..., object] | None = None,
    ) -> StudyResult:
        """Train every arm from every seed, for all values of the factors.

        The numbers are the same for any ``jobs`` and any executor.

        Args:
            jobs: how many processes train at the same time; by default one a processor core
            out: a folder for ``study.toml`` and ``runs.jsonl``, to which each run's record is added when
                it ends. Runs whose records are there are not repeated
            executor: a ``concurrent.futures.Executor`` that makes the runs instead
            watch: a function that is called with each record as it comes, and how many are still to come

        Returns:
            The result.

        Raises:
            ValueError: for a data set, model or device that cannot be had, and a model that does not fit
                the data, before anything is trained.
            RuntimeError: if another study is running in ``out``.
            OSError: if ``out`` cannot be written.
        """
        if jobs is not None:
            whole(1)("jobs", jobs)
        check(self, is_here=executor is None)
        folder = None if out is None else Path(out)
        with nullcontext() if folder is None else _held(self, folder):
            records = records_of(self, jobs=jobs, out=folder, executor=executor, watch=watch)
        return StudyResult(self, records)

    @classmethod
    def load(cls, source: str | PathLike[str]) -> "Study":
        """A study from the path of a TOML file, or one of pyinit's own by its name.

        Raises:
            ValueError: for a file that holds none, with the key and its line, and for an unknown name.
            OSError: if the file cannot be read.
        """
        return cls(**read_study(source))

    def to_toml(self) -> str:
        """The study as TOML, from which ``load`` makes it again.

        Raises:
            ValueError: for what a file cannot name: data in memory, a function that no module has.
        """
        return to_toml(self)


@contextmanager
def _held(study: Study, folder: Path) -> Iterator[None]:
    """A folder that is the study's alone meanwhile, with the study as TOML, if a file can name all of it."""
    folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder):
        try:
            text = study.to_toml()
        except ValueError as error:
            warn(f"no {_FILE} is written: {error}", UserWarning)
        else:
            with replacing(folder / _FILE) as partial:
                partial.write_text(text, encoding="utf-8")
        yield


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which the system gives back if the process dies.

    Raises:
        RuntimeError: if another one holds it.
    """
    lock = FileLock(folder / _LOCK)
    try:
        with suppress(NotImplementedError):  # of a file system that has no locks
            lock.acquire(blocking=False)
    except Timeout:
        raise RuntimeError(
            f"another study is running in {folder}: wait for its end, or choose another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()
