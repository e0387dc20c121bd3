"""DTensors get, in every process, the bits that the tensor has in a single one."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from on_ranks import fake_rank, on_ranks
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard

import pyinit
from pyinit.initializers import (
    Centred,
    Constant,
    DeltaOrthogonal,
    Dirac,
    Eye,
    Hadamard,
    KaimingNormal,
    KaimingUniform,
    LecunNormal,
    Normal,
    Orthogonal,
    Padded,
    Parts,
    Sparse,
    TruncNormal,
    Uniform,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
)

NUMBER = 7.0  # what tensors hold before


# ---- What is filled --------------------------------------------------------------------------------


class Call(NamedTuple):
    name: str
    shapes: Sequence[tuple[int, ...]]
    options: dict[str, Any] = {}  # noqa: RUF012

    def fill(self, tensor: Tensor) -> Tensor:
        torch.manual_seed(5)
        function: Callable[..., Tensor] = getattr(pyinit, self.name)
        return function(tensor, **self.options)


ANY = [(), (9,), (7, 5), (1, 8), (0, 3), (5, 4, 3)]
MATRICES = [(7, 5), (5, 7), (8, 8), (1, 6), (13, 2)]
WEIGHTS = [(7, 5), (8, 2, 3), (6, 4, 3, 3)]
KERNELS = [(6, 3, 3), (8, 4, 2, 3), (4, 4, 1, 2, 3)]
CALLS = [
    Call("uniform_", ANY, {"a": -1.0, "b": 2.0}),
    Call("normal_", ANY, {"std": 0.02}),
    Call("trunc_normal_", ANY, {"std": 0.5, "a": -1.0, "b": 1.0}),
    Call("constant_", ANY, {"val": 0.5}),
    Call("ones_", ANY),
    Call("zeros_", ANY),
    Call("xavier_uniform_", WEIGHTS),
    Call("xavier_normal_", WEIGHTS, {"groups": 1}),
    Call("xavier_normal_", [(8, 2, 3)], {"groups": 4}),
    Call("kaiming_uniform_", WEIGHTS, {"a": 5**0.5}),
    Call("kaiming_normal_", WEIGHTS, {"mode": "fan_out"}),
    Call("kaiming_normal_", [(8, 2, 3)], {"transposed": True}),
    Call("kaiming_uniform_", [(3, 6, 4)], {"batch_dims": 1}),
    Call("lecun_uniform_", WEIGHTS),
    Call("lecun_normal_", WEIGHTS),
    Call("variance_scaling_", WEIGHTS),
    Call("variance_scaling_", WEIGHTS, {"distribution": "uniform"}),
    Call("eye_", MATRICES),
    Call("sparse_", [*MATRICES, (0, 3), (3, 0)], {"sparsity": 0.3}),
    Call("hadamard_", [*MATRICES, *KERNELS, (4, 2, 0)]),
    Call("dirac_", KERNELS),
    Call("dirac_", [(6, 3, 3)], {"groups": 2}),
    Call("orthogonal_", [*MATRICES, (6, 4, 3), (0, 3)], {"gain": 1.5}),
    Call("orthogonal_", [(8, 3)], {"groups": 4}),
    Call("delta_orthogonal_", [*KERNELS, (4, 2, 0)]),
    Call("delta_orthogonal_", [(8, 4, 3)], {"groups": 2}),
]

# Of a model: the shape of a parameter, and what it gets.
PARAMETERS: dict[str, tuple[tuple[int, ...], pyinit.initializers.Initializer]] = {
    "constant": ((5, 3), Constant(0.5)),
    "uniform": ((7, 5), Uniform(-1.0, 1.0)),
    "normal": ((7, 5), Normal(std=0.1)),
    "vector": ((9,), Normal(std=0.1)),
    "truncated": ((8, 3), TruncNormal(std=0.1, a=-0.2, b=0.2)),
    "xavier uniform": ((7, 5), XavierUniform()),
    "xavier normal": ((7, 5), XavierNormal()),
    "kaiming uniform": ((6, 4, 3), KaimingUniform()),
    "kaiming normal": ((6, 4, 3), KaimingNormal(mode="fan_out")),
    "lecun": ((7, 5), LecunNormal()),
    "scaling": ((7, 5), VarianceScaling()),
    "experts": ((3, 6, 4), KaimingNormal(batch_dims=1)),
    "padded": ((11, 3), Padded(Normal(std=0.1), row=4)),
    "padded last": ((11, 3), Padded(Uniform(-1.0, 1.0), row=-1)),
    "gates": ((12, 3), Parts((Normal(), Orthogonal(), Uniform(), Constant(1.0)))),
    "gates of a bias": ((12,), Parts((Constant(0.0), Constant(1.0), Normal(), Constant(0.0)))),
    "plain gates": ((12, 3), Parts((Normal(), Uniform(), Normal(std=2.0)))),
    "centred": ((6, 5), Centred(LecunNormal())),
    "centred kernel": ((6, 4, 3, 3), Centred(Normal())),
    "eye": ((5, 7), Eye(gain=2.0)),
    "dirac": ((6, 3, 3), Dirac(groups=2)),
    "hadamard": ((6, 3), Hadamard()),
    "sparse": ((9, 4), Sparse(0.3)),
    "orthogonal": ((9, 5), Orthogonal(gain=1.5)),
    "wide orthogonal": ((5, 9), Orthogonal()),
    "orthogonal groups": ((8, 3), Orthogonal(groups=4)),
    "orthogonal kernel": ((6, 4, 3), Orthogonal()),
    "delta orthogonal": ((8, 4, 3), DeltaOrthogonal()),
    "delta groups": ((8, 4, 3), DeltaOrthogonal(groups=2)),
    "padded orthogonal": ((9, 4), Padded(Orthogonal(), row=0)),
    "empty": ((0, 3), Normal()),
}
RULES = {name.replace(" ", "_"): initializer for name, (_, initializer) in PARAMETERS.items()}


def parameters(dtype: torch.dtype = torch.float32) -> nn.ParameterDict:
    return nn.ParameterDict(
        {
            name.replace(" ", "_"): nn.Parameter(torch.full(shape, NUMBER, dtype=dtype))
            for name, (shape, _) in PARAMETERS.items()
        }
    )


# ---- Where it lies -----------------------------------------------------------------------------------


def meshes() -> list[Any]:
    """Meshes of all processes, in all shapes, and those of which this one may be no part."""
    size = torch.distributed.get_world_size()
    sizes = {2: [(2,)], 3: [(3,)], 4: [(4,), (2, 2), (1, 2, 2)]}[size]
    made = [init_device_mesh("cpu", each) for each in sizes]
    return made if size != 4 else [*made, DeviceMesh("cpu", [1, 2])]


def placements(mesh: Any, dim: int) -> Iterator[tuple[Any, ...]]:
    """What a tensor of so many dimensions may be placed by."""
    each: list[Any] = [Replicate(), *map(Shard, range(dim))]
    each += [_StridedShard(d, split_factor=2) for d in range(min(dim, 2))]
    if mesh.ndim < 3:
        return itertools.product(each, repeat=mesh.ndim)
    return itertools.islice(itertools.product(each[:3], repeat=mesh.ndim), 0, None, 4)


def spread(tensor: Tensor, mesh: Any, places: Sequence[Any]) -> Any:
    return distribute_tensor(tensor, mesh, places, src_data_rank=None)


def told(*what: Any) -> str:
    return " ".join(map(str, what))


def wrong(tensor: Any, want: Tensor) -> bool:
    """Whether this process holds other bits than the whole has there."""
    like = spread(want, tensor.device_mesh, tensor.placements)._local_tensor
    local = tensor._local_tensor
    return local.shape != like.shape or not torch.equal(local, like)


# ---- On ranks ------------------------------------------------------------------------------------------


def fill_by_functions() -> tuple[int, list[str]]:
    count, failed = 0, []
    for mesh in meshes():
        for call in CALLS:
            for shape in call.shapes:
                want = call.fill(torch.full(shape, NUMBER))
                state = torch.get_rng_state()
                for places in placements(mesh, len(shape)):
                    tensor = spread(torch.full(shape, NUMBER), mesh, places)
                    before = tensor._version + tensor._local_tensor._version
                    is_same = call.fill(tensor) is tensor
                    is_counted = tensor._version + tensor._local_tensor._version > before
                    count += 1
                    if (
                        wrong(tensor, want)
                        or not is_same
                        or not (is_counted or tensor._local_tensor.numel() == 0)
                        or not torch.equal(torch.get_rng_state(), state)
                    ):
                        failed.append(told(call.name, call.options, shape, mesh, places))
    return count, failed


def fill_in_dtypes_and_layouts() -> tuple[int, list[str]]:
    count, failed = 0, []
    mesh = meshes()[0]
    calls = [call for call in CALLS if (7, 5) in call.shapes]
    dtypes = torch.float16, torch.bfloat16, torch.float64
    for call, dtype, places in itertools.product(calls, dtypes, placements(mesh, 2)):
        want = call.fill(torch.full((7, 5), NUMBER, dtype=dtype))
        tensor = spread(torch.full((7, 5), NUMBER, dtype=dtype), mesh, places)
        apart = strided(tensor)
        for each in tensor, apart:
            call.fill(each)
            count += 1
            if wrong(each, want):
                failed.append(told(call.name, dtype, places, each is apart))
    return count, failed


def strided(tensor: Any) -> Any:
    """The same, with a local tensor whose columns lie one after the other, with gaps between them."""
    rows, columns = tensor._local_tensor.shape
    local = torch.full((columns, rows + 3), NUMBER, dtype=tensor.dtype)[:, 1 : rows + 1].t()
    return DTensor.from_local(
        local,
        tensor.device_mesh,
        tensor.placements,
        run_check=False,
        shape=tensor.shape,
        stride=tensor.stride(),
    )


def fill_many_matrices() -> tuple[int, list[str]]:
    """More matrices than ranks, of all shapes, with plain ones between them."""
    shapes = [(5, 5), (9, 4), (4, 9), (1, 1), (7, 3), (3, 3, 2), (0, 2), (16, 16)]
    count, failed = 0, []
    for mesh in meshes():
        for places in placements(mesh, 2):
            tensors = [
                spread(
                    torch.full(shape, NUMBER), mesh, places if i % 3 else [Replicate()] * mesh.ndim
                )
                for i, shape in enumerate(shapes)
            ]
            plain = torch.full((3, 4), NUMBER)
            torch.manual_seed(5)
            pyinit.orthogonal_many_([*tensors[:4], plain, *tensors[4:]], gain=1.5)
            state = torch.get_rng_state()
            torch.manual_seed(5)
            whole = [torch.full(shape, NUMBER) for shape in shapes]
            alone = torch.full((3, 4), NUMBER)
            pyinit.orthogonal_many_([*whole[:4], alone, *whole[4:]], gain=1.5)
            count += len(shapes)
            ok = torch.equal(plain, alone) and torch.equal(torch.get_rng_state(), state)
            if not ok or any(map(wrong, tensors, whole)):
                failed.append(told(mesh, places))
    return count, failed


def fill_models() -> tuple[int, list[str]]:
    count, failed = 0, []
    for i, mesh in enumerate(meshes()):
        dtypes = torch.float32, torch.bfloat16, torch.float64
        for dtype in dtypes[: 3 if i == 0 else 1]:
            plain = parameters(dtype)
            report = pyinit.initialize_(plain, rules=RULES, seed=3)
            for places in placements(mesh, 3):
                model = parameters(dtype)
                frozen = nn.Parameter(torch.full((4, 3), NUMBER), requires_grad=False)
                model["frozen"] = frozen
                for name, parameter in list(model.items()):
                    here = [
                        p if getattr(p, "dim", 0) < parameter.dim() else Replicate() for p in places
                    ]
                    model[name] = nn.Parameter(
                        spread(parameter.detach(), mesh, here), parameter.requires_grad
                    )
                found = pyinit.initialize_(model, rules=RULES, seed=3)
                bad = [name for name, p in plain.items() if wrong(model[name], p.detach())]
                if not (model["frozen"]._local_tensor == NUMBER).all():
                    bad.append("frozen")
                bad += [
                    f"the row of {row.name}"
                    for row in report
                    if row
                    != found[row.name]._replace(
                        mean=row.mean, std=row.std, min=row.min, max=row.max
                    )
                ]
                count += len(plain)
                failed += [told(name, mesh, dtype, places) for name in bad]
    return count, failed


FILLS = (fill_by_functions, fill_in_dtypes_and_layouts, fill_many_matrices, fill_models)


def fill_all() -> dict[str, tuple[int, list[str]]]:
    return {fill.__name__: fill() for fill in FILLS}


@pytest.mark.parametrize("size", [2, 3, 4])
def test_every_initializer_gives_each_rank_what_the_whole_has_there(size: int) -> None:
    for rank, found in enumerate(on_ranks(fill_all, size, timeout=120)):
        for name, (count, failed) in found.items():
            assert count > 0, name
            assert not failed, f"rank {rank}: {len(failed)} of {count} in {name}: {failed[:5]}"


# ---- One process -----------------------------------------------------------------------------------------


@pytest.fixture
def mesh() -> Iterator[Any]:
    """Of two processes, of which this is the first, and the other is not there."""
    with fake_rank(0, 2):
        yield init_device_mesh("cpu", (2,))


def partial(mesh: Any, shape: tuple[int, ...]) -> Any:
    return DTensor.from_local(torch.full(shape, NUMBER), mesh, [Partial()], run_check=False)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: "-".join([call.name, *call.options]))
def test_partial_tensors_are_refused_before_anything_is_written_or_drawn(
    call: Call, mesh: Any
) -> None:
    tensor = partial(mesh, call.shapes[0])
    state = torch.manual_seed(5).get_state()
    with pytest.raises(ValueError, match=r"must be placed by Shard and Replicate, got P\(sum\)"):
        call.fill(tensor)
    assert (tensor._local_tensor == NUMBER).all()
    assert torch.equal(torch.get_rng_state(), state)


def test_partial_parameters_are_refused_by_name_before_anything_is_written(mesh: Any) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    model[1].weight = nn.Parameter(partial(mesh, (5, 4)))
    before = model[0].weight.clone()
    with pytest.raises(ValueError, match=r"1\.weight: a DTensor must be placed .* got P\(sum\)"):
        pyinit.initialize_(model, "normal", seed=1)
    assert torch.equal(model[0].weight, before)
    pyinit.initialize_(model, "normal", seed=1, skip="1.weight")
    assert (model[1].weight._local_tensor == NUMBER).all()


def test_a_partial_matrix_among_many_is_refused_before_anything_is_written(mesh: Any) -> None:
    plain = torch.full((3, 3), NUMBER)
    with pytest.raises(ValueError, match="Shard and Replicate"):
        pyinit.orthogonal_many_([plain, partial(mesh, (3, 3))])
    assert (plain == NUMBER).all()


def test_torchs_own_numbers_are_refused_to_the_parameters_that_are_spread(mesh: Any) -> None:
    """torch on the CPU would give all processes the same numbers."""
    model = nn.Linear(3, 4)
    model.weight = nn.Parameter(spread(model.weight.detach(), mesh, [Shard(0)]))
    before = model.weight._local_tensor.clone(), model.bias.clone()
    with (
        pyinit.rng("torch"),
        pytest.raises(ValueError, match=r"cannot fill weight under pyinit\.rng\('torch'\)"),
    ):
        pyinit.initialize_(model, "normal", seed=1)
    assert torch.equal(model.weight._local_tensor, before[0])
    assert torch.equal(model.bias, before[1])
    with pyinit.rng("torch"):
        pyinit.initialize_(model, rules={"*": Constant(0.5)}, seed=1)
    assert (model.weight._local_tensor == 0.5).all()


@pytest.mark.parametrize("name", ["eye_", "dirac_", "hadamard_"])
def test_what_draws_no_numbers_is_filled_whatever_generator_is_chosen(name: str, mesh: Any) -> None:
    shape = (6, 3, 3) if name == "dirac_" else (7, 5)
    tensor = spread(torch.full(shape, NUMBER), mesh, [Shard(0)])
    with pyinit.rng("torch"):
        getattr(pyinit, name)(tensor)
    assert not wrong(tensor, getattr(pyinit, name)(torch.empty(shape)))


@pytest.mark.filterwarnings("ignore:DTensor random operators")
@pytest.mark.parametrize("name", ["normal_", "uniform_", "xavier_normal_", "trunc_normal_"])
def test_with_torchs_own_numbers_functions_are_torchs(name: str, mesh: Any) -> None:
    found = []
    for module in (pyinit, nn.init):
        tensor = spread(torch.full((8, 4), NUMBER), mesh, [Shard(0)])
        torch.manual_seed(5)
        with pyinit.rng("torch"):
            getattr(module, name)(tensor)
        found.append((tensor._local_tensor.clone(), torch.get_rng_state()))
    assert all(map(torch.equal, *found))
