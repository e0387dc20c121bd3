"""Judging a case: it runs in this process, and what is wrong with it is told."""

import contextlib
import hashlib
import re
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import pyinit
from fuzzing import memory
from fuzzing.case import Case, Expected, Names, evaluate, listed
from pyinit import _core, fill, functional, init
from pyinit.nn import grad

SLOWER, SECONDS, BYTES = 50, 0.05, 64 << 20
"""A case is too slow above both limits of time, and takes too much memory above torch's by so many bytes."""


@dataclass(frozen=True)
class Outcome:
    """What came of a case: one of the kinds of failures, or of those in ``failures.GOOD``."""

    kind: str
    text: str = ""
    digest: str = ""
    """The digest of the results' bits."""

    as_dict = asdict


def target(x: np.ndarray[Any, Any]) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    """An array as the kernels of ``pyinit._core`` take it."""
    code = {"float32": _core.FLOAT32, "float64": _core.FLOAT64}[x.dtype.name]
    return x.ctypes.data, code, x.shape, tuple(s // x.itemsize for s in x.strides)


def namespace() -> Names:
    """The names that programs use."""
    return {
        "torch": torch,
        "np": np,
        "inf": float("inf"),
        "nan": float("nan"),
        "pyinit": pyinit,
        "F": functional,
        "torchs": torch.nn.functional,
        "fill": fill,
        "init": init,
        "grad": grad,
        "_core": _core,
        "target": target,
        "place": memory.place,
    }


@dataclass(frozen=True)
class Limits:
    """Whether time and memory are judged. With sanitizers, which take much of both, they are not."""

    judged: bool


def judge(case: Case, limits: Limits, phase: Callable[[str], None]) -> Outcome:
    """The outcome of a case. ``phase`` is told whose code runs next, pyinit's or torch's."""
    phase("torch" if case.goes_to_torch() else "ours")
    ours = _Run(case, limits)
    is_ours = ours.error is None and not case.goes_to_torch()
    if case.threads > 1 and is_ours and ours.seconds < 1:
        serial = _Run(case, limits, threads=1)
        if digest(serial.results) != digest(ours.results):
            return Outcome("threads", f"other bits with 1 thread than with {case.threads}")
    phase("torch")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return _verdict(case, ours, limits)


def _verdict(case: Case, ours: "_Run", limits: Limits) -> Outcome:  # noqa: PLR0911  one for each kind
    if ours.beside:
        return Outcome("guard", ours.beside)
    if ours.error is not None:
        theirs = _Run(case, limits, torchs=True)
        if theirs.error is None:
            return Outcome("error", f"{type(ours.error).__name__}: {ours.error}")
        return Outcome("refused")
    try:
        expected = case.expected(ours.names)
    except MemoryError:
        return Outcome("unjudged")
    except Exception as refusal:  # noqa: BLE001  whatever torch raises
        if _is_overflow(refusal):
            return Outcome("unjudged")
        if _Run(case, limits, torchs=True).error is None:
            return Outcome("broken", f"the reference: {type(refusal).__name__}: {refusal}")
        return Outcome("accepted", f"torch: {type(refusal).__name__}: {refusal}")
    wrong = _disagreements(ours.results, expected) or case.finding(ours.names, ours.results)
    if wrong and case.goes_to_torch():
        theirs = _Run(case, limits, torchs=True)
        if digest(theirs.results) == digest(ours.results):
            return Outcome("unjudged")
    if wrong:
        return Outcome("wrong", wrong)
    return _within_limits(case, ours, limits) or Outcome("ok", digest=digest(ours.results))


def _is_overflow(refusal: Exception) -> bool:
    """Whether torch refuses a size beyond 32 bits, in which it counts some sizes that are not the result's."""
    return any(abs(int(n)) > 2**31 for n in re.findall(r"-?\d+", str(refusal)))


def _within_limits(case: Case, ours: "_Run", limits: Limits) -> Outcome | None:
    if not limits.judged:
        return None
    allowed = BYTES + case.documented_bytes()
    if ours.bytes > allowed:
        theirs = _Run(case, limits, torchs=True)
        if theirs.error is None and ours.bytes > theirs.bytes + allowed:
            return Outcome("memory", f"{ours.bytes >> 20} MiB, torch {theirs.bytes >> 20} MiB")
    if ours.seconds > SECONDS:
        # A call that is slow by chance is not slow three times.
        least = min(ours.seconds, *(_Run(case, limits).seconds for _ in range(2)))
        theirs = _Run(case, limits, torchs=True)
        if theirs.error is None and least > max(SECONDS, SLOWER * theirs.seconds):
            return Outcome("slow", f"{least * 1e3:.0f} ms, torch {theirs.seconds * 1e3:.2f} ms")
    return None


class _Run:
    """One evaluation of a case's program, by pyinit or by torch."""

    def __init__(self, case: Case, limits: Limits, threads: int = 0, torchs: bool = False) -> None:
        program = case.program()
        self.names = namespace()
        self.results: list[Any] = []
        self.error: Exception | None = None
        self.beside = ""
        torch.manual_seed(case.seed)
        pyinit.set_rng("philox")
        torch.set_num_threads(1)  # torch's arithmetic may depend on their number
        exec("\n".join(program.setup), self.names)  # noqa: S102  the programs are our own
        torch.set_num_threads(threads or case.threads)
        guarded = memory.guarded_allocations() if not torchs else contextlib.nullcontext([])
        with _measured(limits) as used, guarded as beside, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            begin = time.process_time()  # other processes may have the processors
            try:
                self.results = listed(
                    evaluate(program.torchs if torchs else program.ours, self.names)
                )
            except Exception as error:  # noqa: BLE001  whether torch raises, too, is judged
                self.error = error
            self.seconds = time.process_time() - begin
        self.bytes: int = used[0]
        if "room" in self.names and not torchs:
            room: Any = case
            if memory.written_beside(self.names, room.shape, room.layout):
                beside.append("written beside the tensor that was to be filled")
            elif self.error is not None and bool((self.names["room"] != memory.GUARD).any()):
                beside.append(f"written to before {type(self.error).__name__}: {self.error}")
        self.beside = "; ".join(beside)


@contextlib.contextmanager
def _measured(limits: Limits) -> Iterator[list[int]]:
    """By how many bytes the peak of resident memory exceeds what was resident before."""
    used = [0]
    if not limits.judged or not _RESET.exists():
        yield used
        return
    _RESET.write_text("5")  # the peak is from now on
    before = _peak()
    yield used
    used[0] = _peak() - before


_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def _peak() -> int:
    status = _STATUS.read_text()
    return int(status[status.index("VmHWM:") + 6 :].split(maxsplit=1)[0]) << 10


def digest(results: list[Any]) -> str:
    """A digest of the bits of all results, in which every NaN is the same."""
    together = hashlib.blake2b(digest_size=8)
    for result in results:
        x = _tensor(result).detach().resolve_neg().contiguous()
        if x.is_floating_point():
            x = x.masked_fill(x.isnan(), torch.nan)
        together.update(x.flatten().view(torch.uint8).numpy().tobytes())
    return together.hexdigest()


def _tensor(x: Any) -> Tensor:
    # from_numpy takes no negative strides.
    return x if isinstance(x, Tensor) else torch.from_numpy(np.array(x, order="C"))


def _disagreements(results: list[Any], expected: list[Expected]) -> str | None:
    for i, (result, right) in enumerate(zip(results, expected, strict=True)):
        wrong = _disagreement(_tensor(result).detach(), right)
        if wrong:
            return f"result {i}: {wrong}" if len(results) > 1 else wrong
    return None


def _disagreement(result: Tensor, expected: Expected) -> str | None:
    value = _tensor(expected.value).detach()
    if result.shape != value.shape:
        return f"shape {tuple(result.shape)}, right is {tuple(value.shape)}"
    if not result.is_floating_point():
        return None if torch.equal(result, value) else "other integers than torch's"
    got = result.double()
    # A value beyond the dtype's range is an infinity there.
    same = (got == value) | (result == value.to(result.dtype)) | (got.isnan() & value.isnan())
    bad = ~(same | ((got - value).abs() <= torch.as_tensor(expected.tolerance)))
    count = int(bad.sum())
    if not count:
        return None
    first = tuple(int(i) for i in bad.nonzero()[0])
    return f"{count} of {got.numel()} elements, {list(first)} is {got[first].item()!r}, right is {value[first].item()!r}"
