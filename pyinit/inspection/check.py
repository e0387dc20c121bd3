"""Whether a model is initialized at all, with sane values, and the same everywhere: without any data."""

import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from torch import nn

from pyinit._torch.eager import eager
from pyinit._torch.fork_safe_lock import fork_safe_lock
from pyinit.inspection.findings import KINDS, Findings
from pyinit.inspection.findings.collection import check_ignore
from pyinit.inspection.initialization import (
    Init,
    Initialization,
    Kept,
    Watch,
    refuse_unkept,
    seeded,
    unmark,
)
from pyinit.inspection.poison import (
    Outcome,
    PoisonedAllocation,
    poison_,
    untouched,
    written,
)
from pyinit.inspection.progress import Progress, progress
from pyinit.inspection.reproducible import compared, differences, digests
from pyinit.inspection.subject import Difference, Subject
from pyinit.inspection.tensors import examinable, held_by
from pyinit.pretrained.checkpoint import open_source

Checked = nn.Module | Callable[[], nn.Module] | str | os.PathLike[str] | Mapping[str, Any]


@eager
def check(
    model: Checked,
    init: Init | None = None,
    *,
    reproducible: bool = False,
    ignore: Mapping[str, str] | None = None,
) -> Findings:
    """Check whether every parameter and buffer is written, once, and with sane values.

    With ``init``, or with a factory, it looks at what is written: memory is filled with a byte that
    nobody writes, and what still holds it after the initialization was never written. With anything, it
    looks at the values: constants, zeros, means, standard deviations, copies, norms. No data is needed.

    Args:
        model: a module; a factory, which makes one without arguments; or a checkpoint: a path
            to a file or folder of safetensors or torch files, or a state dict
        init: what initializes the model: the name of a method of it; ``"reset_parameters"``, that of
            every module; or a callable that takes the model. None: a factory is taken to
            initialize the model that it makes, and a module is never written to
        reproducible: check, too, that it comes out the same in a second run with the same seed, by way of
            the meta device (with ``init`` and a factory), and in another process (with a factory)
        ignore: what not to report: codes of findings, or patterns of parameters' names
            (``"head.*"``), and for each the reason

    Returns:
        The findings, in the order of their codes. None of them is a failure in a model that is
        initialized as it should be; some are for information.
        A module, with its values, mode, hooks and gradients, and all generators are as they were before.

    Raises:
        TypeError: for arguments of another type, or a factory that makes no module.
        ValueError: for a parameter without a shape, an ``init`` that the model lacks, an empty reason, or,
            with ``init``, a module whose values could not be put back: sharded, sparse, quantized.
        RuntimeError: if ``init`` raises anything; the module is as before.

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> def init(model):
        ...     nn.init.kaiming_normal_(model.weight)
        >>> findings = pyinit.check(nn.Linear(8, 4), init)
        >>> print(findings[0].code, findings[0].parameter, findings[0].found)
        PI001 bias none of 4 elements is ever written
    """
    ignored = check_ignore(ignore)
    initialization = None if init is None else Initialization(init)
    with _lock, progress() as bar, ExitStack() as after:
        if isinstance(model, (str, os.PathLike, Mapping)):
            if init is not None or reproducible:
                raise TypeError("a checkpoint has no init, and is not made again: give a model")
            subject = _of_checkpoint(model, after)
        elif isinstance(model, nn.Module):
            subject = _of_instance(model, initialization, reproducible, bar, after)
        elif callable(model):
            subject = _of_factory(_Factory(model), initialization, reproducible, bar, after)
        else:
            raise TypeError(
                "model must be a torch.nn.Module, a factory, a path or a state dict, "
                f"got {type(model).__name__}"
            )
        bar.step("looking at the values")
        found = [finding for kind in KINDS.values() for finding in kind(subject)]
        return Findings.of(found, ignored, len(subject.items), _name_of(model), subject.order)


@eager
def assert_initialized(
    model: Checked,
    init: Init | None = None,
    *,
    reproducible: bool = False,
    ignore: Mapping[str, str] | None = None,
) -> None:
    """``check`` for a test suite: pass if nothing is found that is more than information.

    Args:
        model: as ``check`` takes it, like the others
        init: what initializes the model
        reproducible: whether it has to come out the same everywhere
        ignore: what not to report, and why

    Raises:
        AssertionError: with the findings in words.
        TypeError, ValueError, RuntimeError: as ``check`` does.

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> pyinit.assert_initialized(lambda: nn.Linear(8, 4))
    """
    __tracebackhide__ = True
    findings = check(model, init, reproducible=reproducible, ignore=ignore)
    if findings.failures:
        raise AssertionError("\n".join((findings.summary, *map(str, findings.failures))))


