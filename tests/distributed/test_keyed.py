"""``pyinit.keyed``: which numbers a model's own initialization gets, what is refused, and what is said at the end."""

import operator
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

import pyinit
from pyinit import initializers
from pyinit._random.rng import stream_of

SHAPE = (24, 20)
CONV = (12, 6, 3, 3)

# By function: its arguments, the initializer that is the same, and the shape that both fill.
FUNCTIONS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[int, ...]]] = {
    "normal_": ({"std": 0.02}, {"name": "normal", "std": 0.02}, SHAPE),
    "uniform_": ({"a": -1.0, "b": 2.0}, {"name": "uniform", "a": -1.0, "b": 2.0}, SHAPE),
    "trunc_normal_": (
        {"std": 0.1, "a": -0.2, "b": 0.1},
        {"name": "trunc_normal", "std": 0.1, "a": -0.2, "b": 0.1},
        SHAPE,
    ),
    "xavier_uniform_": ({"gain": 2.0}, {"name": "xavier_uniform", "gain": 2.0}, SHAPE),
    "xavier_normal_": ({}, {"name": "xavier_normal"}, SHAPE),
    "kaiming_uniform_": ({"a": 5**0.5}, {"name": "kaiming_uniform", "a": 5**0.5}, CONV),
    "kaiming_normal_": (
        {"mode": "fan_out", "nonlinearity": "relu"},
        {"name": "kaiming_normal", "mode": "fan_out", "nonlinearity": "relu"},
        CONV,
    ),
    "lecun_normal_": ({}, {"name": "lecun_normal"}, SHAPE),
    "lecun_uniform_": ({}, {"name": "lecun_uniform"}, SHAPE),
    "orthogonal_": ({"gain": 1.5}, {"name": "orthogonal", "gain": 1.5}, SHAPE),
    "delta_orthogonal_": ({}, {"name": "delta_orthogonal"}, CONV),
    "sparse_": ({"sparsity": 0.4}, {"name": "sparse", "sparsity": 0.4}, SHAPE),
    "constant_": ({"val": 0.5}, {"name": "constant", "val": 0.5}, SHAPE),
    "dirac_": ({}, {"name": "dirac"}, CONV),
    "eye_": ({}, {"name": "eye"}, SHAPE),
    "hadamard_": ({}, {"name": "hadamard"}, SHAPE),
}


class One(nn.Module):
    """A model of one parameter."""

    def __init__(self, *shape: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full(shape, torch.nan, dtype=dtype))


def expected(
    shape: tuple[int, ...], initializer: Any, dtype: torch.dtype = torch.float32
) -> Tensor:
    """What ``initialize_`` gives to the parameter of ``One``."""
    model = One(*shape, dtype=dtype)
    if isinstance(initializer, dict):
        initializer = initializers.from_dict(initializer)
    pyinit.initialize_(model, rules={"weight": initializer}, seed=7)
    return model.weight.detach()


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters()}


def assert_same(one: nn.Module, other: nn.Module) -> None:
    first, second = values(one), values(other)
    assert first.keys() == second.keys()
    assert not [name for name in first if not torch.equal(first[name], second[name])]


