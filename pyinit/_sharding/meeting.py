"""Processes that must have the same facts meet in the store of torch.distributed, or none of them goes on.

A meeting is no collective: it needs no memory on a device and no communicator, leaves the process groups as
they are, and tells who did not come. A process makes a handful of small requests of the store, however many
take part: it says that it is there, is counted among all and among those with its digest, and waits for the
word of the last one.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

import torch.distributed as dist

TIMEOUT = 300.0
"""Seconds that a process waits for the others."""

_SHOWN = 3  # differences in a message, and values in a difference
_NONE = "none"


class Meeting:
    """Facts that some processes must have alike: ``post`` tells the others, ``wait`` hears from them.

    Args:
        call: what needs them, for errors
        ranks: the ranks of all processes that take part, this one among them
        facts: what must be the same: texts by what they are about. In the order in which differences
            are to be named

    Raises:
        RuntimeError: if torch.distributed has no process group.
        ValueError: if the ranks are not those of processes in it.
    """

    def __init__(self, call: str, ranks: Sequence[int], facts: Mapping[str, str]) -> None:
        self._call, self._ranks = call, sorted(ranks)
        self._store, self._rank = _store_and_rank(call, self._ranks)
        self._text = json.dumps(dict(facts))
        self._digest = _digest(self._text)
        self._place = _place(self._store, self._ranks, self._rank)

    def post(self) -> None:
        """Say what this process has. Waits for nobody.

        Raises:
            RuntimeError: if the store is gone.
        """
        with self._reachable():
            self._post()

    def _post(self) -> None:
        digest = self._digest
        self._set(f"of/{self._rank}", digest)
        if self._add(f"with/{digest}", 1) == 1:
            self._set(f"text/{digest}", self._text)
        if self._add("came", 1) == len(self._ranks):
            is_same = self._add(f"with/{digest}", 0) == len(self._ranks)
            self._set("word", "same" if is_same else "different")

    def wait(self) -> None:
        """Wait until all have said what they have.

        Raises:
            ValueError: if that is not the same. All of them raise it, with the same message, which says what
                differs and on which ranks.
            RuntimeError: if some do not come, or have given up to wait for this one; it names them. If
                the store is gone.
        """
        with self._reachable():
            self._await()
            missed = self._waited_for() if self._has("over") else ""
            differs = "" if missed or self._get("word") == "same" else self._difference()
            if not missed and not differs:
                self._store.delete_key(f"{self._place}/of/{self._rank}")  # nobody reads it any more
                self._clear_up()
        if missed:
            raise RuntimeError(f"{self._call} {missed}")
        if differs:
            raise ValueError(f"{self._call} needs the same on all ranks, but {differs}")

    def _await(self) -> None:
        """Wait for the word, or until this process or another one has given up."""
        end, pause = time.monotonic() + TIMEOUT, 0.001
        while not self._has("word") and not self._has("over"):
            if time.monotonic() > end:
                self._set("over", "")
                break
            time.sleep(pause)
            pause = min(2 * pause, 0.25)

    def _clear_up(self) -> None:
        """Have the first rank remove what the meeting before left, which all have gone from to come here."""
        if self._rank != self._ranks[0]:
            return
        who, _, _ = self._place.rpartition("/")
        left = _left.setdefault(self._store, {})
        for key in left.get(who, ()):
            self._store.delete_key(key)
        names = ("came", "word", f"with/{self._digest}", f"text/{self._digest}")
        left[who] = [f"{self._place}/{name}" for name in names]

    def _waited_for(self) -> str:
        away = [rank for rank in self._ranks if not self._has(f"of/{rank}")]
        if not away:
            return f"was waited for on other ranks for {TIMEOUT:g} s: they have given up"
        return (
            f"waited {TIMEOUT:g} s for {_in_words(away)} of {_in_words(self._ranks)}, which did not come to "
            "compare what they have"
        )

    def _difference(self) -> str:
        digests = {rank: self._get(f"of/{rank}") for rank in self._ranks}
        having: dict[str, list[int]] = {}
        for rank, digest in digests.items():
            having.setdefault(digest, []).append(rank)
        known = {each: json.loads(self._get(f"text/{each}")) for each in islice(having, _SHOWN)}
        subjects = dict.fromkeys(subject for facts in known.values() for subject in facts)
        found = []
        for subject in subjects:
            values: dict[str, list[int]] = {}
            for digest, facts in known.items():
                values.setdefault(facts.get(subject, _NONE), []).extend(having[digest])
            if len(values) > 1:
                found.append((subject, values))
        more = len(having) - len(known)
        others = f"; {more} other ranks have others" if more else ""
        said = [
            f"{subject} differs: "
            + ", ".join(
                f"{_in_words(ranks)} {'has' if len(ranks) == 1 else 'have'} {value}"
                for value, ranks in values.items()
            )
            for subject, values in found[:_SHOWN]
        ]
        rest = len(found) - len(said)
        return "; ".join(said) + others + (f"; and {rest} more differences" if rest else "")

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except dist.DistError as error:
            raise RuntimeError(
                f"{self._call} cannot reach the store of the process group, as if the process that has it "
                f"(usually rank 0) were gone: {str(error).partition(chr(10))[0]}"
            ) from error

    # ---- the store ---------------------------------------------------------------------------------

    def _set(self, key: str, value: str) -> None:
        self._store.set(f"{self._place}/{key}", value)

    def _get(self, key: str) -> str:
        found: bytes = self._store.get(f"{self._place}/{key}")
        return found.decode()

    def _add(self, key: str, number: int) -> int:
        found: int = self._store.add(f"{self._place}/{key}", number)
        return found

    def _has(self, key: str) -> bool:
        found: bool = self._store.check([f"{self._place}/{key}"])
        return found


def meet(call: str, ranks: Sequence[int], facts: Mapping[str, str]) -> None:
    """One meeting: ``post`` and ``wait``."""
    meeting = Meeting(call, ranks, facts)
    meeting.post()
    meeting.wait()


def _store_and_rank(call: str, ranks: Sequence[int]) -> tuple[Any, int]:
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError(
            f"{call} compares what the ranks of a mesh have, and torch.distributed has no process group "
            "(any longer): call init_process_group, or leave that out by agree=False"
        )
    size, rank = dist.get_world_size(), dist.get_rank()
    if rank not in ranks or ranks[0] < 0 or ranks[-1] >= size:
        raise ValueError(
            f"{call}: a mesh of {_in_words(ranks)} does not fit a process group of {size}, in which this "
            f"is rank {rank}"
        )
    return dist.distributed_c10d._get_default_store(), rank


_left: WeakKeyDictionary[Any, dict[str, list[str]]] = WeakKeyDictionary()
_counts: WeakKeyDictionary[Any, Counter[str]] = WeakKeyDictionary()


def _place(store: Any, ranks: Sequence[int], rank: int) -> str:
    """Where a meeting's keys are: by who takes part, and how often these have met in this store."""
    who = _digest(repr(list(ranks)))
    counts = _counts.setdefault(store, Counter())
    counts[f"{who}/{rank}"] += 1  # by rank, since ranks may be threads
    return f"pyinit/{who}/{counts[f'{who}/{rank}']}"


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _in_words(ranks: Iterable[int]) -> str:
    """Ranks in a message: ``ranks 0-2, 5``."""
    spans: list[list[int]] = []
    for rank in sorted(ranks):
        if spans and rank == spans[-1][1] + 1:
            spans[-1][1] = rank
        else:
            spans.append([rank, rank])
    told = [str(first) if first == last else f"{first}-{last}" for first, last in spans]
    shown = ", ".join(told[:10]) + (", ..." if len(told) > 10 else "")
    return f"{'rank' if len(spans) == 1 and spans[0][0] == spans[0][1] else 'ranks'} {shown}"
