"""Modules that save or load in ways of their own: what is reported as loaded is in the module."""

import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from pyinit.pretrained import adapt
from pyinit.pretrained.load import load_pretrained_
from pyinit.reports.loading import LoadReport


class Halved(nn.Linear):
    """Stores halves."""

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "weight"] = self.weight.detach().half()


class Fused(nn.Module):
    """Stores its one weight as three, by a hook, and merges them by another."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Parameter(torch.randn(12, 4))
        self.out = nn.Linear(4, 4)
        self.register_state_dict_post_hook(self._split)
        self.register_load_state_dict_pre_hook(self._merge)

    @staticmethod
    def _split(_: nn.Module, state: Any, prefix: str, *__: Any) -> None:
        for name, part in zip(("wq", "wk", "wv"), state.pop(prefix + "qkv").chunk(3), strict=True):
            state[prefix + name] = part

    @staticmethod
    def _merge(_: nn.Module, state: Any, prefix: str, *__: Any) -> None:
        state[prefix + "qkv"] = torch.cat([state.pop(prefix + n) for n in ("wq", "wk", "wv")])


class Transposed(nn.Linear):
    """Reads a weight the other way round, and that by an older name."""

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        if prefix + "kernel" in state:
            state[prefix + "weight"] = state.pop(prefix + "kernel").t()
        super()._load_from_state_dict(state, prefix, *rest)


class Parent(nn.Module):
    """Sets a weight of its child."""

    def __init__(self) -> None:
        super().__init__()
        self.child = nn.Linear(4, 4, bias=False)

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        self.child.weight = nn.Parameter(state.pop(prefix + "w"))
        super()._load_from_state_dict(state, prefix, *rest)


class Scaled(nn.Linear):
    """Keeps a number as an attribute, and stores it as a tensor."""

    scale = 1.0

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "scale"] = torch.tensor(self.scale)

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        self.scale = float(state.pop(prefix + "scale"))
        super()._load_from_state_dict(state, prefix, *rest)


class Extra(nn.Linear):
    """Has extra state."""

    extra: Any = None

    def get_extra_state(self) -> Any:
        return self.extra

    def set_extra_state(self, state: Any) -> None:
        if state == "broken":
            raise RuntimeError("broken")
        self.extra = state


def load(model: nn.Module, source: Any, **options: Any) -> LoadReport:
    return load_pretrained_(model, source, **{"init_missing": "torch", "seed": 1} | options)


def values(model: nn.Module) -> dict[str, Tensor]:
    """Of the modules' own tensors, whatever their state dicts say."""
    return {
        name: p.detach().clone() for name, p in (*model.named_parameters(), *model.named_buffers())
    }


def assert_same(model: nn.Module, expected: dict[str, Tensor]) -> None:
    found = values(model)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def by_torch(make: Callable[[], nn.Module], state: Any) -> dict[str, Tensor]:
    """What torch's own load makes of it."""
    model = make()
    model.load_state_dict(state, strict=True)
    return values(model)


def within(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(4, 4), make(), nn.BatchNorm1d(4))


OWN = {
    "saves halves": lambda: Halved(4, 4),
    "splits and merges": Fused,
    "transposes": lambda: Transposed(4, 4),
    "keeps a number": lambda: Scaled(4, 4),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(4, 4)),
    "spectral norm": lambda: nn.utils.spectral_norm(nn.Linear(4, 4)),
    "instance norm": lambda: nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
}


