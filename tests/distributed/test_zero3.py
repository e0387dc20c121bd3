"""Parameters that ZeRO-3 has partitioned get, over all ranks, what the plain parameter gets."""

import importlib.util
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from on_ranks import fake_rank, on_ranks
from torch import Tensor, nn
from zero3 import Status, free, gathered, held_by_ranks, partition, partition_all

import pyinit
from pyinit import initialize_
from pyinit._torch import views
from pyinit.initializers import Centred, Constant, Normal, Orthogonal, Padded, Parts

FILLS: dict[str, tuple[tuple[int, ...], Callable[[Any], Any]]] = {
    "uniform": ((5, 7), partial(pyinit.uniform_, a=-1.0, b=2.0)),
    "normal": ((11,), pyinit.normal_),
    "trunc_normal": ((3, 5, 2), pyinit.trunc_normal_),
    "constant": ((5, 7), partial(pyinit.constant_, val=0.3)),
    "ones": ((4,), pyinit.ones_),
    "zeros": ((4,), pyinit.zeros_),
    "xavier_uniform": ((5, 7), pyinit.xavier_uniform_),
    "xavier_normal, groups": ((4, 3, 3), partial(pyinit.xavier_normal_, groups=2)),
    "kaiming_uniform": ((5, 7, 3), pyinit.kaiming_uniform_),
    "kaiming_normal, transposed": ((5, 7), partial(pyinit.kaiming_normal_, transposed=True)),
    "lecun_normal": ((5, 7), pyinit.lecun_normal_),
    "variance_scaling": ((3, 4, 5), partial(pyinit.variance_scaling_, batch_dims=1)),
    "eye": ((3, 5), pyinit.eye_),
    "dirac": ((4, 2, 3), partial(pyinit.dirac_, groups=2)),
    "hadamard": ((6, 3), pyinit.hadamard_),
    "hadamard, wide": ((2, 3, 3), pyinit.hadamard_),
    "sparse": ((7, 3), partial(pyinit.sparse_, sparsity=0.4)),
    "one element": ((1, 1), pyinit.xavier_uniform_),
    "no elements": ((0,), pyinit.normal_),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("name", FILLS)
def test_each_rank_writes_its_block_of_the_flat_parameter(
    name: str, ranks: int, dtype: torch.dtype
) -> None:
    shape, fill = FILLS[name]

    def make() -> nn.Parameter:
        parameter = nn.Parameter(torch.empty(shape, dtype=dtype))
        partition(parameter)
        torch.manual_seed(5)
        assert fill(parameter) is parameter
        assert parameter.shape == (0,)
        return parameter

    torch.manual_seed(5)
    whole = fill(torch.empty(shape, dtype=dtype))
    assert torch.equal(gathered(held_by_ranks(ranks, make)), whole)


def test_the_rank_is_that_in_the_parameters_own_process_group() -> None:
    with fake_rank(2, 4):
        parameter: Any = nn.Parameter(torch.empty(9))
        partition(parameter, torch.distributed.new_group([1, 2]))
        pyinit.normal_(parameter, generator=torch.Generator().manual_seed(1))
    whole = pyinit.normal_(torch.empty(9), generator=torch.Generator().manual_seed(1))
    assert torch.equal(parameter.ds_tensor[:4], whole[5:])


def test_fans_are_those_of_the_whole() -> None:
    with fake_rank(0, 2):
        parameter = nn.Parameter(torch.empty(6, 4))
        partition(parameter)
        assert pyinit.init._calculate_fan_in_and_fan_out(parameter) == (4, 6)


@pytest.mark.parametrize(
    ("shape", "fill", "name"),
    [
        ((5, 5), pyinit.orthogonal_, "tensor"),
        ((4, 2, 3), pyinit.delta_orthogonal_, "tensor"),
        ((5, 5), lambda one: pyinit.orthogonal_many_([torch.empty(3, 3), one]), r"tensors\[1\]"),
    ],
)
def test_what_processes_would_have_to_share_is_refused(
    shape: tuple[int, ...], fill: Callable[[Any], Any], name: str
) -> None:
    with fake_rank(0, 2):
        parameter: Any = nn.Parameter(torch.zeros(shape))
        partition(parameter)
        state = torch.get_rng_state()
        with pytest.raises(TypeError, match=rf"^{name} must not be partitioned .*GatheredParam"):
            fill(parameter)
    assert not parameter.ds_tensor.any()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("fill", [pyinit.normal_, pyinit.uniform_, pyinit.trunc_normal_])
@pytest.mark.parametrize("count", [6, 6000])
def test_torchs_own_numbers_are_refused(fill: Callable[[Any], Any], count: int) -> None:
    """torch would fill the empty tensor, and say nothing."""
    with fake_rank(0, 2), pyinit.rng("torch"):
        parameter: Any = nn.Parameter(torch.zeros(count))
        partition(parameter)
        with pytest.raises(ValueError, match="torch would write nothing"):
            fill(parameter)
    assert not parameter.ds_tensor.any()


def test_torchs_errors_are_torchs() -> None:
    with fake_rank(0, 2):
        parameter = nn.Parameter(torch.zeros(6))
        partition(parameter)
        with pytest.raises(RuntimeError, match="std"):
            pyinit.normal_(parameter, std=-1.0)
        with pytest.raises(ValueError, match="fewer than 2 dimensions"):
            pyinit.xavier_uniform_(parameter)


@pytest.mark.parametrize("find", [views._find_writable, views.writable_by_methods])
def test_no_kernel_writes_the_empty_tensor(find: Callable[[Tensor], Any]) -> None:
    with fake_rank(0, 2):
        parameter = nn.Parameter(torch.zeros(6))
        assert find(parameter) is not None
        partition(parameter)
    assert find(parameter) is None
    assert find(torch.empty(0)) is not None


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_a_plain_empty_tensor_draws_what_it_drew(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    pyinit.normal_(torch.empty(shape))
    after = pyinit.normal_(torch.empty(4))
    torch.manual_seed(1)
    pyinit.normal_(torch.empty(3))
    assert torch.equal(after, pyinit.normal_(torch.empty(4)))


# ---- Partitions that a write does not reach ----------------------------------------------------------


def _offload(parameter: Any) -> None:
    parameter.ds_tensor.final_location = "nvme"


def _swap_out(parameter: Any) -> None:
    parameter.ds_tensor.status = Status.NOT_AVAILABLE
    parameter.ds_tensor.data = torch.empty(1)


def _release(parameter: Any) -> None:
    parameter.ds_tensor.data = torch.empty(0)


def _quantize(parameter: Any) -> None:
    parameter.ds_tensor.ds_quant_scale = torch.ones(1)


def _partition_again(parameter: Any) -> None:
    parameter.ds_secondary_tensor = torch.ones(6)


def _gather(parameter: Any) -> None:
    parameter.ds_status = Status.INFLIGHT


def _take_up(parameter: Any) -> None:
    parameter._z3_optimizer = object()


def _convert(parameter: Any) -> None:
    parameter.data = parameter.double()


def _lose(parameter: Any) -> None:
    parameter.ds_tensor = None


OUT_OF_REACH: dict[str, Callable[[Any], None]] = {
    "has offloaded .* NVMe": _offload,
    "has quantized": _quantize,
    "has a secondary partition": _partition_again,
    "is gathering it": _gather,
    "the model before deepspeed": _take_up,
    "has no partition": _lose,
    "in another dtype": _convert,
    "elsewhere than in this process": _swap_out,
    "the partition elsewhere": _release,
}


@pytest.mark.parametrize("why", OUT_OF_REACH)
def test_partitions_to_which_a_write_does_not_last_are_refused(why: str) -> None:
    with fake_rank(0, 2):
        model = layers()
        before = model[0].weight.detach().clone()
        partition_all(model[2])
        parameter: Any = model[2].weight
        OUT_OF_REACH[why](parameter)
        held = parameter.ds_tensor
        values = None if held is None else held.clone()
        with pytest.raises(ValueError, match=why):
            pyinit.normal_(parameter)
        with pytest.raises(ValueError, match=rf"cannot fill 2\.weight: DeepSpeed's .*({why})"):
            initialize_(model, "xavier", seed=1)
        assert torch.equal(model[0].weight, before)
        assert held is None or torch.equal(held, values)
        report = initialize_(model, "xavier", skip="2.weight", seed=1)
    assert report["2.weight"].mean is None
    assert not model[2].bias.ds_tensor.any()


# ---- Whole models ------------------------------------------------------------------------------------


def layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))


