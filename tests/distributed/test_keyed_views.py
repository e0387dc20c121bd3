"""Views of keyed parameters hold what the whole parameter would hold there."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from bits import same_bits
from torch import Tensor, nn

import pyinit
from pyinit._random.rng import Key, for_torch, stream_of

View = Callable[[Tensor], Tensor]

VIEWS: dict[str, View] = {
    "data": lambda w: w.data,
    "detached": lambda w: w.detach(),
    "rows": lambda w: w[3:7],
    "a row": lambda w: w[5],
    "an element": lambda w: w[5, 4],
    "columns": lambda w: w[:, 2:5],
    "a column": lambda w: w[:, 3],
    "a block": lambda w: w.data[4:9, 1:3],
    "transposed": lambda w: w.t(),
    "a transposed block": lambda w: w.t()[2:4, 5:],
    "flat": lambda w: w.view(-1),
    "a part of flat": lambda w: w.view(-1)[7:100],
    "another shape": lambda w: w.view(6, 2, 14),
    "unflattened": lambda w: w.unflatten(0, (3, 4))[1],
    "unsqueezed": lambda w: w[:, None, 2:4],
    "every second row": lambda w: w[::2],
    "every third column": lambda w: w[:, 1::3],
    "a diagonal": lambda w: w.diagonal(),
    "a strided part": lambda w: w.as_strided((3, 4), (29, 2), 5),
    "the third chunk": lambda w: w.chunk(4)[2],
    "empty": lambda w: w[4:4],
    "by an array": lambda w: torch.from_numpy(w.detach().numpy()[2:4]),
}
SHAPE = (12, 14)

FILLS: dict[str, Callable[[Tensor], object]] = {
    "normal_": lambda t: nn.init.normal_(t, 1.0, 0.5),
    "pyinit.normal_": lambda t: pyinit.normal_(t, 1.0, 0.5),
    "Tensor.normal_": lambda t: t.detach().normal_(1.0, std=0.5),
    "uniform_": lambda t: nn.init.uniform_(t, -1.0, 1.0),
    "Tensor.uniform_": lambda t: t.detach().uniform_(-1.0, to=1),
    "trunc_normal_": lambda t: nn.init.trunc_normal_(t, std=0.5, a=-1.0, b=0.3),
    "exponential_": lambda t: t.detach().exponential_(2.0),
    "random_": lambda t: t.detach().random_(3, 90),
    "log_normal_": lambda t: t.detach().log_normal_(std=0.5),
    "cauchy_": lambda t: t.detach().cauchy_(),
    "geometric_": lambda t: t.detach().geometric_(0.3),
    "bernoulli_": lambda t: t.detach().bernoulli_(0.3),
}


def one(weight: Tensor) -> nn.Module:
    model = nn.Module()
    model.weight = nn.Parameter(weight)
    return model


def filled(weight: Tensor, fill: Callable[[Tensor], object], view: View = lambda w: w) -> Tensor:
    model = one(weight)
    with pyinit.keyed(model, 7):
        fill(view(model.weight))
        model.weight.data.mul_(1)
    return model.weight.detach()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("fill", FILLS)
def test_a_view_has_what_the_whole_has_there(view: str, fill: str) -> None:
    whole = filled(torch.zeros(SHAPE), FILLS[fill])
    part = filled(torch.zeros(SHAPE), FILLS[fill], VIEWS[view])
    expected = torch.zeros(SHAPE)
    VIEWS[view](expected).copy_(VIEWS[view](whole))
    assert same_bits(part, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("view", ["columns", "a transposed block", "every second row", "flat"])
@pytest.mark.parametrize("fill", ["normal_", "uniform_", "trunc_normal_", "exponential_"])
def test_so_it_is_in_every_dtype(view: str, fill: str, dtype: torch.dtype) -> None:
    whole = filled(torch.zeros(SHAPE, dtype=dtype), FILLS[fill])
    part = filled(torch.zeros(SHAPE, dtype=dtype), FILLS[fill], VIEWS[view])
    expected = torch.zeros(SHAPE, dtype=dtype)
    VIEWS[view](expected).copy_(VIEWS[view](whole))
    assert same_bits(part, expected)


@pytest.mark.parametrize(
    "lay_out",
    [
        lambda: torch.zeros(5, 6, 3, 4).to(memory_format=torch.channels_last),
        lambda: torch.zeros(6, 5, 4, 3).permute(1, 0, 3, 2),
        lambda: torch.zeros(9, 8, 7, 10)[2:7, 1:7, ::2, 3:7][:, :, :3],
        lambda: torch.zeros(5, 6, 1, 12)[:, :, :, :4].expand(5, 6, 1, 4).unfold(3, 2, 2)[:, :, 0],
    ],
    ids=["channels last", "permuted", "a part of memory", "unfolded"],
)
@pytest.mark.parametrize(
    "view",
    [
        lambda w: w[1:3, :, 0],
        lambda w: w.permute(3, 1, 0, 2)[1:],
        lambda w: w[:, ::2],
        lambda w: w[2].transpose(0, 1),
    ],
    ids=["a block", "permuted", "strided", "a row"],
)
def test_layouts_make_no_difference(lay_out: Callable[[], Tensor], view: View) -> None:
    def fill(tensor: Tensor) -> None:
        nn.init.normal_(tensor)

    weight = lay_out()
    whole = pyinit.fill.normal(torch.empty(weight.shape), key=7, stream=stream_of("weight"))
    assert same_bits(filled(lay_out(), fill), whole)
    expected = lay_out()
    view(expected).copy_(view(whole))
    assert same_bits(filled(lay_out(), fill, view), expected)


@pytest.mark.parametrize("fill", ["exponential_", "random_", "bernoulli_"])
def test_so_it_is_where_torch_draws(fill: str) -> None:
    def laid_out() -> Tensor:
        return torch.zeros(5, 6, 3, 4).to(memory_format=torch.channels_last)

    whole = filled(torch.zeros(5, 6, 3, 4), FILLS[fill])
    assert same_bits(filled(laid_out(), FILLS[fill]), whole)
    assert same_bits(filled(laid_out(), FILLS[fill], lambda w: w[1:3])[1:3], whole[1:3])


@pytest.mark.parametrize("name", ["xavier_uniform_", "kaiming_normal_", "lecun_normal_"])
def test_fans_of_a_view_are_its_own(name: str) -> None:
    fill = getattr(pyinit, name)
    model = one(torch.zeros(30, 14))
    with pyinit.keyed(model, 7):
        for part in model.weight.chunk(3):
            fill(part)
    for i, part in enumerate(model.weight.detach().chunk(3)):
        key = Key(7, (stream_of("weight") + i) % 2**64)
        whole = torch.empty(30, 14)
        alone = fill(torch.empty(10, 14), generator=Key(1))  # for the scale
        distribution = {"xavier_uniform_": "uniform_", "kaiming_normal_": "normal_"}.get(name)
        if distribution == "uniform_":
            bound = (6 / 24) ** 0.5
            pyinit.uniform_(whole, -bound, bound, key)
        elif distribution == "normal_":
            pyinit.normal_(whole, 0.0, (2 / 14) ** 0.5, key)
        else:
            std = 14**-0.5 / 0.87962566103423978
            pyinit.trunc_normal_(whole, 0.0, std, -2 * std, 2 * std, key)
        assert torch.allclose(part, whole[10 * i : 10 * i + 10], rtol=1e-6)
        assert part.std() == pytest.approx(float(alone.std()), rel=0.3)


@pytest.mark.parametrize("name", ["orthogonal_", "sparse_", "hadamard_"])
def test_what_depends_on_more_than_places_fills_the_view_as_a_tensor(name: str) -> None:
    arguments: dict[str, Any] = {"sparsity": 0.3} if name == "sparse_" else {}
    if name != "hadamard_":
        arguments["generator"] = Key(7, stream_of("weight"))
    model = one(torch.zeros(30, 14))
    with pyinit.keyed(model, 7):
        getattr(pyinit, name)(model.weight[10:20, 1:], **arguments)
    expected = getattr(pyinit, name)(torch.empty(10, 13), **arguments)
    assert torch.equal(model.weight[10:20, 1:], expected)
    assert not model.weight[:10].any()


def test_matrices_at_once_are_calls_of_their_own() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(8, 8))
    both = [model[0].weight, model[1].weight[:4], model[1].weight[4:]]
    with pyinit.keyed(model, 7):
        pyinit.orthogonal_many_(both, gain=[1.0, 2.0, 3.0])
        nn.init.zeros_(model[0].bias)
        nn.init.zeros_(model[1].bias)
    stream = stream_of("1.weight")
    keys = [Key(7, stream_of("0.weight")), Key(7, stream), Key(7, stream + 1)]
    for tensor, gain, key in zip(both, (1.0, 2.0, 3.0), keys, strict=True):
        assert torch.equal(tensor, pyinit.orthogonal_(torch.empty(tensor.shape), gain, key))


def test_probabilities_of_a_tensor_are_drawn_for_the_view_alone() -> None:
    model = one(torch.full((6, 4), 9.0))
    probabilities = torch.linspace(0, 1, 8).view(2, 4)
    with pyinit.keyed(model, 7):
        model.weight.data[2:4].bernoulli_(probabilities)
    key = Key(7, stream_of("weight"))
    expected = torch.empty(2, 4)
    expected.bernoulli_(probabilities, generator=for_torch(key, expected))
    assert torch.equal(model.weight[2:4], expected)
    assert (model.weight[:2] == 9).all()


def test_dtypes_that_torch_draws_are_keyed_too() -> None:
    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(6, 4, dtype=torch.complex64))
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        with pyinit.keyed(model, 7):
            nn.init.normal_(model.weight)
        drawn.append(model.weight.detach().clone())
    assert torch.equal(*drawn)
    with pyinit.keyed(model, 7):
        nn.init.normal_(model.weight[2:4])
    assert torch.equal(model.weight, drawn[0])


def test_a_view_of_another_dtype_is_a_tensor_of_its_own() -> None:
    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(6, 4, dtype=torch.complex64))
    with pyinit.keyed(model, 7):
        nn.init.xavier_uniform_(torch.view_as_real(model.weight.data)[2:4])
        torch.view_as_real(model.weight.data)[4:5].exponential_()
    stream = stream_of("weight")
    expected = pyinit.xavier_uniform_(torch.empty(2, 4, 2), generator=Key(7, stream))
    assert torch.equal(torch.view_as_real(model.weight.detach())[2:4], expected)
    drawn = torch.empty(1, 4, 2)
    drawn.exponential_(generator=for_torch(Key(7, stream + 1), drawn))
    assert torch.equal(torch.view_as_real(model.weight.detach())[4:5], drawn)
    assert not model.weight[:2].any()


def test_a_view_that_begins_inside_of_an_element_is_keyed_too() -> None:
    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(6, dtype=torch.complex64))
    state = torch.get_rng_state()
    with pyinit.keyed(model, 7, strict=True):
        nn.init.normal_(model.weight.data.real)
        nn.init.normal_(model.weight.data.imag)
        model.weight.data.view(torch.float32)[3:5].view(torch.float16)[1:].uniform_(2, 3)
    assert torch.equal(torch.get_rng_state(), state)
    stream = stream_of("weight")
    for part, n in ((model.weight.real, 0), (model.weight.imag[:1], 1)):
        drawn = pyinit.normal_(torch.empty(6), generator=Key(7, stream + n))
        assert torch.equal(part[:1], drawn[:1])


def test_a_tensor_that_has_more_than_the_parameter_is_another_tensor() -> None:
    shared = torch.zeros(2, 10)
    model = nn.Module()
    model.even, model.odd = nn.Parameter(shared[:, ::2]), nn.Parameter(shared[:, 1::2])
    with pyinit.keyed(model, 7):
        nn.init.normal_(shared.view(-1)[::4][:4])  # of one parameter, in another order
        parts = shared.view(-1)[::4][:4].clone()
        torch.manual_seed(0)
        nn.init.normal_(shared.view(-1)[:19])
        torch.manual_seed(0)
        assert torch.equal(shared.view(-1)[:19], torch.empty(19).normal_())
        assert not shared[1, 9]
    drawn = pyinit.fill.normal(torch.empty(2, 5), key=7, stream=stream_of("even"))
    assert torch.equal(parts, drawn.view(-1)[[0, 2, 4, 6]])


def test_a_tensor_in_freed_memory_of_a_parameter_is_another_tensor() -> None:
    model = one(torch.zeros(300))
    with pyinit.keyed(model, 7):
        old = model.weight.data
        model.weight.data = torch.zeros(300)
        torch.manual_seed(0)
        nn.init.normal_(old)
        torch.manual_seed(0)
        assert torch.equal(old, torch.empty(300).normal_())
        nn.init.normal_(model.weight)
    assert torch.equal(
        model.weight, pyinit.fill.normal(torch.empty(300), key=7, stream=stream_of("weight"))
    )
