"""What a run does: the numbers of a plain loop, from every arm of a seed on the same data."""

import inspect
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from bits import same_bits
from study_parts import broken_, cnn, mlp, ruined_, small_, standardized_
from torch import Tensor, nn
from torch.nn import functional

import pyinit
from pyinit.datasets import Dataset, load
from pyinit.studies import Study, Training
from pyinit.studies.data import Data, data_of
from pyinit.studies.perform import perform
from pyinit.studies.records import Record
from pyinit.studies.runs import runs_of
from pyinit.studies.train import batches, seed_of


def study(arms: Any = None, **changes: Any) -> Study:
    fields = {"model": mlp, "data": "digits", "seeds": 1, "steps": 30, "track": False, **changes}
    return Study(arms={"he": "kaiming"} if arms is None else arms, **fields)


def only(some: Study) -> Record:
    (run,) = runs_of(some)
    (record,) = perform(some, [run])
    assert record.error is None
    return record


def numbers(record: Record) -> dict[str, Any]:
    """A record without what is different each time."""
    kept = record.to_json()
    for row in kept["epochs"]:
        del row["seconds"]
    return {key: kept[key] for key in kept if key not in ("seconds", "init_seconds", "versions")}


def by_hand(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: Dataset, seed: int, steps: int
) -> tuple[list[float], float]:
    """A loop as anyone would write it: the losses, and the loss on test data in the end."""
    training, test = data.split()
    generator = torch.Generator().manual_seed(seed_of("order", seed))
    losses: list[float] = []
    model.train()
    while len(losses) < steps:
        order = torch.randperm(len(training.inputs), generator=generator)
        for first in range(0, len(order) - 63, 64):
            some = order[first : first + 64]
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(training.inputs[some]), training.target[some])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if len(losses) == steps:
                break
    model.eval()
    with torch.no_grad():
        return losses, functional.cross_entropy(model(test.inputs), test.target).item()