# Generators are seeded, and functions of torch watched, for the whole process.
_lock = fork_safe_lock()
_OURS = 2  # references to a model that nobody else has


# ---- What is checked -----------------------------------------------------------------------------


class _Factory:
    """A factory that makes modules, and nothing else."""

    def __init__(self, factory: Callable[[], Any]) -> None:
        self._factory = factory

    def __call__(self) -> nn.Module:
        """
        Raises:
            TypeError: if it makes something else.
        """
        model = self._factory()
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"the factory must return a torch.nn.Module, got {type(model).__name__}"
            )
        return model


def _of_factory(
    factory: _Factory,
    init: Initialization | None,
    reproducible: bool,
    bar: Progress,
    after: ExitStack,
) -> Subject:
    found = list(differences(factory, init, bar.step)) if reproducible else []
    watch = Watch()

    def build(run: int) -> nn.Module:
        poisoned = PoisonedAllocation(run, only_sample=init is not None)
        with watch.watching(), seeded(), poisoned:
            return factory()

    bar.step("building it")
    if init is None:
        outcome = written(build, bar.step)
        by_constructor = dict.fromkeys(outcome.writings, False)
    else:
        model = build(0)
        init.check(model)
        if sys.getrefcount(model) > _OURS:  # somebody else has it: the factory did not make it
            refuse_unkept(model)
            after.callback(Kept(model, with_values=True).put_back)
        left = untouched(model)
        outcome = _written_by_init(model, init, watch, bar)
        by_constructor = {name: name not in left for name in outcome.writings}
    writings = {
        name: writing._replace(by_constructor=by_constructor[name], is_kept=name in watch.kept)
        for name, writing in outcome.writings.items()
    }
    return _subject(outcome._replace(writings=writings), watch, found)


def _of_instance(
    model: nn.Module,
    init: Initialization | None,
    reproducible: bool,
    bar: Progress,
    after: ExitStack,
) -> Subject:
    if init is None:
        if reproducible:
            raise ValueError("reproducible needs init, or a factory: a module is not made again")
        return Subject.of_model(model)
    init.check(model)
    refuse_unkept(model)
    kept, watch = Kept(model, with_values=True), Watch()
    after.callback(kept.put_back)
    found = list(_two_runs(model, init, kept)) if reproducible else []
    return _subject(_written_by_init(model, init, watch, bar), watch, found)


def _two_runs(model: nn.Module, init: Initialization, kept: Kept) -> Iterator[Difference]:
    init.run(model)
    first = digests(model)
    kept.put_back()
    init.run(model)
    yield from compared("runs", first, digests(model))
    kept.put_back()


def _written_by_init(
    model: nn.Module, init: Initialization, watch: Watch, bar: Progress
) -> Outcome:
    structure = Kept(model, with_values=False)

    def attempt(run: int) -> nn.Module:
        before = _poisoned(model, structure, run)
        with watch.watching():
            watch.read(init.run(model))
        if not before.issuperset(held.tensor.data_ptr() for held in examinable(model)):
            # It has asked for memory of its own: that has to be poisoned, too.
            _poisoned(model, structure, run)
            with watch.watching(), PoisonedAllocation(run):
                watch.read(init.run(model))
        return model

    return written(attempt, bar.step)


def _poisoned(model: nn.Module, structure: Kept, run: int) -> set[int]:
    """The model as it was made, with poison in its memory: the addresses."""
    structure.put_back()
    tensors = [held.tensor for held in examinable(model)]
    poison_(tensors, run)
    unmark(model)
    return {tensor.data_ptr() for tensor in tensors}


def _subject(outcome: Outcome, watch: Watch, found: Sequence[Difference]) -> Subject:
    all_held = held_by(outcome.model)
    return Subject.of_model(
        outcome.model,
        writings=outcome.writings,
        statistics=outcome.statistics,
        writers=watch.writers(all_held),
        truncations=watch.truncations(all_held),
        differences=found,
    )


def _of_checkpoint(source: str | os.PathLike[str] | Mapping[str, Any], after: ExitStack) -> Subject:
    checkpoint = after.enter_context(open_source(source))
    return Subject.of_tensors({name: checkpoint.tensor(name) for name in checkpoint.keys()})  # noqa: SIM118


def _name_of(model: Checked) -> str:
    """In a summary."""
    if isinstance(model, nn.Module):
        return type(model).__name__
    if isinstance(model, (str, os.PathLike)):
        return os.fspath(model)
    if isinstance(model, Mapping):
        return "state dict"
    while isinstance(model, functools.partial):
        model = model.func
    return str(getattr(model, "__qualname__", type(model).__name__))