@pytest.mark.parametrize(
    ("library", "name"),
    [(one, name) for one in (torch.nn.init, pyinit) for name in FUNCTIONS if hasattr(one, name)],
    ids=lambda value: getattr(value, "__name__", value),
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_a_first_call_gives_what_initialize_gives(
    library: Any, name: str, dtype: torch.dtype
) -> None:
    function = getattr(library, name)
    arguments, initializer, shape = FUNCTIONS[name]
    model = One(*shape, dtype=dtype)
    with pyinit.keyed(model, 7, strict=True):
        assert function(model.weight, **arguments) is model.weight
    assert torch.equal(model.weight, expected(shape, initializer, dtype))


def test_each_further_call_that_draws_continues_in_the_next_stream() -> None:
    model = One(*SHAPE)
    stream = stream_of("weight")
    with pyinit.keyed(model, 7):
        for further in range(3):
            nn.init.normal_(model.weight)
            nn.init.zeros_(model.weight[0])  # draws nothing
            whole = pyinit.fill.normal(torch.empty(SHAPE), key=7, stream=(stream + further) % 2**64)
            assert torch.equal(model.weight[1:], whole[1:])


@pytest.mark.parametrize("name", ["trunc_normal_", "orthogonal_", "sparse_"])
def test_functions_of_several_draws_are_one_call(name: str) -> None:
    model = One(*SHAPE)
    with pyinit.keyed(model, 7):
        getattr(nn.init, name)(model.weight, **FUNCTIONS[name][0])
        nn.init.uniform_(model.weight)
    second = pyinit.fill.uniform(torch.empty(SHAPE), key=7, stream=stream_of("weight") + 1)
    assert torch.equal(model.weight, second)


def test_values_depend_on_nothing_else() -> None:
    model, other = mlp(), mlp()
    other.insert(0, nn.Identity())
    wider = nn.Sequential(*mlp()[:2], nn.Linear(8, 5))
    with pyinit.keyed(model, 0):
        model.apply(lambda m: m.reset_parameters() if hasattr(m, "reset_parameters") else None)
    torch.manual_seed(77)
    with pyinit.keyed(wider, 0), pyinit.rng("torch"):
        wider[2].reset_parameters()
        wider[0].reset_parameters()
    assert torch.equal(model[0].weight, wider[0].weight)
    # The bounds of both are the same, since their fans are.
    assert torch.equal(model[2].weight, wider[2].weight[:3])


def test_a_generator_of_the_calls_is_left_alone() -> None:
    model, other = One(*SHAPE), One(*SHAPE)
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    with pyinit.keyed(model, 7):
        nn.init.normal_(model.weight, generator=generator)
        model.weight.data.exponential_(generator=generator)
    with pyinit.keyed(other, 7):
        nn.init.normal_(other.weight)
        other.weight.data.exponential_()
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(model.weight, other.weight)


def test_calls_on_other_tensors_are_as_always() -> None:
    def draw() -> list[Tensor]:
        torch.manual_seed(5)
        made = [
            nn.init.trunc_normal_(torch.empty(50), std=0.1),
            nn.init.orthogonal_(torch.empty(5, 7)),
            torch.empty(9000).normal_(),
            torch.empty(30, dtype=torch.float64).exponential_(2.0),
            nn.Linear(4, 5).weight.detach(),
            pyinit.uniform_(torch.empty(10)),
            pyinit.orthogonal_many_([torch.empty(4, 4)])[0],
        ]
        return [*made, torch.get_rng_state()]

    usual = draw()
    model = One(3)
    with pyinit.keyed(model, 7):
        inside = draw()
        model.weight.data.zero_()
    assert all(map(torch.equal, usual, inside))


def test_a_keyed_call_leaves_torchs_generator_alone() -> None:
    model = One(*SHAPE)
    before = torch.get_rng_state()
    with pyinit.keyed(model, 7):
        for name in ("normal_", "orthogonal_", "trunc_normal_"):
            getattr(nn.init, name)(model.weight)
        model.weight.data.random_()
        model.weight.data.cauchy_()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(5, 3),
        lambda: nn.LSTM(4, 5, num_layers=2, bidirectional=True),
        lambda: nn.MultiheadAttention(8, 2),
        lambda: nn.MultiheadAttention(8, 2, kdim=4, vdim=6),
        lambda: nn.Embedding(7, 3, padding_idx=2),
        lambda: nn.BatchNorm2d(4),
        lambda: nn.Conv2d(4, 6, 3, groups=2),
        lambda: nn.Bilinear(3, 4, 5),
    ],
    ids=[
        "linear",
        "lstm",
        "attention",
        "attention of parts",
        "embedding",
        "norm",
        "conv",
        "bilinear",
    ],
)
def test_modules_reset_themselves(make: Callable[[], Any]) -> None:
    def reset(module: Any) -> None:
        getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))()

    first, second = make(), make()
    for seed, module in enumerate((first, second)):
        torch.manual_seed(seed)
        with pyinit.keyed(module, 7):
            for own in reversed([*module.modules()]):
                if hasattr(own, "reset_parameters") or hasattr(own, "_reset_parameters"):
                    reset(own)
    assert_same(first, second)
    torch.manual_seed(0)
    usual = make()
    for name, tensor in usual.named_parameters():
        assert torch.equal(first.get_parameter(name) == 0, tensor == 0), name