@pytest.mark.parametrize("track", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_training_has_the_bits_of_a_plain_loop(track: bool, dropout: float) -> None:
    record = only(study(track=track, steps=50, arguments={"dropout": dropout}))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = mlp(dropout=dropout)
        pyinit.initialize_(model, "kaiming", seed=0)
        torch.manual_seed(seed_of("training", 0))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        losses, test_loss = by_hand(model, optimizer, load("digits"), 0, 50)
    finally:
        torch.set_num_threads(threads)
    assert [row["loss"] for row in record.steps] == losses
    assert record.epochs[-1]["test_loss"] == pytest.approx(test_loss, rel=1e-6)
    assert [row["step"] for row in record.epochs] == [22, 44, 50]
    assert record.epochs[0]["train_loss"] == pytest.approx(sum(losses[:22]) / 22)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_has_the_bits_of_a_plain_loop(name: str) -> None:
    training = Training(optimizer=name, lr=0.002, momentum=0.8, weight_decay=0.01)
    record = only(study(training=training))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = mlp()
        pyinit.initialize_(model, "kaiming", seed=0)
        make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
        optimizer = make(model.parameters(), lr=0.002, betas=(0.8, 0.999), weight_decay=0.01)
        losses, _ = by_hand(model, optimizer, load("digits"), 0, 30)
    finally:
        torch.set_num_threads(threads)
    assert [row["loss"] for row in record.steps] == losses


def test_a_schedule_changes_the_rate_from_step_to_step() -> None:
    x = torch.ones(80, 1)
    data = Dataset("ones", x, x * 2)
    model = "torch.nn:Linear"
    arguments = {"in_features": 1, "out_features": 1}
    some = study({"zero": {"rules": {"*": {"name": "constant", "val": 0}}}}, data=data, model=model)
    training = Training(lr=0.1, momentum=0.0, schedule="linear")
    found = only(replace(some, arguments=arguments, steps=4, training=training))
    weights, losses = [0.0, 0.0], []
    for step in range(4):
        error = sum(weights) - 2
        losses.append(error**2)
        weights = [each - 0.1 * (1 - step / 4) * 2 * error for each in weights]
    assert [row["loss"] for row in found.steps] == pytest.approx(losses, rel=1e-5)
    assert found.epochs[-1]["accuracy"] is None


def test_every_arm_of_a_seed_starts_from_the_same_draws_and_sees_the_same_data() -> None:
    seen: dict[str, list[Tensor]] = {"one": [], "other": []}

    def noting(name: str) -> Any:
        def arm(model: nn.Module) -> None:
            seen[name].append(model[1].weight.detach().clone())
            model.register_forward_pre_hook(lambda _, args: seen[name].append(args[0].clone()))
            model[3].register_forward_hook(lambda _, __, out: seen[name].append(out == 0))
            if name == "other":
                torch.rand(100)  # arms may draw as they like
                pyinit.initialize_(model, "xavier")

        return arm

    some = study({name: noting(name) for name in seen}, steps=5, arguments={"dropout": 0.5})
    for run in runs_of(some):
        perform(some, [run])
    assert len(seen["one"]) == len(seen["other"]) > 10
    assert all(map(same_bits, seen["one"], seen["other"]))


def test_seeds_differ_in_draws_order_and_dropout() -> None:
    assert (
        len({seed_of(what, seed) for what in ("model", "order", "arm") for seed in range(50)})
        == 150
    )
    orders = [next(batches(100, 100, seed)).tolist() for seed in (0, 1)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == list(range(100))


def test_all_of_an_epochs_batches_are_full_and_differ() -> None:
    numbered = batches(10, 4, 0)
    epoch = [next(numbered).tolist() for _ in range(2)]
    assert [len(each) for each in epoch] == [4, 4]
    assert len({*epoch[0], *epoch[1]}) == 8
    assert len(next(batches(3, 4, 0))) == 3


def test_threads_and_generators_are_put_back() -> None:
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        only(study())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(before, torch.get_rng_state())


def test_the_study_says_how_many_threads_a_run_has() -> None:
    found = []
    arm = {"noting": lambda _: found.append(torch.get_num_threads())}
    only(study(arm))
    only(study(arm, training=Training(threads=2)))
    assert found == [1, 2]


class Greedy(nn.Module):
    """Writes to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.flatten(1).mul_(3))  # type: ignore[no-any-return]


def test_data_stay_as_they_are() -> None:
    data = load("digits")
    before = data_of("digits")
    before = Data(*(each._changed(Tensor.clone) for each in before))
    record = study(model=Greedy, steps=66).run(jobs=1).records[0]
    for now, then in zip(data_of("digits"), before, strict=True):
        assert same_bits(now.inputs, then.inputs)
    scaled = Dataset("thrice", data.inputs * 3, data.target, data.classes)
    assert len(record.epochs) == 3
    plain = study(model=_plain, data=scaled, steps=66).run(jobs=1).records[0]
    assert [row["test_loss"] for row in record.epochs] == [row["test_loss"] for row in plain.epochs]


def _plain() -> nn.Module:
    model = Greedy()
    model.forward = lambda x: model.last(x.flatten(1))  # type: ignore[method-assign]
    return model


def _set_double_(_: nn.Module) -> None:
    torch.set_default_dtype(torch.float64)


def _set_strict_(_: nn.Module) -> None:
    torch.use_deterministic_algorithms(True)


def _set_no_grad_(_: nn.Module) -> None:
    torch.set_grad_enabled(False)


@pytest.mark.parametrize("arm", [_set_double_, _set_no_grad_, _set_strict_])
def test_what_a_run_sets_does_not_reach_the_next(arm: Any) -> None:
    try:
        records = study({"first": arm, "he": "kaiming"}, steps=5).run(jobs=1).records
        assert torch.get_default_dtype() == torch.float32
        assert torch.is_grad_enabled()
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)
        torch.use_deterministic_algorithms(False)
    assert numbers(records[1]) == numbers(study(steps=5).run(jobs=1).records[0])


def test_what_diverges_is_stopped_and_recorded() -> None:
    some = study({"ruined": ruined_})
    (record,) = perform(some, runs_of(some))
    assert record.status == "diverged"
    assert record.error is None
    assert len(record.steps) == 1
    assert not math.isfinite(record.steps[0]["loss"])
    assert record.epochs[-1]["accuracy"] < 0.2  # of the network as it is
    assert record.to_json()["steps"][0]["loss"] is None
    too_fast = study(training=Training(lr=1e4))
    (record,) = perform(too_fast, runs_of(too_fast))
    assert record.status == "diverged"
    assert len(record.steps) < 30


def test_an_arm_that_raises_is_recorded_and_others_go_on() -> None:
    result = study({"broken": broken_, "he": "kaiming"}).run(jobs=1)
    broken, other = result.records
    assert (broken.status, other.status) == ("failed", "finished")
    line = inspect.getsourcelines(broken_)[1] + 1
    assert broken.error == f"ArithmeticError: this cannot be (study_parts.py, line {line})"


def test_functions_get_what_they_ask_for() -> None:
    found: list[Any] = []

    def named(model: nn.Module, *, std: float, seed: int = -1) -> None:
        found.append((std, seed))

    only(study({"named": {"function": named, "std": 0.5}}))
    only(study({"all": standardized_}))
    only(study({"one": small_}))
    assert found == [(0.5, -1)]


def test_functions_get_batch_and_seed_by_these_names_wherever_they_stand() -> None:
    found: list[Any] = []

    def of_seed(model: nn.Module, seed: int) -> None:
        found.append(seed)

    def after_a_default(model: nn.Module, std: float = 0.1, seed: int = -1) -> None:
        found.append((std, seed))

    def turned(model: nn.Module, seed: int, batch: Any, /) -> None:
        found.append((seed, len(batch)))

    def of_other_names(model: nn.Module, samples: Any, number: int) -> None:
        found.append((len(samples), number))

    for each in (of_seed, after_a_default, turned, of_other_names):
        only(study({"arm": each}, steps=1))
    seed = found[0]
    assert isinstance(seed, int)
    assert found[1:] == [(0.1, seed), (seed, 2), (2, seed)]


def test_an_arm_that_makes_another_model_is_refused() -> None:
    def new(model: nn.Module) -> nn.Module:
        return mlp()

    def same(model: nn.Module) -> nn.Module:
        return model

    found = study({"new": new, "same": same}, steps=1).run(jobs=1)
    assert [each.status for each in found.records] == ["failed", "finished"]
    error = found.records[0].error
    assert error is not None
    assert error.startswith("ValueError: an arm's function must fill in the model that it is given")


def test_pretrained_weights_come_from_the_other_half_of_the_data() -> None:
    data = load("digits")
    training, _ = data.split()
    halves = {
        each.name: {tuple(x.flatten().tolist()) for x in each.inputs} for each in training.halves()
    }
    seen: set[Any] = set()

    def watching(model: nn.Module) -> None:
        model.register_forward_pre_hook(
            lambda model, args: (
                seen.update(tuple(x.flatten().tolist()) for x in args[0])
                if model.training
                else None
            )
        )

    arms = {"pretrained": "pretrained", "watching": watching}
    some = study(arms, steps=80, data=data)
    pretrained, watched = (perform(some, [run])[0] for run in runs_of(some))
    first, second = halves.values()
    assert seen <= second
    assert not seen & (first - second)
    assert pretrained.steps[0]["loss"] < watched.steps[0]["loss"] / 2


def test_steps_of_an_arm_come_one_after_the_other() -> None:
    found: list[Tensor] = []
    looked = lambda model: found.append(model[4].weight.detach().clone())
    zero = {"rules": {"4.*": {"name": "constant", "val": 0}}}
    some = study({"new head": [{"pretrained": True}, looked, zero, looked]}, steps=20)
    record = only(some)
    assert found[0].std() > 0
    assert found[1].abs().max() == 0
    assert record.steps[0]["loss"] == pytest.approx(math.log(10), rel=1e-4)


def test_rules_alone_leave_the_rest_as_it_was_constructed() -> None:
    found: list[Tensor] = []
    looked = lambda model: found.extend(each.detach().clone() for each in model.parameters())
    only(study({"zero": [looked, {"rules": {"1.weight": {"name": "constant", "val": 0}}}, looked]}))
    before, after = found[:4], found[4:]
    assert after[0].abs().max() == 0
    assert all(map(same_bits, before[1:], after[1:]))


def test_pyinits_kernels_are_used_when_the_study_asks() -> None:
    kinds: list[str] = []

    def noting(model: nn.Module) -> None:
        model.register_forward_pre_hook(lambda model, _: kinds.append(type(model[0]).__module__))

    some = study({"noting": noting}, model=cnn, steps=3)
    by_torch = only(some)
    by_pyinit = only(replace(some, training=Training(kernels="pyinit")))
    assert {*kinds} == {"torch.nn.modules.conv", "pyinit.nn.modules"}
    losses = ([row["loss"] for row in each.steps] for each in (by_torch, by_pyinit))
    assert next(losses) == pytest.approx(next(losses), rel=1e-4)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_seeds_as_one_model_learn_what_they_learn_alone(batch_norm: bool) -> None:
    arguments = {"batch_norm": batch_norm}
    alone = study(seeds=3, steps=40, arguments=arguments)
    together = replace(alone, training=Training(batch_seeds=True))
    for one, other in zip(alone.run(jobs=1).records, together.run(jobs=1).records, strict=True):
        assert other.error is None
        assert [row["loss"] for row in one.steps] == pytest.approx(
            [row["loss"] for row in other.steps], rel=1e-3
        )
        assert one.epochs[-1]["accuracy"] == pytest.approx(other.epochs[-1]["accuracy"], abs=0.01)
        assert one.fingerprint != other.fingerprint


def _half_frozen_(model: nn.Module) -> None:
    small_(model)
    model[1].weight.requires_grad_(False)


def test_what_is_frozen_stays_so_in_seeds_as_one_model() -> None:
    some = study({"frozen": _half_frozen_}, seeds=2)
    alone = some.run(jobs=1).records
    together = replace(some, training=Training(batch_seeds=True)).run(jobs=1).records
    for one, other in zip(alone, together, strict=True):
        losses = [[row["loss"] for row in each.steps] for each in (one, other)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_seed_that_diverges_stops_alone() -> None:
    def arm(model: nn.Module, *, batch: Any = None, seed: int = 0) -> None:
        pyinit.initialize_(model, "kaiming", seed=seed)

    def one_is_huge(model: nn.Module, batch: Any, seed: int) -> None:
        (ruined_ if seed == 1 else arm)(model)

    some = study({"mixed": one_is_huge}, seeds=3, training=Training(batch_seeds=True))
    records = some.run(jobs=1).records
    assert [each.status for each in records] == ["finished", "diverged", "finished"]
    assert [len(each.steps) for each in records] == [30, 1, 30]
    assert records[0].epochs[-1]["accuracy"] > 0.5
