"""On a CUDA device: ``pytest -m cuda``. The same values as on the CPU, bit for bit."""

import math
from collections.abc import Callable

import pytest
import torch
from cuda_cases import cases_by_kernel
from torch import Tensor, nn

import pyinit
from pyinit._device import fills as device_fills
from pyinit._random.rng import Key
from pyinit._torch.views import DTYPES

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(
        not (torch.cuda.is_available() and device_fills.BUILD != "none"),
        reason="no CUDA device, or built without CUDA kernels",
    ),
]

TENSORS: dict[str, Callable[..., Tensor]] = {
    "empty": lambda **k: torch.empty(0, 3, **k),
    "scalar": lambda **k: torch.empty((), **k),
    "one": lambda **k: torch.empty(1, **k),
    "odd": lambda **k: torch.empty(4099, **k),
    "large": lambda **k: torch.empty((1 << 20) + 13, **k),
    "transposed": lambda **k: torch.empty(70, 33, **k).t(),
    "channels_last": lambda **k: torch.empty(4, 8, 5, 5, **k).to(memory_format=torch.channels_last),
    "sliced": lambda **k: torch.empty(300, 40, **k)[:, 3:17],
    "offset": lambda **k: torch.empty(1003, **k)[1:],
}
FILLS: dict[str, Callable[[Tensor], Tensor]] = {
    "uniform_": lambda t: pyinit.uniform_(t, -2.0, 3.0, KEY),
    "normal_": lambda t: pyinit.normal_(t, 0.5, 2.0, KEY),
    "trunc_normal_": lambda t: pyinit.trunc_normal_(t, 0.0, 1.0, -2.0, 2.0, KEY),
    "one-sided": lambda t: pyinit.trunc_normal_(t, 0.0, 1.0, 1.0, math.inf, KEY),
    "far tail": lambda t: pyinit.fill.trunc_normal(t, 0.0, 1.0, 30.0, 31.0, key=KEY.key, stream=7),
    "bernoulli": lambda t: pyinit.fill.bernoulli(t, 0.3, key=KEY.key, stream=7),
    "constant": lambda t: pyinit.fill.constant(t, 0.3),
}
CASES = cases_by_kernel()
KEY = Key(0x123456789ABCDEF, (1 << 40) + 5)