def test_wrapped_models_get_the_plain_models_numbers(compiler: Any) -> None:
    def reset(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()

    plain = mlp()
    with pyinit.keyed(plain, 7):
        reset(plain)
    inner = mlp()
    inner[2] = checkpoint_wrapper(inner[2])
    for wrapped in (compiler(mlp()), checkpoint_wrapper(mlp()), nn.DataParallel(mlp()), inner):
        with pyinit.keyed(wrapped, 7, strict=True):
            reset(wrapped)
        assert all(map(torch.equal, wrapped.parameters(), plain.parameters()))


def test_tied_parameters_have_their_first_name() -> None:
    model = nn.Sequential(nn.Linear(5, 5, bias=False), nn.Linear(5, 5, bias=False))
    model[1].weight = model[0].weight
    with pyinit.keyed(model, 7):
        nn.init.normal_(model[1].weight)
    assert torch.equal(
        model[0].weight, pyinit.fill.normal(torch.empty(5, 5), key=7, stream=stream_of("0.weight"))
    )


def test_parameters_at_the_same_memory_are_one() -> None:
    model = nn.Sequential(nn.Linear(5, 5, bias=False), nn.Linear(5, 5, bias=False))
    model[1].weight = nn.Parameter(model[0].weight.data)
    with pyinit.keyed(model, 7, strict=True):
        nn.init.normal_(model[1].weight)
        first = pyinit.fill.normal(torch.empty(5, 5), key=7, stream=stream_of("0.weight"))
        assert torch.equal(model[0].weight, first)
        nn.init.normal_(model[0].weight)
    assert not torch.equal(model[0].weight, first)


def test_parameters_in_one_memory_are_told_apart() -> None:
    model = nn.Module()
    flat = torch.empty(10, 8)
    model.left, model.right = nn.Parameter(flat[:, :3]), nn.Parameter(flat[:, 3:])
    with pyinit.keyed(model, 7, strict=True):
        nn.init.normal_(model.right)
        flat[:, :3].normal_()
    for name, shape in (("left", (10, 3)), ("right", (10, 5))):
        whole = pyinit.fill.normal(torch.empty(shape), key=7, stream=stream_of(name))
        assert torch.equal(model.get_parameter(name), whole)


# ---- what is said at the end --------------------------------------------------------------------


def test_what_no_call_has_reached_is_named() -> None:
    model = mlp()
    model[0].bias.requires_grad_(False)
    with (
        pytest.warns(UserWarning, match=r"not? .*2 of .*: 0\.weight, 2\.bias") as caught,
        pyinit.keyed(model, 7),
    ):
        nn.init.normal_(model[2].weight)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "write",
    [
        nn.init.zeros_,
        lambda w: w.data.fill_(1.0),
        lambda w: w.data.zero_(),
        lambda w: w.data.copy_(torch.ones(3, 3)),
        lambda w: w.data.__setitem__(slice(None), 0.5),
        lambda w: torch.no_grad()(w.mul_)(2.0),
        lambda w: torch.no_grad()(torch.add)(w, 1.0, out=w.detach()),
        lambda w: w[:1].data.normal_(),
        lambda w: pyinit.fill.normal(w, key=0),
        lambda w: pyinit.orthogonal_many_([w]),
    ],
    ids=["zeros_", "fill_", "zero_", "copy_", "setitem", "mul_", "out", "view", "fill", "many"],
)
def test_what_writes_reaches(write: Callable[[Tensor], object]) -> None:
    model = One(3, 3)
    with pyinit.keyed(model, 7, strict=True):
        write(model.weight)


def test_initialize_in_the_block_reaches() -> None:
    model = mlp()
    with pyinit.keyed(model, 7, strict=True):
        pyinit.initialize_(model, "xavier", seed=1)


def test_strict_raises_and_ends() -> None:
    model = mlp()
    with pytest.raises(RuntimeError, match=r"4 of the trainable parameters.*0\.weight"):  # noqa: SIM117
        with pyinit.keyed(model, 7, strict=True):
            pass
    with pyinit.keyed(model, 7, strict=True):  # it may be keyed again
        model.apply(lambda m: m.reset_parameters() if hasattr(m, "reset_parameters") else None)