class Scaled(nn.Module):
    """Resets its parameters by its own code, one of them by another's shape."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(5, 3))
        self.scale = nn.Parameter(torch.zeros(7))
        self.calls: list[tuple[int, ...]] = []

    def reset_parameters(self) -> None:
        nn.init.normal_(self.table)
        nn.init.uniform_(self.scale, 0.0, 1.0 / self.table.shape[0])


def mixed() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Embedding(11, 4, padding_idx=3),
        nn.Conv2d(3, 4, 3, groups=1),
        nn.ConvTranspose1d(4, 2, 3),
        nn.LSTM(3, 2),
        nn.BatchNorm1d(4),
        nn.MultiheadAttention(8, 2),
        Scaled(),
        nn.Linear(1, 1, bias=False),
    )


@pytest.mark.parametrize("recipe", ["torch", "xavier", "kaiming", "gpt2", "zero", "keras"])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_model_gets_what_the_plain_one_gets(recipe: str, ranks: int) -> None:
    left_out = "3" if recipe == "keras" else ""  # it has orthogonal recurrent weights
    options: dict[str, Any] = {"skip": f"{left_out}.*"} if left_out else {}
    plain = mixed()
    expected = initialize_(plain, recipe, seed=3, **options)

    def make() -> tuple[nn.Module, Any]:
        model = partition_all(mixed())
        return model, initialize_(model, recipe, seed=3, **options)

    made = held_by_ranks(ranks, make)
    for name, parameter in plain.named_parameters():
        parts = [model.get_parameter(name) for model, _ in made]
        if not left_out or not name.startswith(left_out):
            assert torch.equal(gathered(parts), parameter), name
        for _, report in made:
            assert report[name][:8] == expected[name][:8]
    for _, report in made:
        assert report.summary == expected.summary


def test_a_rank_without_elements_reports_none() -> None:
    def make() -> Any:
        return initialize_(partition_all(nn.Linear(1, 1)), "xavier", seed=1)["weight"].std

    assert held_by_ranks(2, make) == [0.0, None]


@pytest.mark.parametrize(
    "initializer",
    [
        Parts((Normal(std=0.1), Constant(2.0), Normal(std=3.0))),
        Padded(Normal(), 4),
    ],
    ids=["parts", "padded"],
)
def test_blocks_of_rows_lie_where_they_lie_in_the_whole(initializer: Any) -> None:
    rules = {"weight": initializer}
    plain = nn.Linear(7, 9)
    initialize_(plain, rules=rules, seed=1)

    def make() -> Any:
        model = partition_all(nn.Linear(7, 9))
        initialize_(model, rules=rules, seed=1)
        return model.weight

    assert torch.equal(gathered(held_by_ranks(4, make)), plain.weight)


@pytest.mark.parametrize("initializer", [Orthogonal(), Centred(Normal())], ids=str)
def test_initializers_that_depend_on_other_elements_are_refused_by_name(initializer: Any) -> None:
    with fake_rank(0, 2):
        model = layers()
        partition_all(model[2])
        before = model[0].weight.detach().clone()
        with pytest.raises(ValueError, match=r"fill 2\.weight \(.* depend .*GatheredParameters$"):
            initialize_(model, "xavier", rules={"2.weight": initializer}, seed=1)
        assert torch.equal(model[0].weight, before)
        initialize_(model, "xavier", rules={"0.weight": initializer}, seed=1)


def test_torchs_numbers_are_refused_for_models() -> None:
    with fake_rank(0, 2), pyinit.rng("torch"):
        model = partition_all(layers())
        with pytest.raises(ValueError, match=r"pyinit's own numbers alone.*0\.weight"):
            initialize_(model, "xavier", seed=1)


@pytest.mark.parametrize("rng", ["philox", "torch"])
def test_a_report_is_replayed(rng: Any) -> None:
    plain = layers()
    with pyinit.rng(rng):
        report = initialize_(plain, "xavier", seed=3)
    with fake_rank(1, 2):
        model: Any = partition_all(layers())
        if rng == "torch":
            with pytest.raises(ValueError, match=r"replay_ fills .* pyinit's own numbers alone"):
                pyinit.replay_(model, report)
            return
        pyinit.replay_(model, report)
    assert torch.equal(model[0].weight.ds_tensor[:17], plain[0].weight.flatten()[18:])


def test_own_code_that_cannot_be_tried_is_refused() -> None:
    """Another parameter of the module is out of reach: nothing is written before that is found."""
    with fake_rank(0, 2):
        model = nn.Sequential(nn.Linear(2, 2), Scaled())
        partition_all(model[1])
        _offload(model[1].scale)
        before = model[0].weight.detach().clone()
        with pytest.raises(ValueError, match=r"NVMe"):
            initialize_(model, "torch", skip="1.scale", seed=1)
    assert torch.equal(model[0].weight, before)


# ---- Gathered parameters -----------------------------------------------------------------------------


def _regather(module: nn.Module) -> None:
    """As within ``GatheredParameters``: the whole is there, and the partition stays."""
    for parameter in module.parameters():
        parameter.data = torch.zeros(parameter.ds_shape)  # type: ignore[attr-defined]
        parameter.ds_status = Status.AVAILABLE  # type: ignore[attr-defined]


@pytest.mark.parametrize("recipe", ["xavier", "orthogonal", "torch"])
def test_what_gathered_parameters_get_lasts(recipe: str) -> None:
    plain = nn.Sequential(layers(), Scaled())
    initialize_(plain, recipe, seed=3, skip="0.0.bias")

    def make() -> nn.Module:
        model = partition_all(nn.Sequential(layers(), Scaled()))
        _regather(model)
        initialize_(model, recipe, seed=3, skip="0.0.bias")
        for name, parameter in model.named_parameters():
            if name != "0.0.bias":
                assert torch.equal(parameter, plain.get_parameter(name)), name
            free(parameter)
        return model

    made = held_by_ranks(3, make)
    for name, parameter in plain.named_parameters():
        if name != "0.0.bias":
            parts = [model.get_parameter(name) for model in made]
            assert torch.equal(gathered(parts), parameter), name


def test_loaded_and_replayed_values_last() -> None:
    plain = layers()
    report = initialize_(plain, "xavier", seed=3)
    with fake_rank(1, 2):
        for give in (
            lambda model: pyinit.load_pretrained_(model, plain.state_dict()),
            lambda model: pyinit.replay_(model, report),
            lambda model: initialize_(model, "xavier", seed=3),
        ):
            model: Any = partition_all(layers())
            _regather(model)
            give(model)
            assert torch.equal(model[0].weight.ds_tensor[:17], plain[0].weight.flatten()[18:])


def test_what_a_method_finds_lasts_and_what_it_undoes_does_not() -> None:
    with fake_rank(1, 2):
        model: Any = partition_all(layers())
        _regather(model)
        pyinit.lsuv_(model, torch.randn(64, 7), base="xavier", seed=3)
        weight = model[2].weight.flatten()[8:].clone()
        assert torch.equal(model[2].weight.ds_tensor[:7], weight)
        begun = []

        def stop(*_: Any) -> None:
            begun.append(not torch.equal(model[2].weight.flatten()[8:], weight))
            if begun[-1]:
                raise RuntimeError("stop")

        model[2].register_forward_pre_hook(stop)
        with pytest.raises(RuntimeError, match="stop"):
            pyinit.lsuv_(model, torch.randn(64, 7), base="kaiming", seed=4)
        assert begun[-1]
        assert torch.equal(model[2].weight.flatten()[8:], weight)
        assert torch.equal(model[2].weight.ds_tensor[:7], weight)


def test_gathered_parameters_with_another_copy_are_refused() -> None:
    with fake_rank(0, 2):
        model: Any = partition_all(layers())
        _regather(model)
        _take_up(model[2].weight)
        for call in (
            lambda: initialize_(model, "xavier", seed=1),
            lambda: pyinit.load_pretrained_(model, layers().state_dict()),
            lambda: pyinit.lsuv_(model, torch.ones(2, 7)),
        ):
            with pytest.raises(
                ValueError, match=r"fill 2\.weight: .* before deepspeed\.initialize"
            ):
                call()
    assert not model[0].weight.any()


@pytest.mark.parametrize("leave", [_offload, _quantize, _partition_again])
def test_gathered_parameters_whose_partition_deepspeed_writes_are_filled(
    leave: Callable[[Any], None],
) -> None:
    """``GatheredParameters(..., modifier_rank=0)`` carries their values over itself."""
    with fake_rank(0, 2):
        model: Any = partition_all(layers())
        _regather(model)
        leave(model[0].weight)
        held = model[0].weight.ds_tensor.clone()
        initialize_(model, "xavier", seed=1)
    assert model[0].weight.any()
    assert torch.equal(model[0].weight.ds_tensor, held)


# ---- DeepSpeed itself --------------------------------------------------------------------------------

needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed"
)


def deepspeed_on_cpu() -> Any:
    os.environ |= {"DS_ACCELERATOR": "cpu", "LOCAL_RANK": os.environ["RANK"]}
    import deepspeed  # noqa: PLC0415

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # it would be compiled
    deepspeed.init_distributed("gloo", verbose=False)
    return deepspeed


def built(deepspeed: Any, dtype: torch.dtype, **options: Any) -> nn.Module:
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "bf16": {"enabled": dtype is torch.bfloat16},
        "zero_optimization": {"stage": 3},
    }
    with deepspeed.zero.Init(config_dict_or_path=config, **options):
        return mixed()


def fill_by_deepspeed(dtype: torch.dtype, options: dict[str, Any]) -> list[str]:
    deepspeed = deepspeed_on_cpu()
    model, plain = built(deepspeed, dtype, **options), mixed().to(dtype)
    assert all(parameter.shape == (0,) for parameter in model.parameters())
    report, expected = (initialize_(each, "torch", seed=3) for each in (model, plain))
    assert report.summary == expected.summary
    wrong = []
    for (name, parameter), whole in zip(model.named_parameters(), plain.parameters(), strict=True):
        with deepspeed.zero.GatheredParameters(parameter):
            if not torch.equal(parameter, whole):
                wrong.append(name)
    return wrong


@needs_deepspeed
@pytest.mark.parametrize(
    ("ranks", "dtype", "options"),
    [
        (1, torch.float32, {}),
        (2, torch.float32, {}),
        (3, torch.float32, {}),
        (3, torch.bfloat16, {}),
        (2, torch.float32, {"remote_device": "cpu"}),
    ],
)
def test_deepspeed_gathers_what_the_plain_model_has(
    ranks: int, dtype: torch.dtype, options: dict[str, Any]
) -> None:
    assert on_ranks(fill_by_deepspeed, ranks, dtype, options) == [[]] * ranks


def fill_gathered(modifier_rank: int | None) -> list[bool]:
    deepspeed = deepspeed_on_cpu()
    model, plain = built(deepspeed, torch.float32), mixed()
    initialize_(plain, "orthogonal", seed=3)
    parameters = list(model.parameters())
    with deepspeed.zero.GatheredParameters(parameters, modifier_rank=modifier_rank):
        if modifier_rank in (None, torch.distributed.get_rank()):
            initialize_(model, "orthogonal", seed=3)
    assert all(parameter.shape == (0,) for parameter in parameters)
    with deepspeed.zero.GatheredParameters(parameters):
        return [torch.equal(a, b) for a, b in zip(parameters, plain.parameters(), strict=True)]


@needs_deepspeed
@pytest.mark.parametrize("modifier_rank", [None, 1])
def test_what_is_written_while_deepspeed_has_gathered_it_lasts(modifier_rank: int | None) -> None:
    assert all(map(all, on_ranks(fill_gathered, 2, modifier_rank)))


def train() -> str:
    deepspeed = deepspeed_on_cpu()
    model = built(deepspeed, torch.float32)
    initialize_(model, "xavier", seed=3)
    before: Tensor = model[1].weight.ds_tensor.clone()  # type: ignore[index, union-attr, assignment]
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        config={
            "train_micro_batch_size_per_gpu": 1,
            "zero_optimization": {"stage": 3},
            "zero_allow_untested_optimizer": True,
        },
    )
    assert torch.equal(engine.module[1].weight.ds_tensor, before)
    with pytest.raises(ValueError, match=r"the model before deepspeed\.initialize") as refused:
        initialize_(engine.module, "xavier", seed=3)
    return str(refused.value)


@needs_deepspeed
def test_an_engine_starts_from_what_was_written_and_then_keeps_it() -> None:
    assert all("0.weight" in refused for refused in on_ranks(train, 2))