def both(make: Callable[..., Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    made = make(dtype=dtype, device="cpu").fill_(math.nan), make(dtype=dtype, device="cuda")
    made[1].fill_(math.nan)
    return made


def same(ours: Tensor, cpu: Tensor) -> bool:
    return torch.equal(ours.cpu(), cpu)


@pytest.mark.parametrize("kernel", CASES)
def test_every_case_of_the_emulation(kernel: str) -> None:
    assert [case for case in CASES[kernel] if not case.matches(device_fills._cuda, "cuda")] == []


@pytest.mark.parametrize("layout", TENSORS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fill", FILLS)
def test_fills_have_the_bits_of_the_cpu(fill: str, dtype: torch.dtype, layout: str) -> None:
    cpu, ours = both(TENSORS[layout], dtype)
    FILLS[fill](cpu)
    FILLS[fill](ours)
    assert same(ours, cpu)


def test_blocks_of_larger_tensors() -> None:
    cpu, ours = both(lambda **k: torch.empty(7, 33, **k), torch.float32)
    for t in (cpu, ours):
        pyinit.fill.normal(t, key=3, stream=4, whole=(1 << 20, 1 << 15), start=((1 << 20) - 7, 5))
    assert same(ours, cpu)


def test_more_than_2_to_the_31_elements() -> None:
    count = (1 << 31) + 5
    if torch.cuda.mem_get_info()[0] < 3 * count:
        pytest.skip("too little memory on the device")
    ours = torch.empty(count, dtype=torch.bfloat16, device="cuda")
    pyinit.normal_(ours, 0.0, 1.0, KEY)
    for start in (0, (1 << 31) - 3, count - 1000):
        piece = torch.empty(min(1000, count - start), dtype=torch.bfloat16)
        pyinit.fill.normal(piece, key=KEY.key, stream=KEY.stream, whole=(count,), start=(start,))
        assert same(ours[start : start + 1000], piece)


def test_manual_seed_governs_both_devices_alike() -> None:
    cpu, ours = both(TENSORS["odd"], torch.float32)
    for t in (cpu, ours):
        torch.manual_seed(5)
        pyinit.kaiming_normal_(t.view(1, -1))
    assert same(ours, cpu)


def test_a_cuda_generator_is_taken_and_advanced() -> None:
    first, second, third = (torch.empty(100, device="cuda") for _ in range(3))
    generator = torch.Generator("cuda").manual_seed(9)
    offset = generator.get_offset()
    pyinit.normal_(first, generator=generator)
    assert generator.get_offset() == offset + 4
    pyinit.normal_(second, generator=generator)
    pyinit.normal_(third, generator=torch.Generator("cuda").manual_seed(9))
    assert torch.equal(first, third)
    assert not torch.equal(first, second)


def test_sparse_has_the_bits_of_the_cpu() -> None:
    for shape in ((1, 1), (50, 70), (300, 17)):
        cpu, ours = both(lambda s=shape, **k: torch.empty(s, **k), torch.float32)
        pyinit.sparse_(cpu, 0.3, 0.5, KEY)
        pyinit.sparse_(ours, 0.3, 0.5, KEY)
        assert same(ours, cpu)


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (300, 300), (1024, 1024), (40, 700), (700, 40)])
def test_orthogonal_is_that_of_the_cpu_to_rounding(shape: tuple[int, int]) -> None:
    cpu, ours = both(lambda **k: torch.empty(shape, **k), torch.float32)
    pyinit.orthogonal_(cpu, 1.5, KEY)
    pyinit.orthogonal_(ours, 1.5, KEY)
    assert (ours.cpu() - cpu).abs().max() < 1e-5
    square = ours.double() / 1.5
    square = square @ square.t() if shape[0] < shape[1] else square.t() @ square
    assert (square - torch.eye(len(square), device="cuda")).abs().max() <= 5e-6


def test_a_whole_model_has_the_values_of_the_cpu() -> None:
    def model() -> nn.Module:
        return nn.Sequential(
            nn.Embedding(50, 16, padding_idx=1),
            nn.Linear(16, 33),
            nn.BatchNorm1d(33),
            nn.Conv2d(3, 8, 3),
        )

    cpu, ours = model(), model().cuda()
    expected = pyinit.initialize_(cpu, "torch", seed=3)
    report = pyinit.initialize_(ours, "torch", seed=3)
    for name, parameter in ours.named_parameters():
        assert same(parameter, cpu.get_parameter(name)), name
        assert report[name].std == pytest.approx(expected[name].std, rel=1e-4, nan_ok=True)


def test_modules_that_fill_themselves_are_seeded_on_the_device() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.empty(33))

        def reset_parameters(self) -> None:
            self.table.data.normal_()

    models = [Own().cuda() for _ in range(3)]
    for model, seed in zip(models, (3, 3, 4), strict=True):
        torch.empty(5, device="cuda").normal_()
        state = torch.cuda.get_rng_state()
        pyinit.initialize_(model, "torch", seed=seed)
        assert torch.equal(torch.cuda.get_rng_state(), state)
    assert torch.equal(models[0].table, models[1].table)
    assert not torch.equal(models[0].table, models[2].table)


def test_the_current_stream_is_used_and_nothing_waits() -> None:
    ours = torch.zeros(1 << 22, device="cuda")
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)
        pyinit.normal_(ours, 0.0, 1.0, KEY)
        assert not stream.query()  # the fill waits behind the sleep, and the call has returned
    stream.synchronize()
    assert ours.std() > 0.9


def test_a_graph_captures_a_fill() -> None:
    ours = torch.zeros(4099, device="cuda")
    pyinit.normal_(ours, 0.0, 1.0, KEY)
    expected = ours.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        pyinit.normal_(ours, 0.0, 1.0, KEY)
    ours.zero_()
    graph.replay()
    assert torch.equal(ours, expected)


def test_errors_come_before_anything_is_written() -> None:
    ours = torch.full((4,), 7.0, device="cuda")
    with pytest.raises(RuntimeError):
        pyinit.uniform_(ours, 2.0, 1.0)
    with pytest.raises(RuntimeError):
        pyinit.normal_(ours, 0.0, -1.0)
    assert (ours == 7.0).all()