@pytest.mark.parametrize("strict", [False, True])
def test_an_error_in_the_block_is_passed_on(strict: bool) -> None:
    model = mlp()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(KeyError, match="mine"), pyinit.keyed(model, 7, strict=strict):
            raise KeyError("mine")
    torch.manual_seed(0)
    first = nn.init.normal_(model[0].weight).detach().clone()
    torch.manual_seed(0)
    assert torch.equal(first, torch.empty(8, 6).normal_())


def test_copies_of_what_torch_has_drawn_are_named() -> None:
    def fill(layers: nn.Sequential) -> None:
        layers[0].weight.data.copy_(torch.ones(3, 3))
        layers[1].weight.data.copy_(torch.randn(3, 3))
        layers[2].weight.data[1:] = torch.randn(2, 3)
        layers[3].weight.data.copy_(torch.ones(3, 3))
        layers[4].weight.data.copy_(torch.randn(3, 3))
        nn.init.normal_(layers[4].weight)

    model = nn.Sequential(*(nn.Linear(3, 3, bias=False) for _ in range(5)))
    with (
        pytest.warns(UserWarning, match=r"added to 2 of .*: 1\.weight, 2\.weight$"),
        pyinit.keyed(model, 7),
    ):
        fill(model)


@pytest.mark.parametrize(
    "add",
    [
        lambda weight: weight.add_(torch.randn(3)),
        lambda weight: weight.data.sub_(torch.randn(3), alpha=0.1),
        lambda weight: operator.iadd(weight, torch.randn(3)),
        lambda weight: operator.isub(weight.data, torch.randn(3)),
    ],
    ids=["add_", "sub_", "+=", "-="],
)
def test_what_torch_has_drawn_and_is_added_is_named(add: Callable[[Tensor], object]) -> None:
    def fill(model: One) -> None:
        nn.init.normal_(model.weight)
        with torch.no_grad():
            add(model.weight)

    model = One(3)
    with pytest.warns(UserWarning, match=r"added to 1 of .*: weight$"), pyinit.keyed(model, 7):
        fill(model)


def test_to_add_is_not_to_initialize() -> None:
    model = One(3)
    with pytest.warns(UserWarning, match="no call in the block"), pyinit.keyed(model, 7):
        model.weight.data.add_(1.0)


def test_copies_of_what_torch_has_drawn_are_an_error_where_it_is_strict() -> None:
    model = One(3)
    with pytest.raises(RuntimeError, match=r"added to 1 of .*: weight$"):  # noqa: SIM117
        with pyinit.keyed(model, 7, strict=True):
            model.weight.data.copy_(torch.randn(3))


def test_a_replaced_parameter_is_named() -> None:
    model = One(3)
    keyed = pyinit.keyed(model, 7, strict=True)
    keyed.__enter__()
    nn.init.normal_(model.weight)
    model.weight = nn.Parameter(torch.zeros(3))
    with pytest.raises(RuntimeError, match=r": weight$"):
        keyed.__exit__(None, None, None)


@pytest.mark.parametrize(
    "std", [2, np.float64(2), np.float32(2), torch.tensor(2.0)], ids=lambda std: type(std).__name__
)
def test_a_method_takes_the_numbers_that_torch_takes(std: Any) -> None:
    model = One(*SHAPE)
    with pyinit.keyed(model, 7):
        model.weight.data.normal_(0, std)
    assert torch.equal(model.weight, expected(SHAPE, initializers.Normal(std=2.0)))


def test_a_refused_call_draws_no_stream() -> None:
    model = One(*SHAPE)
    with pyinit.keyed(model, 7):
        with pytest.raises(RuntimeError):
            nn.init.normal_(model.weight, std=-1.0)
        with pytest.raises(RuntimeError):
            model.weight.normal_()  # a leaf that requires grad
        with pytest.raises(TypeError):
            model.weight.data.normal_("x")
        assert model.weight.isnan().all()
        nn.init.normal_(model.weight, std=0.02)
    assert torch.equal(model.weight, expected(SHAPE, initializers.Normal(std=0.02)))


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "error"),
    [(-1, ValueError), (2**64, ValueError), (1.0, TypeError), (True, TypeError), (None, TypeError)],
)
def test_seeds_are_checked(seed: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="seed must be"):
        pyinit.keyed(mlp(), seed)