@pytest.mark.parametrize("make", OWN.values(), ids=OWN)
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("on_meta", [False, True])
def test_what_modules_store_in_their_own_way_is_loaded_as_torch_does_it(
    make: Callable[[], nn.Module], inside: bool, on_meta: bool
) -> None:
    make = within(make) if inside else make
    state = make().state_dict()
    expected = by_torch(make, state)
    with torch.device("meta" if on_meta else "cpu"):
        model = make()
    report = load(model, state, strict=True)
    assert_same(model, expected)
    assert report.coverage == 100
    assert set(report.loaded) == {n for n, _ in (*model.named_parameters(), *model.named_buffers())}
    assert not any((report.missing, report.unexpected, report.mismatched, report.reinitialized))


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_hooks_read_files(suffix: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file  # noqa: PLC0415

    make = within(Fused)
    state = {name: tensor.contiguous().clone() for name, tensor in make().state_dict().items()}
    path = tmp_path / f"w.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    model = make()
    load(model, path, strict=True)
    assert_same(model, by_torch(make, state))


class Split(nn.Module):
    """All of its names are hooks' work."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Fused()
        del self.attention.out


@pytest.mark.parametrize("make", [within(Fused), Split])
def test_names_of_wrappers_go_before_hooks_see_them(make: Callable[[], nn.Module]) -> None:
    state = make().state_dict()
    model = make()
    load(model, {f"module.{name}": tensor for name, tensor in state.items()}, strict=True)
    assert_same(model, by_torch(make, state))


def test_older_names_are_read_by_the_modules_hooks() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        old = nn.utils.weight_norm(nn.Linear(4, 3))
    model = parametrizations.weight_norm(nn.Linear(4, 3))
    report = load(model, old.state_dict(), strict=True)
    assert torch.equal(model.parametrizations.weight.original0, old.weight_g)
    assert torch.equal(model.parametrizations.weight.original1, old.weight_v)
    assert report.coverage == 100

    layer, weight = Transposed(3, 4, bias=False), torch.randn(3, 4)
    load(layer, {"kernel": weight}, strict=True)
    assert torch.equal(layer.weight, weight.t())


def test_the_versions_of_a_state_dict_reach_the_modules() -> None:
    seen = []

    class Versioned(nn.Linear):
        _version = 3

        def _load_from_state_dict(
            self, state: Any, prefix: str, described: Any, *rest: Any
        ) -> None:
            seen.append(described.get("version"))
            super()._load_from_state_dict(state, prefix, described, *rest)

    state = nn.ModuleDict({"trunk": Versioned(2, 2)}).state_dict()
    renamed = type(state)((f"module.{name}", value) for name, value in state.items())
    renamed._metadata = {f"module.{n}".strip("."): v for n, v in state._metadata.items()}
    load(nn.ModuleDict({"body": Versioned(2, 2)}), renamed, rename=[("^trunk", "body")])
    load(Versioned(2, 2), nn.Linear(2, 2).state_dict())
    load(Versioned(2, 2), dict(nn.Linear(2, 2).state_dict()))
    assert seen == [3, 1, None]


def test_a_parent_may_set_the_weights_of_its_children() -> None:
    model, weight = Parent(), torch.randn(4, 4)
    parameter = model.child.weight
    report = load(model, {"w": weight}, strict=False)
    assert model.child.weight is parameter
    assert torch.equal(parameter, weight)
    assert (report.loaded, report.missing, report.coverage) == (("child.weight",), (), 100)


def test_attributes_that_a_load_sets_are_set_and_reported() -> None:
    source, model = Scaled(4, 4), Scaled(4, 4)
    source.scale = 2.5
    report = load(model, source.state_dict(), strict=True)
    assert model.scale == 2.5
    assert report.extras == ("scale",)


@pytest.mark.parametrize("extra", [torch.arange(3), {"a": [1, 2]}, "text"])
@pytest.mark.parametrize("in_file", [False, True])
def test_extra_state_is_given_to_its_module(extra: Any, in_file: bool, tmp_path: Path) -> None:
    source, model = (nn.ModuleDict({"body": Extra(2, 2)}) for _ in range(2))
    source.body.extra = extra
    state: Any = source.state_dict()
    if in_file:
        torch.save(state, tmp_path / "w.pt")
        state = tmp_path / "w.pt"
    report = load(model, state, strict=True)
    assert type(model.body.extra) is type(extra)
    assert str(model.body.extra) == str(extra)
    assert report.extras == ("body._extra_state",)
    assert "body._extra_state" not in report.loaded
    assert "1 extras" in report.summary


def test_extra_state_that_nobody_takes_or_gives_is_reported() -> None:
    source = nn.ModuleDict({"body": Extra(2, 2)}).state_dict()
    plain = nn.ModuleDict({"body": nn.Linear(2, 2)})
    report = load(plain, source)
    assert (report.unexpected, report.extras) == (("body._extra_state",), ())
    with pytest.raises(RuntimeError, match=r"1 unexpected: body\._extra_state"):
        load(plain, source, strict=True)
    model = nn.ModuleDict({"body": Extra(2, 2)})
    assert load(model, plain.state_dict()).missing == ("body._extra_state",)
    assert (
        load(model, {"other": torch.ones(1)}, allow_empty=True).missing[-1] == "body._extra_state"
    )


def test_extra_states_are_taken_back_after_an_error() -> None:
    source, model = (nn.Sequential(Extra(2, 2), Extra(2, 2)) for _ in range(2))
    source[0].extra, source[1].extra = {"a": 1}, "broken"
    model[0].extra = {"old": 0}
    before = values(model)
    with pytest.raises(RuntimeError, match="broken"):
        load(model, source.state_dict())
    assert model[0].extra == {"old": 0}
    assert_same(model, before)


def test_an_extra_state_in_a_file_may_not_be_code(tmp_path: Path) -> None:
    source = Extra(2, 2)
    source.extra = Path("x")  # any class that torch does not know
    torch.save(source.state_dict(), tmp_path / "w.pt")
    with pytest.raises(ValueError, match="nothing in it was executed"):
        load(Extra(2, 2), tmp_path / "w.pt")


def test_other_values_of_a_state_dict_are_reported() -> None:
    report = load(nn.Linear(2, 2), nn.Linear(2, 2).state_dict() | {"epoch": 3})
    assert report.unexpected == ("epoch",)


class Counting(nn.Linear):
    """Its extra state goes into a tensor."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.count = nn.Parameter(torch.zeros(1), requires_grad=False)

    def get_extra_state(self) -> Any:
        return float(self.count)

    def set_extra_state(self, state: Any) -> None:
        self.count.fill_(state)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_extra_state_that_goes_into_a_loaded_tensor_is_refused(device: str) -> None:
    state = Counting().state_dict() | {"_extra_state": 7.0}
    with torch.device(device):
        model = Counting()
    before = dict(model.named_parameters())
    with pytest.raises(ValueError, match=r"Counting.*fill_.*still to be loaded"):
        load(model, state)  # torch's load would end with 7
    assert all(tensor is before[name] for name, tensor in model.named_parameters())
    assert model.count.is_meta or model.count == 0
    del state["count"]
    if device == "meta":
        with pytest.raises(ValueError, match="without values"):
            load(model, state, init_missing=None)
    else:
        load(model, state, init_missing=None)
        assert model.count == 7


class Related(nn.Linear):
    """Its extra state is about its weight, and replaces, reads or only asks about it."""

    def __init__(self, how: str) -> None:
        super().__init__(2, 2)
        self.how = how
        self.scale: Any = torch.ones(2, 2)

    def get_extra_state(self) -> Any:
        return 2.0

    def set_extra_state(self, state: Any) -> None:
        if self.how == "replaces":
            self.weight = nn.Parameter(torch.full((2, 2), state))
        elif self.how == "reads":
            self.scale = self.weight.detach() * state
        elif self.how == "hides":
            with suppress(Exception):
                self.scale = self.weight.detach() * state
        else:
            self.scale = torch.full_like(self.weight.detach(), state)


@pytest.mark.parametrize("how", ["replaces", "reads", "hides"])
def test_extra_state_made_of_loaded_tensors_is_refused(how: str) -> None:
    model = Related(how)
    weight, scale, before = model.weight, model.scale, values(model)
    with pytest.raises(ValueError, match=r"Related.*comes before its tensors"):
        load(model, Related(how).state_dict())
    assert model.weight is weight
    assert model.scale is scale
    assert_same(model, before)


def test_extra_state_may_ask_what_a_loaded_tensor_is_like() -> None:
    model, source = Related("asks"), Related("asks")
    load(model, source.state_dict(), strict=True)
    assert torch.equal(model.weight, source.weight)
    assert torch.equal(model.scale, torch.full((2, 2), 2.0))


class Halfway(nn.Linear):
    """Takes its extra state piece by piece, and cannot say what it had."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.first, self.names = 1, ["a"]
        self.register_buffer("seen", torch.zeros(2), persistent=False)

    def set_extra_state(self, state: Any) -> None:
        self.first = state["first"]
        self.names.append("b")
        self.seen += 1
        self.second = state["second"]


def test_an_extra_state_that_fails_halfway_is_taken_back() -> None:
    model = nn.Sequential(Halfway(), Halfway())
    names, before = model[0].names, values(model)
    state = model.state_dict() | {
        "0._extra_state": {"first": 2, "second": 3},
        "1._extra_state": {"first": 2},
    }
    with pytest.raises(KeyError, match="second"):
        load(model, state)
    for module in model:
        assert module.first == 1
        assert module.names == ["a"]
        assert not hasattr(module, "second")
        assert torch.equal(module.seen, torch.zeros(2))
    assert model[0].names is names
    assert_same(model, before)
    state["1._extra_state"] = state["0._extra_state"]
    load(model, state)
    assert [module.second for module in model] == [3, 3]


def test_modules_that_swap_their_tensors_may_have_hooks() -> None:
    model, state = nn.Linear(2, 2), nn.Linear(2, 2).state_dict()
    model._register_load_state_dict_pre_hook(lambda *_: None)
    usual = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        load(model, state, strict=True)
        assert torch.__future__.get_swap_module_params_on_conversion()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(usual)
    assert_same(model, dict(state))


def test_hooks_after_the_load_are_run_inner_ones_first() -> None:
    model, state = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2)).state_dict()
    seen: list[Any] = []
    for module in (model, model[0]):
        module.register_load_state_dict_post_hook(
            lambda m, keys: seen.append(
                (m, keys.missing_keys, torch.equal(model[0].weight, state["0.weight"]))
            )
        )
    del state["0.bias"]
    load(model, state)
    assert seen == [(model[0], ["0.bias"], True), (model, ["0.bias"], True)]


def test_what_a_hook_replaces_after_the_load_is_not_reported_as_loaded() -> None:
    model = nn.Linear(2, 2)

    def forget(module: nn.Module, _: Any) -> None:
        module.weight = nn.Parameter(torch.zeros(2, 2))

    model.register_load_state_dict_post_hook(forget)
    report = load(model, nn.Linear(2, 2).state_dict())
    assert (report.loaded, report.missing) == (("bias",), ("weight",))
    assert report.coverage == pytest.approx(100 * 2 / 6)


def test_a_recurrent_layer_with_a_hook_keeps_its_weights() -> None:
    model, state = nn.LSTM(2, 3), nn.LSTM(2, 3).state_dict()
    model._register_load_state_dict_pre_hook(lambda *_: None)
    load(model, state, strict=True)
    assert all(a is b for a, b in zip(model._flat_weights, model.parameters(), strict=True))
    assert_same(model, dict(state))


# ---- What cannot be followed ---------------------------------------------------------------------


class Filling(nn.Linear):
    """Writes into its weight by itself."""

    def _load_from_state_dict(self, state: Any, prefix: str, *_: Any) -> None:
        self.weight.data.copy_(state[prefix + "weight"])


class Replacing(nn.Linear):
    def _load_from_state_dict(self, state: Any, prefix: str, *_: Any) -> None:
        self.weight.data = state[prefix + "weight"].clone()


class Scaling(nn.Linear):
    """Writes into the source."""

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        state[prefix + "weight"].mul_(2)
        super()._load_from_state_dict(state, prefix, *rest)


class Reading(nn.Linear):
    """Averages what it has and what it gets."""

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        state[prefix + "weight"] = (state[prefix + "weight"].to(self.weight) + self.weight) / 2
        super()._load_from_state_dict(state, prefix, *rest)


class Ignoring(nn.Linear):
    def _load_from_state_dict(self, *_: Any) -> None:
        pass


class Growing(nn.Linear):
    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        self.register_buffer("extra", torch.ones(2))
        super()._load_from_state_dict(state, prefix, *rest)


class Complaining(nn.Linear):
    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state, prefix, *rest)
        rest[-1].append("too old")


class Failing(nn.Linear):
    def _load_from_state_dict(self, state: Any, prefix: str, *_: Any) -> None:
        state[prefix + "gain"]


class Collecting(nn.Linear):
    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.seen: list[str] = []

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        self.seen.append(prefix)
        super()._load_from_state_dict(state, prefix, *rest)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Filling, "writes into a tensor of the model"),
        (Replacing, "incompatible tensor type"),
        (Scaling, "writes into a tensor of the model or of the source"),
        (Reading, "depends on values of the model"),
        (Ignoring, "it does not take body.weight"),
        (Growing, "extra: made by a module"),
        (Complaining, "too old"),
        (Failing, "KeyError: 'body.gain'"),
        (Collecting, "it changes seen"),
    ],
)
def test_a_load_path_that_cannot_be_followed_is_refused_by_name(
    kind: type[nn.Linear], message: str
) -> None:
    model = nn.ModuleDict({"first": nn.Linear(2, 2), "body": kind(2, 2)})
    state = nn.ModuleDict({"first": nn.Linear(2, 2), "body": nn.Linear(2, 2)}).state_dict()
    given = {name: value.clone() for name, value in state.items()}
    before, attributes = values(model), {**vars(model["body"])}
    with pytest.raises(ValueError, match=f"(?s)body.*{re.escape(message)}"):
        load(model, state)
    assert_same(model, before)
    assert {**vars(model["body"])} == attributes
    assert all(torch.equal(state[name], value) for name, value in given.items())


def test_a_load_state_dict_of_the_models_own_is_refused() -> None:
    class Own(nn.Linear):
        def load_state_dict(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    with pytest.raises(ValueError, match="Own has a load_state_dict of its own"):
        load(Own(2, 2), nn.Linear(2, 2).state_dict())


def test_other_shapes_behind_hooks_are_adapted_and_reported() -> None:
    source, model = (
        nn.Sequential(nn.Conv2d(c, 4, 3), nn.Linear(4, n)) for c, n in ((3, 5), (1, 2))
    )
    model.register_load_state_dict_pre_hook(
        lambda _, state, *__: state.update({"0.weight": state.pop("stem")})
    )
    state = source.state_dict()
    state["stem"] = state.pop("0.weight")
    report = load(model, state)
    torch.testing.assert_close(model[0].weight, source[0].weight.sum(1, keepdim=True))
    assert [row.name for row in report.adapted] == ["0.weight", "1.weight", "1.bias"]


# ---- Values that a model's tensors cannot hold ---------------------------------------------------


def test_what_cannot_be_adapted_is_known_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: Any, **__: Any) -> Tensor:
        raise MemoryError

    model = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 4, 3))
    before = values(model)
    state = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(3, 4, 3)).state_dict()
    state["0.bias"] = torch.ones(1)
    monkeypatch.setattr(adapt, "with_channels", fails)
    with pytest.raises(MemoryError):
        load(model, state)
    assert_same(model, before)


def test_fractions_are_not_put_into_whole_numbers() -> None:
    norm = nn.BatchNorm1d(2)
    state = norm.state_dict() | {"num_batches_tracked": torch.tensor(3.5)}
    with pytest.raises(
        ValueError, match=r"num_batches_tracked is torch\.int64, but torch\.float32"
    ):
        load(norm, state)
    load(norm, state | {"num_batches_tracked": torch.tensor(3.0)})
    assert norm.num_batches_tracked == 3


def test_values_that_overflow_in_the_dtype_of_the_model_are_not_finite() -> None:
    model, state = nn.Linear(2, 2, bias=False).half(), {"weight": torch.tensor([[1e5, 1], [2, 3]])}
    with pytest.raises(ValueError, match="NaN or infinite values in 1 tensors: weight"):
        load(model, state, nan="refuse")
    assert load(model, state).nonfinite == {"weight": 1}


def test_tensors_that_share_memory_must_agree() -> None:
    whole = torch.zeros(6)

    def pair(one: Tensor, other: Tensor) -> nn.Module:
        return nn.ParameterDict({"a": nn.Parameter(one), "b": nn.Parameter(other)})

    ones, twos = torch.ones(4), torch.full((4,), 2.0)
    with pytest.raises(ValueError, match="a and b share a part of their memory"):
        load(pair(whole[:4], whole[2:]), {"a": ones, "b": twos})
    assert not whole.any()
    square = torch.zeros(2, 3)
    value = torch.randn(2, 3)
    with pytest.raises(ValueError, match="a and b are one memory in the model, but differ"):
        load(pair(square, square.t()), {"a": value, "b": torch.ones(3, 2)})
    assert not square.any()
    load(pair(square, square.t()), {"a": value, "b": value.t()})
    assert torch.equal(square, value)


def test_a_head_that_nothing_makes_anew_is_mismatched() -> None:
    source, model = nn.Linear(4, 3), nn.Linear(4, 2)
    report = load(model, source.state_dict(), init_missing=None, allow_empty=True)
    assert [row.name for row in report.mismatched] == ["weight", "bias"]
    assert report.adapted == ()


def test_views_of_one_tensor_on_the_meta_device_are_both_loaded() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = nn.Parameter(model[0].weight.data)
    weight = torch.randn(2, 2)
    load(model, {"0.weight": weight})
    assert all(torch.equal(layer.weight, weight) for layer in model)
