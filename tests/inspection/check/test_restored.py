"""A module is as it was after a check: values, mode, gradients, hooks, attributes, generators."""

import random
import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import pyinit


def model() -> nn.Sequential:
    made = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2))
    made[0].weight.requires_grad_(False)
    made[3].weight.grad = torch.randn(2, 8)
    made[0].weight.note = "mine"  # type: ignore[union-attr, assignment]
    made[1].eval()
    made(torch.randn(4, 8))
    made[0].register_forward_hook(lambda *_: None)
    return made


def state_of(made: nn.Module) -> Any:
    return (
        [(name, id(module), module.training) for name, module in made.named_modules()],
        [
            (name, id(p), p.data_ptr(), p.requires_grad, id(p.grad), dict(vars(p)))
            for name, p in made.named_parameters()
        ],
        [(name, id(b), b.data_ptr()) for name, b in made.named_buffers()],
        [len(module._forward_hooks) for module in made.modules()],
        [sorted(vars(module)) for module in made.modules()],
    )


def values_of(made: nn.Module) -> list[torch.Tensor]:
    return [t.detach().clone() for t in (*made.parameters(), *made.buffers())]


def meddle(made: Any) -> None:
    """An initialization that changes whatever it can."""
    made.train()
    made[3] = nn.Linear(8, 5)
    made[0].weight.requires_grad_(True)
    made[0].weight.data = torch.zeros(3, 3)
    made[0].bias = nn.Parameter(torch.ones(8))
    made[0]._forward_hooks.clear()
    made.register_forward_hook(lambda *_: None)
    made[1].extra = 3
    del made[0].weight.note
    made[1].running_mean.fill_(3.0)


def fail(made: Any) -> None:
    meddle(made)
    raise KeyError("no such thing")


@pytest.mark.parametrize("reproducible", [False, True])
@pytest.mark.parametrize("init", [None, "reset_parameters", pyinit.initialize_, meddle])
def test_a_module_is_as_before(init: Any, reproducible: bool) -> None:
    made = model()
    state, values = state_of(made), values_of(made)
    pyinit.check(made, init, reproducible=reproducible and init is not None)
    assert state_of(made) == state
    assert all(map(torch.equal, values_of(made), values))


def test_a_module_is_as_before_where_init_raises() -> None:
    made = model()
    state, values = state_of(made), values_of(made)
    with pytest.raises(RuntimeError, match=r"init fail raised KeyError: 'no such thing'") as error:
        pyinit.check(made, fail)
    assert isinstance(error.value.__cause__, KeyError)
    assert state_of(made) == state
    assert all(map(torch.equal, values_of(made), values))


def test_a_module_that_a_factory_only_hands_out_is_as_before() -> None:
    made = model()
    state, values = state_of(made), values_of(made)
    for init in (None, "reset_parameters", meddle):
        pyinit.check(lambda: made, init)
        assert state_of(made) == state
        assert all(map(torch.equal, values_of(made), values))


def test_a_module_is_never_written_to_without_init() -> None:
    made = model()
    versions = [t._version for t in (*made.parameters(), *made.buffers())]
    pyinit.check(made)
    assert [t._version for t in (*made.parameters(), *made.buffers())] == versions


def draws(made: Any = None) -> nn.Module:
    """A factory, or an initialization, that draws from every generator."""
    random.random()
    np.random.rand()
    return nn.Linear(4, 4) if made is None else pyinit.initialize_(made)  # type: ignore[return-value]


@pytest.mark.parametrize("is_factory", [False, True])
@pytest.mark.parametrize("init", [None, draws, "reset_parameters"])
def test_generators_are_as_before(init: Any, is_factory: bool) -> None:
    made = draws if is_factory else draws()
    states = (
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state(legacy=False),
    )
    pyinit.check(made, init, reproducible=init is not None)
    assert torch.get_rng_state().tolist() == states[0]
    assert random.getstate() == states[1]
    np.testing.assert_equal(np.random.get_state(legacy=False), states[2])


def test_generators_that_modules_hold_are_as_before() -> None:
    class Drawing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(4, 4))
            self.torchs = torch.Generator().manual_seed(1)
            self.numpys = np.random.default_rng(1)
            self.pythons = random.Random(1)

        def start(self) -> None:
            self.weight.data.normal_(generator=self.torchs)
            self.weight.data[0, 0] = self.numpys.normal() + self.pythons.gauss(0, 1)

    made = Drawing()
    states = made.torchs.get_state(), made.numpys.bit_generator.state, made.pythons.getstate()
    pyinit.check(made, "start", reproducible=True)
    assert torch.equal(made.torchs.get_state(), states[0])
    assert (made.numpys.bit_generator.state, made.pythons.getstate()) == states[1:]


def test_what_is_watched_is_as_before() -> None:
    before = nn.Module.apply, nn.init._no_grad_trunc_normal_, pyinit.init._basic._trunc_normal
    with pytest.raises(RuntimeError):
        pyinit.check(model(), fail)
    pyinit.check(model, "reset_parameters")
    assert before == (
        nn.Module.apply,
        nn.init._no_grad_trunc_normal_,
        pyinit.init._basic._trunc_normal,
    )


def test_checks_in_several_threads_leave_torch_as_it_was() -> None:
    before = nn.Module.apply, nn.init._no_grad_trunc_normal_
    failures: list[object] = []
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        for _ in range(5):
            failures.extend(pyinit.check(lambda: nn.Linear(8, 8), "reset_parameters").failures)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert (nn.Module.apply, nn.init._no_grad_trunc_normal_) == before


def test_a_check_inside_an_init_is_no_deadlock() -> None:
    def init(model: nn.Module) -> None:
        pyinit.assert_initialized(nn.Linear(2, 2), "reset_parameters")
        model.reset_parameters()  # type: ignore[operator]

    assert not pyinit.check(nn.Linear(4, 4), init).failures


def test_apply_takes_its_argument_by_name() -> None:
    def init(model: nn.Module) -> None:
        model.apply(fn=lambda module: module.reset_parameters())  # type: ignore[operator]

    assert not pyinit.check(nn.Linear(4, 4), init).failures
