"""What is never written: by elements, for every dtype, layout and way to get memory."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pyinit
from pyinit.inspection import poison

DTYPES = [
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
    torch.float8_e4m3fn,
    torch.int8,
    torch.uint8,
    torch.int32,
    torch.int64,
    torch.bool,
]


class Holder(nn.Module):
    """A tensor of any kind, as a buffer."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.register_buffer("held", tensor)


def holding(dtype: torch.dtype) -> Callable[[], nn.Module]:
    return lambda: Holder(torch.empty(40, dtype=dtype))


def found(findings: pyinit.Findings, code: str) -> list[str]:
    return [finding.parameter for finding in findings if finding.code == code]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_tensor_that_nobody_writes_is_found(dtype: torch.dtype) -> None:
    assert found(pyinit.check(holding(dtype)), "PI001") == ["held"]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_tensor_that_is_written_is_not_found(dtype: torch.dtype) -> None:
    assert not pyinit.check(lambda: Holder(torch.zeros(40, dtype=dtype))).codes
    assert not pyinit.check(lambda: Holder(torch.ones(40, dtype=dtype))).codes


@pytest.mark.parametrize("byte", [0xFF, 0x7B])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64], ids=str)
def test_values_that_look_like_one_poison_are_values(dtype: torch.dtype, byte: int) -> None:
    def build() -> nn.Module:
        values = torch.full((40 * dtype.itemsize,), byte, dtype=torch.uint8).view(dtype)
        return Holder(values.clone())

    assert not found(pyinit.check(build), "PI001")
    assert not found(pyinit.check(build), "PI002")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_elements_that_nobody_writes_are_counted(dtype: torch.dtype) -> None:
    def init(model: Any) -> None:
        model.held.view(-1)[:37] = 1

    findings = pyinit.check(holding(dtype)(), init)
    (part,) = [finding for finding in findings if finding.code == "PI002"]
    assert part.found == "3 of 40 elements are never written, first (37)"
    assert part.confidence == "certain"


def test_the_first_unwritten_element_is_named_in_a_large_tensor() -> None:
    def init(model: Any) -> None:
        model.held.fill_(0.0)
        model.held[4000, 999] = torch.nan  # of which the kernels know that it is not finite

    def forget(model: Any) -> None:
        keep = model.held[4321, 7].clone()
        model.held.fill_(0.5)
        model.held[4321, 7] = keep

    build = lambda: Holder(torch.empty(5000, 1001))
    assert not found(pyinit.check(build, init), "PI002")
    (part,) = [finding for finding in pyinit.check(build, forget) if finding.code == "PI002"]
    assert part.found == "1 of 5005000 elements are never written, first (4321, 7)"


def test_every_other_column_of_a_transposed_weight_is_found() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(6, 10).t())

    def init(model: Any) -> None:
        with torch.no_grad():
            model.weight[:, ::2].normal_()

    (part,) = [f for f in pyinit.check(Model(), init) if f.code == "PI002"]
    assert part.found == "30 of 60 elements are never written, first (0, 1)"