def test_all_seeds_are_taken() -> None:
    model = One(3)
    for seed in (0, 2**64 - 1):
        with pyinit.keyed(model, seed):
            nn.init.normal_(model.weight)
        whole = pyinit.fill.normal(torch.empty(3), key=seed, stream=stream_of("weight"))
        assert torch.equal(model.weight, whole)


def refused(model: Any, message: str, error: type[Exception] = ValueError) -> None:
    with pytest.raises(error, match=message), pyinit.keyed(model, 7):
        raise AssertionError("not refused")
    assert "normal_" not in vars(Tensor)


def test_no_model_is_refused() -> None:
    refused([torch.zeros(3)], "model must be a torch.nn.Module, got list", TypeError)


def test_a_model_without_parameters_is_refused() -> None:
    refused(nn.ReLU(), "with parameters, got ReLU")


def test_the_meta_device_is_refused() -> None:
    model = mlp()
    model[2].to("meta")
    model[2]._is_hf_initialized = True
    refused(model, r"2 on the meta device: 2\.weight, 2\.bias; call model\.to_empty")
    assert model[2]._is_hf_initialized  # nothing has changed


def test_a_lazy_model_is_refused() -> None:
    refused(nn.Sequential(nn.LazyLinear(3)), r"0\.weight has no shape yet")


def test_parameters_without_places_of_their_own_are_refused() -> None:
    model = One(3)
    model.weight = nn.Parameter(torch.zeros(3).expand(4, 3))
    refused(model, "parameter weight has elements that share memory")
    model.weight = nn.Parameter(torch.eye(3).to_sparse())
    refused(model, "parameter weight is not strided")


def test_the_first_fsdp(process_group: None) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel  # noqa: PLC0415

    model = FullyShardedDataParallel(mlp(), use_orig_params=True, device_id=torch.device("cpu"))
    plain = mlp()
    for each in (model, plain):
        with pyinit.keyed(each, 7, strict=True):
            for module in each.modules():
                if isinstance(module, nn.Linear):
                    module.reset_parameters()
    assert all(map(torch.equal, model.parameters(), plain.parameters()))


def test_a_model_that_is_keyed_is_refused() -> None:
    model = mlp()
    sharing = nn.Sequential(model[2])
    twin = One(8, 6)
    twin.weight = nn.Parameter(model[0].weight.data)
    with pyinit.keyed(model, 7):
        for other, name in ((model, "0.weight"), (sharing, "0.weight"), (twin, "weight")):
            with (
                pytest.raises(ValueError, match=f"keyed already.*: {name}"),
                pyinit.keyed(other, 8),
            ):
                pass
        model.apply(lambda m: m.reset_parameters() if hasattr(m, "reset_parameters") else None)


# ---- several at once ----------------------------------------------------------------------------


def test_other_models_may_be_keyed_inside() -> None:
    one, other = One(*SHAPE), One(*SHAPE)
    with pyinit.keyed(one, 1):
        with pyinit.keyed(other, 2):
            nn.init.normal_(one.weight)
            nn.init.normal_(other.weight)
        again = one.weight.detach().clone()
        nn.init.normal_(one.weight)
        assert not torch.equal(one.weight, again)
    for seed, first in ((1, again), (2, other.weight)):
        whole = pyinit.fill.normal(torch.empty(SHAPE), key=seed, stream=stream_of("weight"))
        assert torch.equal(first, whole)


def test_models_of_several_threads() -> None:
    models = [One(*SHAPE) for _ in range(8)]
    barrier = threading.Barrier(len(models))
    failed = []

    def run(seed: int) -> None:
        model = models[seed]
        whole = pyinit.fill.normal(torch.empty(SHAPE), key=seed, stream=stream_of("weight"))
        barrier.wait(30)
        for _ in range(20):
            with pyinit.keyed(model, seed):
                nn.init.normal_(model.weight)
                nn.init.normal_(torch.empty(10))
            if not torch.equal(model.weight, whole):
                failed.append(seed)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(len(models))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    assert "normal_" not in vars(Tensor)
