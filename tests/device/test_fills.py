"""What happens to CUDA tensors between the public functions and the kernels, with emulated kernels
on CPU tensors in the device's place; ``test_cuda.py`` does the same on a device."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import pyinit
from pyinit import _core
from pyinit._device import fills as device_fills
from pyinit._device import orthogonal as device_orthogonal
from pyinit._random.distributions import NORMAL, TRUNC_NORMAL, UNIFORM
from pyinit._random.rng import Key
from pyinit._torch.views import DTYPES, view_of
from pyinit.whole_model.engine import plan

KEY = Key(0xFEDCBA9876543210, (1 << 33) + 1)


def pair(dtype: torch.dtype = torch.float32, *shape: int) -> tuple[Tensor, Tensor]:
    shape = shape or (33, 71)
    return tuple(torch.full(shape, math.nan, dtype=dtype) for _ in range(2))  # type: ignore[return-value]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("distribution", "numbers", "fill"),
    [
        (UNIFORM, (-1.0, 2.0), pyinit.uniform_),
        (NORMAL, (0.5, 2.0), pyinit.normal_),
        (TRUNC_NORMAL, (0.0, 1.0, -2.0, 2.0), pyinit.trunc_normal_),
    ],
)
def test_fills_are_those_of_the_cpu(
    device: None,
    distribution: int,
    numbers: tuple[float, ...],
    fill: Callable[..., Tensor],
    dtype: torch.dtype,
) -> None:
    cpu, ours = pair(dtype)
    version = ours._version
    assert device_fills.fill(ours, distribution, numbers, KEY)
    assert torch.equal(ours, fill(cpu, *numbers, KEY))
    assert ours._version == version + 1


def test_the_default_generator_gives_the_key_of_the_cpu(device: None) -> None:
    cpu, ours = pair()
    torch.manual_seed(3)
    pyinit.normal_(cpu)
    torch.manual_seed(3)
    assert device_fills.fill(ours, NORMAL, (0.0, 1.0), None)
    assert torch.equal(ours, cpu)


@pytest.mark.parametrize(
    ("distribution", "numbers"),
    [
        (UNIFORM, (1.0, 0.0)),
        (UNIFORM, (math.nan, 0.0)),
        (UNIFORM, (-3e38, 3e38)),
        (NORMAL, (0.0, -1.0)),
        (NORMAL, (math.inf, 1.0)),
        (TRUNC_NORMAL, (0.0, 0.0, -1.0, 1.0)),
        (TRUNC_NORMAL, (0.0, 1.0, 1.0, -1.0)),
    ],
)
def test_numbers_that_torch_refuses_are_left_to_torch(
    device: None, distribution: int, numbers: tuple[float, ...]
) -> None:
    _, ours = pair()
    state = torch.get_rng_state()
    assert not device_fills.fill(ours, distribution, numbers, None)
    assert ours.isnan().all()
    assert torch.equal(torch.get_rng_state(), state)


def test_torchs_own_numbers_are_left_to_torch(device: None) -> None:
    _, ours = pair()
    with pyinit.rng("torch"):
        assert not device_fills.fill(ours, NORMAL, (0.0, 1.0), None)
        assert not device_fills.orthogonal(ours, 1.0, None, 1)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("shape", [(33, 71), (72, 5, 3), (3, 1)])
def test_orthogonal_is_that_of_the_cpu_to_rounding(
    device: None, shape: tuple[int, ...], groups: int
) -> None:
    cpu, ours = pair(torch.float32, *shape)
    assert device_fills.orthogonal(ours, 1.5, KEY, groups)
    pyinit.orthogonal_(cpu, 1.5, KEY, groups=groups)
    assert (ours - cpu).abs().max() < 2e-6


def test_a_gain_that_is_a_tensor_multiplies(device: None) -> None:
    cpu, ours = pair()
    assert device_fills.orthogonal(ours, torch.tensor(2.0), KEY, 1)
    pyinit.orthogonal_(cpu, 2.0, KEY)
    assert (ours - cpu).abs().max() < 2e-6


def test_many_matrices_are_those_of_one_after_the_other(device: None) -> None:
    shapes = [(8, 8), (30, 8), (8, 8), (0, 3), (8, 30)]
    cpu, ours = ([torch.full(shape, math.nan) for shape in shapes] for _ in range(2))
    torch.manual_seed(4)
    assert device_fills.orthogonal_many(ours, [1.0, 2.0, 3.0, 1.0, 1.0], [None] * 5)
    drawn = torch.get_rng_state()
    torch.manual_seed(4)
    for tensor, gain in zip(cpu, [1.0, 2.0, 3.0, 1.0, 1.0], strict=True):
        pyinit.orthogonal_(tensor, gain)
    assert torch.equal(torch.get_rng_state(), drawn)
    for a, b in zip(ours, cpu, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=2e-6)


def test_matrices_that_share_memory_are_made_one_by_one(device: None) -> None:
    whole = torch.zeros(8, 8)
    assert not device_fills.orthogonal_many([whole, whole[:4]], [1.0, 1.0], [KEY, KEY])
    assert not whole.any()


def test_sparse_is_that_of_the_cpu(device: None) -> None:
    cpu, ours = pair()
    assert device_fills.sparse(ours, math.ceil(0.3 * 33), 0.1, KEY)
    assert torch.equal(ours, pyinit.sparse_(cpu, 0.3, 0.1, KEY))


def test_columns_are_those_of_the_cpu(device: None) -> None:
    image = torch.randn(2, 3, 8, 9)
    expected = pyinit.functional.im2col(image, (3, 2), stride=2, padding=1)
    ours = torch.full_like(expected, math.nan)
    numbers = (3, 2), (4, 5), (2, 2), (1, 1), (1, 1)
    device_fills.columns("im2col", image, ours, *numbers)
    assert torch.equal(ours, expected)
    back = torch.full_like(image, math.nan)
    device_fills.columns("col2im", ours, back, *numbers)
    assert torch.equal(back, pyinit.functional.col2im(ours, (8, 9), (3, 2), stride=2, padding=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_whole_models_go_in_launches(
    device: None, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    """As if no CPU kernel could write a parameter: one list of fills, the values of the CPU."""

    def model() -> nn.Module:
        return nn.Sequential(
            nn.Embedding(50, 16, padding_idx=1), nn.Linear(16, 33), nn.LSTM(5, 4), nn.BatchNorm1d(3)
        )

    cpu, ours = model().to(dtype), model().to(dtype)
    expected = pyinit.initialize_(cpu, "torch", seed=3)
    launched: list[int] = []
    run = device_fills.run
    monkeypatch.setattr(
        device_fills,
        "run",
        lambda fills, *tensors: (launched.append(len(fills)), run(fills, *tensors)),
    )
    monkeypatch.setattr(plan, "writable_flat_view", lambda _: None)
    monkeypatch.setattr(plan, "writable_flat_views", lambda tensors: [None for _ in tensors])
    report = pyinit.initialize_(ours, "torch", seed=3)
    for name, parameter in ours.named_parameters():
        assert torch.equal(parameter, cpu.get_parameter(name)), name
        assert report[name].std == pytest.approx(expected[name].std, rel=1e-5, abs=1e-12)
        row = report[name]
        (measured,) = _core.measure_many([view_of(parameter.detach())], 1)
        assert (row.mean, row.std, row.min, row.max) == measured, name
    assert launched == [9, 1]  # and the padding's row after the others


def test_orthogonal_matrices_of_one_shape_are_made_together(
    device: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def model() -> nn.Module:
        layers = nn.Linear(16, 16), nn.LSTM(16, 16), nn.Conv2d(8, 8, 2, groups=2)
        return nn.Sequential(*layers, nn.Linear(16, 16).bfloat16())

    cpu, ours = model(), model()
    expected = pyinit.initialize_(cpu, "orthogonal", seed=3)
    batches: list[int] = []
    fill = device_orthogonal._fill_batch
    monkeypatch.setattr(
        device_orthogonal,
        "_fill_batch",
        lambda kind, batch, normals: (batches.append(len(batch)), fill(kind, batch, normals)),
    )
    monkeypatch.setattr(plan, "writable_flat_view", lambda _: None)
    monkeypatch.setattr(plan, "writable_flat_views", lambda tensors: [None for _ in tensors])
    report = pyinit.initialize_(ours, "orthogonal", seed=3)
    for name, parameter in ours.named_parameters():
        limit = 2**-8 if parameter.dtype == torch.bfloat16 else 1e-5
        assert (parameter - cpu.get_parameter(name)).abs().max() <= limit, name
        assert report[name].initializer == expected[name].initializer
    assert sorted(batches) == [2, 10]


def test_a_build_without_kernels_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_fills, "_cuda", None)
    assert device_fills.writable_view(torch.empty(3)) is None
    assert pyinit.info()["cuda_build"] == device_fills.BUILD
