"""Finding a model's structure runs its forward: nothing is changed by that, or left to chance."""

import random
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from pyinit import initialize_
from pyinit._graph.undisturbed import RecordedWrites, restored

USUAL_CALL = nn.Module.__call__


class Disturbing(nn.Module):
    """Draws from every generator, whatever its mode, and changes all that it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleList(nn.Linear(6, 6) for _ in range(7))
        self.own, self.numpy_own = torch.Generator(), np.random.default_rng(5)
        self.numpy_old, self.python_own = np.random.RandomState(6), random.Random(7)
        self.pointer = torch.zeros(3)
        self.pairs = [torch.zeros(2), {"deep": (torch.zeros(2), np.zeros(2))}]
        self.array = np.zeros(4)
        self.state = SimpleNamespace(step=0, seen=[1], last=torch.zeros(2))
        self.queue, self.names = deque([1]), {"a"}
        self.register_buffer("hidden", torch.zeros(2))

    def draws(self) -> list[float]:
        return [
            torch.rand(()).item(),
            torch.rand((), generator=self.own).item(),
            random.random(),
            np.random.rand(),
            self.numpy_own.random(),
            self.numpy_old.rand(),
            self.python_own.random(),
        ]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.pointer[0] += 1
        self.pointer.t_().view(-1)[1:] = 7
        torch.add(torch.ones(3), 1, out=self.pointer)
        torch._foreach_add_([self.pairs[0], self.state.last], 1)
        self.pairs[1]["deep"][0].fill_(3)
        self.pairs[1]["deep"][1][:] = 3
        self.pairs.append(1)
        self.array += 1
        self.state.step += 1
        self.state.seen.append(2)
        self.state.other = 1
        self.queue.append(2)
        self.names.add("b")
        vars(self)["_buffers"]["hidden"].fill_(5)
        vars(self.body[0])["_parameters"]["bias"].data.fill_(9)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        for layer, draw in zip(self.body, self.draws(), strict=False):
            x = layer(x)
            x = x.relu() if draw < 0.7 else x.tanh()
        return x


def values(held: Any) -> Any:  # noqa: PLR0911
    """All that a model holds and all generators' states, to be compared."""
    if isinstance(held, (torch.Tensor, np.ndarray)):
        return held.tolist()
    if isinstance(held, torch.Generator):
        return held.get_state().tolist()
    if isinstance(held, (np.random.Generator, np.random.RandomState)):
        return repr(held.__getstate__() if hasattr(held, "__getstate__") else held)
    if isinstance(held, random.Random):
        return held.getstate()
    if isinstance(held, dict):
        return {key: values(value) for key, value in held.items()}
    if isinstance(held, (list, tuple, deque)):
        return [values(value) for value in held]
    return values(vars(held)) if hasattr(held, "__dict__") else held


def around() -> Any:
    return (
        torch.get_rng_state().tolist(),
        random.getstate(),
        repr(np.random.get_state()),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
    )


def test_a_forward_that_changes_all_it_holds_changes_nothing() -> None:
    model = Disturbing()
    before, outside = values(model), around()
    report = initialize_(model, "auto", dry_run=True)
    assert values(model) == before
    assert around() == outside
    assert report.graph == "torch.fx"


def test_a_forward_that_draws_random_numbers_gets_the_same_every_time() -> None:
    found = []
    for seed in range(6):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        model = Disturbing()
        model.numpy_own.random(seed)
        model.own.manual_seed(seed)
        found.append([(row.initializer, row.why) for row in initialize_(model, "auto", seed=1)])
    assert all(one == found[0] for one in found)
    assert {"relu follows", "tanh follows"} <= {why for _, why in found[0]}


def test_tracing_writes_back_to_memory_that_views_share() -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.arange(12.0).view(3, 4)
            self.rows = [self.table[1], self.table[:, 2]]
            self.head = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.rows[0].mul_(2)
            self.table.zero_()
            self.rows[1].add_(1)
            return self.head(x)

    model = Views()
    initialize_(model, "auto", seed=1)
    assert torch.equal(model.table, torch.arange(12.0).view(3, 4))


class Waiting(nn.Module):
    """Its forward lets another thread work meanwhile."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.work = work

    def forward(self, x: Any) -> Any:
        self.work()
        return self.layer(x)


def in_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(60)


def test_modules_of_other_threads_compute_while_a_model_is_traced() -> None:
    other = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    x, outcomes = torch.ones(3, 2), []
    model = Waiting(lambda: outcomes.append(in_thread(lambda: other(x))))
    report = initialize_(model, seed=1)
    assert report.graph == "torch.fx"
    assert torch.equal(outcomes[0], other(x))
    assert all(type(p) is nn.Parameter for p in in_thread(other.parameters))


def test_threads_that_seed_generators_take_turns() -> None:
    inside, another = threading.Event(), threading.Event()

    def meet() -> None:
        inside.set()
        another.wait(0.3)  # the other one must not get here before this one is done

    def outlast() -> None:
        another.set()
        one.exception(60)

    first, second = Waiting(meet), Waiting(outlast)
    before = torch.get_rng_state(), random.getstate()
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(initialize_, first, seed=1)
        inside.wait(60)
        two = pool.submit(initialize_, second, seed=1)
        one.result(60)
        two.result(60)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert nn.Module.__call__ is USUAL_CALL


def test_statistics_of_batch_norm_are_put_back_in_training_mode() -> None:
    for norm, x in (
        (nn.BatchNorm1d(3), torch.randn(4, 3)),
        (nn.SyncBatchNorm(3), torch.randn(4, 3)),
        (nn.InstanceNorm1d(3, track_running_stats=True), torch.randn(4, 3, 2)),
    ):
        before = {name: value.clone() for name, value in norm.state_dict().items()}
        with restored(norm):
            (norm.eval() if isinstance(norm, nn.SyncBatchNorm) else norm)(x)
        assert norm.training
        assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_only_memory_that_was_there_before_is_copied() -> None:
    given = torch.ones(2, 3)
    with RecordedWrites() as writes:
        made = torch.ones(3).relu_()
        made.view(1, 3)[0].add_(1)
        given.t().view(3, 2)[1].mul_(2)
        assert (writes.holds(given), writes.holds(made)) == (True, False)
    writes.undo()
    assert torch.equal(given, torch.ones(2, 3))
    assert torch.equal(made, torch.full((3,), 2.0))


def test_writes_are_undone_back_to_a_mark() -> None:
    given = torch.zeros(2)
    with RecordedWrites() as writes:
        given.add_(1)
        made = torch.full((2,), 5.0)
        mark = writes.mark()
        given.add_(1)
        made.add_(1)
        torch.ones(2).add_(1)
        writes.undo(mark)
        assert (given.tolist(), made.tolist(), len(mark.before)) == ([1, 1], [5, 5], 2)
        given.add_(3)
        writes.undo(mark)
        assert given.tolist() == [1, 1]
        writes.release(mark)
    writes.undo()
    assert given.tolist() == [0, 0]