def test_elements_of_an_expanded_tensor_are_counted_once() -> None:
    def init(model: Any) -> None:
        model.held[0, :2] = 1

    model = Holder(torch.arange(3.0).expand(4, 3))
    (part,) = [f for f in pyinit.check(model, init) if f.code == "PI002"]
    assert part.found == "1 of 3 elements are never written, first (0, 2)"
    assert model.held.tolist() == [[0, 1, 2]] * 4


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_large_tensors_bear_the_same_poison(dtype: torch.dtype, isa: str) -> None:
    for run, byte in enumerate((0xFF, 0x7B)):
        for elements in (2**20 // dtype.itemsize, 2**20 + 1):
            tensor = torch.zeros(elements, dtype=dtype)
            poison.poison_([tensor, tensor[1:]], run)
            if dtype is torch.bool:
                assert bool((tensor == bool(run)).all())
            else:
                assert bool((tensor.view(torch.uint8) == byte).all())


EMPTY: dict[str, Callable[[], Tensor]] = {
    "empty": lambda: torch.empty(8, 4),
    "empty_like": lambda: torch.empty_like(torch.zeros(8, 4)),
    "empty_strided": lambda: torch.empty_strided((8, 4), (1, 8)),
    "new_empty": lambda: torch.zeros(()).new_empty(8, 4),
    "new_empty_strided": lambda: torch.zeros(()).new_empty_strided((8, 4), (4, 1)),
    "empty_permuted": lambda: torch.empty_permuted((8, 4), (1, 0)),
    "Tensor": lambda: torch.Tensor(8, 4),
    "FloatTensor": lambda: torch.FloatTensor(8, 4),
}


@pytest.mark.parametrize("make", EMPTY.values(), ids=EMPTY)
def test_every_way_to_get_memory_is_poisoned(make: Callable[[], Tensor]) -> None:
    assert found(pyinit.check(lambda: Holder(make())), "PI001") == ["held"]


def test_memory_that_init_asks_for_is_poisoned() -> None:
    def init(model: nn.Module) -> None:
        model.to_empty(device="cpu")
        nn.init.zeros_(model.bias)  # type: ignore[arg-type]

    for device in ("cpu", "meta"):
        assert found(pyinit.check(nn.Linear(4, 4, device=device), init), "PI001") == ["weight"]
        assert found(pyinit.check(lambda: nn.Linear(4, 4, device=device), init), "PI001") == [  # noqa: B023
            "weight"
        ]


def test_initialize_gives_memory_to_a_model_on_meta() -> None:
    model = nn.Sequential(nn.Linear(64, 64, device="meta"), nn.LayerNorm(64, device="meta"))
    assert not pyinit.check(model, pyinit.initialize_).failures
    assert all(p.is_meta for p in model.parameters())


def test_a_parameter_that_the_constructor_writes_is_not_initialized_by_init() -> None:
    def init(model: Any) -> None:
        nn.init.xavier_uniform_(model[0].weight)
        nn.init.zeros_(model[0].bias)

    build = lambda: nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    findings = pyinit.check(build, init)
    assert found(findings, "PI001") == ["1.weight", "1.bias"]
    assert "the constructor does" in findings[0].found
    assert not pyinit.check(build).codes


def test_a_parameter_that_a_recipe_reports_to_keep_is_information() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)
            self.scale_of_mine = nn.Parameter(torch.ones(8))

    findings = pyinit.check(Model, pyinit.initialize_)
    assert not findings.failures
    assert found(findings, "PI005") == ["scale_of_mine"]


def test_what_is_computed_from_old_values_is_found() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        model = nn.Linear(8, 8, dtype=dtype)

        def init(model: Any) -> None:
            with torch.no_grad():
                model.weight.mul_(0.02)
                model.bias.zero_()

        assert found(pyinit.check(model, init), "PI003") == ["weight"]


def test_a_mask_of_infinities_is_not_computed_from_old_values() -> None:
    def build() -> nn.Module:
        return Holder(torch.full((8, 8), -torch.inf).triu(1))

    assert not pyinit.check(build).codes
    assert not pyinit.check(build(), lambda model: model.held.fill_(-torch.inf)).codes


def test_tied_parameters_are_named_once() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4, bias=False)
            self.second = nn.Linear(4, 4, bias=False)
            self.second.weight = self.first.weight

    assert found(pyinit.check(Model(), id), "PI001") == ["first.weight"]


def test_reset_parameters_everywhere_initializes_torchs_own_modules() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.LSTM(8, 8), nn.Embedding(9, 8))
    assert not pyinit.check(model, "reset_parameters").failures


def test_a_name_is_a_method_of_the_model() -> None:
    class Model(nn.Linear):
        def start(self) -> None:
            nn.init.ones_(self.bias)

    assert found(pyinit.check(Model(4, 4), "start"), "PI001") == ["weight"]
    model = Model(4, 4)
    assert found(pyinit.check(model, model.start), "PI001") == ["weight"]


def test_modules_that_write_the_same_parameter_are_named() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 64)

    def init(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            module.reset_parameters()
        elif isinstance(module, Block):
            nn.init.normal_(module.layer.weight, std=0.1)

    findings = pyinit.check(lambda: nn.Sequential(Block()), lambda model: model.apply(init))
    (twice,) = [finding for finding in findings if finding.code == "PI006"]
    assert twice.parameter == "0.layer.weight"
    assert twice.found == "written by 2 modules: 0.layer, 0"
    assert twice.is_informational
