"""The numbers of torch's stateless generator, of whole tensors and of blocks, and its keys."""

import ctypes
import itertools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import reference
import torch
from bits import bits, same_bits
from dtypes import FLOATS
from layouts import LAYOUTS
from programs import run_python
from targets import target
from torch import Tensor

import pyinit
from pyinit import _core, fill
from pyinit._random import stateless
from pyinit._random.rng import Key, has_stateless, stream_of

needs_kernels = pytest.mark.skipif(
    not has_stateless(), reason="torch has its stateless generator on the CPU from 2.14 on"
)
lacks_kernels = pytest.mark.skipif(has_stateless(), reason="torch has its stateless generator")
knows_libm = pytest.mark.skipif(
    not _core.torch_func_matches_libm(), reason="another C library has other bits"
)

VECTORS, VECTORS_FUSED, LIBM, LIBM_FUSED = range(_core.TORCH_FUNC_ARITHMETICS)
KERNELS = {"normal": _core.torch_func_normal, "uniform": _core.torch_func_uniform}
NUMBERS = {"normal": (0.1, 0.3), "uniform": (-0.1, 0.3)}
KEY = 6033254488940945703, 8380643633896839790  # torch.func._random.split(key(42))[1]

# What torch 2.14.1 draws from that key, as bits.
DRAWN = {
    ("normal", torch.float16): "2c64 35d1 b65f 2b95 2c76 3545 3833",
    ("uniform", torch.float16): "3301 34ab a94c 34c1 30b6 2b4c 290c",
    ("normal", torch.bfloat16): "3d8c 3eba becc 3d73 3d8f 3ea9 3f06",
    ("uniform", torch.bfloat16): "3d53 3e70 bd00 3e8e 3e8f bd33 3e5d",
    ("normal", torch.float32): "3d8c737e 3eba1801 becbef5a 3d72a1f1 3d8ec976 3ea8970f 3f066106",
    ("uniform", torch.float32): "bd3f0a60 3e701958 3e72e848 3cf798dc bcbb5a4c 3d23adb2 3e175144",
    ("normal", torch.float64): (
        "3fb9dc96fdd2f3a9 3fd7618e5e7cf024 bfa94d09dbf01de0 3fd1b28828fd6ec0 bfe950936c5b4633 "
        "3fe3818827a63ae9 3fe97bd6b795130d"
    ),
    ("uniform", torch.float64): (
        "bfb2b86256ec9a20 3fc94ead9eebbfe9 3fbdf63a77850a0e 3fd20f08c905c30a 3fd00396f0a355ea "
        "3fc626e85fbb6185 3fc08b23ce4bd760"
    ),
}


def drawn(  # noqa: PLR0917
    name: str,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    key: tuple[int, int] = KEY,
    arithmetic: int = VECTORS,
    threads: int = 1,
) -> Tensor:
    """What the kernel makes."""
    out = torch.full(shape, torch.nan, dtype=dtype)
    KERNELS[name](target(out), *NUMBERS[name], key, arithmetic, threads)
    return out


def random_keys(count: int, seed: int) -> list[tuple[int, int]]:
    pairs = np.random.default_rng(seed).integers(0, 2**64, (count, 2), np.uint64).tolist()
    return [(seed, offset) for seed, offset in pairs]


# ---- Kernels, whichever torch is there -------------------------------------------------------------


@knows_libm
@pytest.mark.parametrize("arithmetic", [VECTORS, LIBM])
@pytest.mark.parametrize(("name", "dtype"), list(DRAWN), ids=str)
def test_kernels_draw_what_torch_drew(name, dtype, arithmetic, isa):
    out = drawn(name, (7,), dtype, arithmetic=arithmetic)
    digits = dtype.itemsize * 2
    found = [f"{value % 2 ** (4 * digits):0{digits}x}" for value in bits(out).tolist()]
    assert " ".join(found) == DRAWN[name, dtype]


def normal_of_libm(seed: int, offset: int, count: int) -> np.ndarray:
    """float32 normals, step by step, from the C library's own functions."""
    libm = ctypes.CDLL("libm.so.6")
    for function in (libm.logf, libm.sinf, libm.cosf):
        function.restype, function.argtypes = ctypes.c_float, [ctypes.c_float]
    blocks = [
        _core.philox4x32((at % 2**32, at >> 32, 0, 0), (seed % 2**32, seed >> 32))
        for at in ((offset + i) % 2**64 for i in range(-(-count // 4)))
    ]
    words = np.array(blocks, np.uint32).ravel().astype(np.float32)
    u = words * np.float32(2.0**-32) + np.float32(2.0**-33)
    made = []
    for first, second in zip(u[0::2], u[1::2], strict=True):
        radius = np.sqrt(np.float32(-2) * np.float32(libm.logf(first)))
        theta = np.float32(2 * np.pi) * second
        made += [radius * np.float32(libm.cosf(theta)), radius * np.float32(libm.sinf(theta))]
    mean, std = map(np.float32, NUMBERS["normal"])
    return (np.array(made, np.float32) * std + mean)[:count]


@knows_libm
@pytest.mark.parametrize("key", [KEY, (3, 0), (2**64 - 1, 2**64 - 4)], ids=str)
def test_normal_numbers_are_those_of_the_formulas(key, isa):
    expected = torch.from_numpy(normal_of_libm(*key, 1003))
    assert same_bits(drawn("normal", (1003,), torch.float32, key), expected)


def test_uniform_numbers_have_the_low_bits_of_the_words(isa):
    w = reference.words(KEY[0], 0, 0, 40)
    for dtype, digits in ((torch.float32, 24), (torch.float16, 11), (torch.bfloat16, 8)):
        out = torch.empty(40, dtype=dtype)
        _core.torch_func_uniform(target(out), 0.0, 1.0, (KEY[0], 0), VECTORS, 1)
        assert out.double().tolist() == ((w % 2**digits) * 2.0**-digits).tolist()


@knows_libm
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("vectors", "libm"), [(VECTORS, LIBM), (VECTORS_FUSED, LIBM_FUSED)])
def test_vectors_have_the_c_librarys_bits(dtype, vectors, libm, isa):
    for key in random_keys(3, seed=1):
        one = drawn("normal", (20011,), dtype, key, vectors)
        assert same_bits(one, drawn("normal", (20011,), dtype, key, libm))


def test_fused_sums_are_rounded_once():
    separate = drawn("normal", (5000,), torch.float64, arithmetic=LIBM)
    fused = drawn("normal", (5000,), torch.float64, arithmetic=LIBM_FUSED)
    assert 0 < (separate - fused).abs().max() < 1e-15


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_numbers_are_the_same_on_every_instruction_set(name, dtype):
    usual = _core.isa()
    made = []
    for isa in _core.available_isas():
        _core.set_isa(isa)
        made += [drawn(name, (4097,), dtype)]
    _core.set_isa(usual)
    assert all(same_bits(one, made[0]) for one in made)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_sizes_begin_alike(name, dtype, isa):
    large = drawn(name, (40,), dtype)
    for size in range(40):
        assert same_bits(drawn(name, (size,), dtype), large[:size])


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_blocks_are_parts_of_the_whole(name, dtype, threads):
    whole = drawn(name, (41, 6, 35), dtype, threads=threads)
    assert same_bits(whole, drawn(name, (41, 6, 35), dtype))
    for start, shape in [
        ((0, 0, 0), (1, 1, 1)),
        ((7, 2, 3), (30, 3, 31)),
        ((40, 5, 34), (1, 1, 1)),
    ]:
        out = torch.full(shape, torch.nan, dtype=dtype)
        KERNELS[name](target(out), *NUMBERS[name], KEY, VECTORS, threads, (41, 6, 35), start)
        place = tuple(slice(at, at + size) for at, size in zip(start, shape, strict=True))
        assert same_bits(out, whole[place].contiguous())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_the_layout_in_memory_makes_no_difference(layout, dtype):
    out = LAYOUTS[layout](torch.full((6, 5, 7, 3), torch.nan, dtype=dtype))
    _core.torch_func_normal(target(out), *NUMBERS["normal"], KEY, VECTORS, 2)
    assert same_bits(out, drawn("normal", (6, 5, 7, 3), dtype))


def test_an_offset_is_a_number_of_blocks():
    seed, offset = KEY
    for dtype, a_block in ((torch.float32, 4), (torch.float64, 2)):
        numbers = drawn("normal", (100,), dtype)
        later = drawn("normal", (100 - 3 * a_block,), dtype, (seed, offset + 3))
        assert same_bits(later, numbers[3 * a_block :])


@pytest.mark.parametrize("arithmetic", [-1, _core.TORCH_FUNC_ARITHMETICS])
def test_unknown_arithmetic_is_refused(arithmetic):
    with pytest.raises(ValueError, match="arithmetic: unknown code"):
        drawn("normal", (3,), torch.float32, arithmetic=arithmetic)


# ---- Keys under the other generators ---------------------------------------------------------------


def as_key(seed: int, offset: int = 0) -> Tensor:
    return torch.tensor([seed, offset], dtype=torch.uint64)


@pytest.mark.parametrize("name", ["uniform_", "normal_", "trunc_normal_", "orthogonal_", "sparse_"])
def test_a_key_of_torch_is_a_key_and_a_stream(name):
    arguments = {"sparsity": 0.3} if name == "sparse_" else {}
    initialize = getattr(pyinit, name)
    by_key = initialize(torch.empty(9, 7), **arguments, generator=as_key(*KEY))
    assert same_bits(by_key, initialize(torch.empty(9, 7), **arguments, generator=Key(*KEY)))
    again = initialize(torch.empty(9, 7), **arguments, generator=as_key(*KEY))
    assert same_bits(by_key, again)  # a key is not used up


def test_a_key_draws_nothing_from_torchs_generator():
    before = torch.get_rng_state()
    pyinit.normal_(torch.empty(5), generator=as_key(1))
    assert torch.equal(before, torch.get_rng_state())


def test_fills_take_keys_of_torch():
    by_key = fill.normal(torch.empty(9), key=as_key(*KEY))
    assert same_bits(by_key, fill.normal(torch.empty(9), key=KEY[0], stream=KEY[1]))
    with pytest.raises(ValueError, match="stream is for keys that are integers"):
        fill.normal(torch.empty(9), key=as_key(1), stream=2)


def test_many_matrices_from_a_key_differ():
    one, two = pyinit.orthogonal_many_([torch.empty(4, 4), torch.empty(4, 4)], generator=as_key(1))
    assert not torch.equal(one, two)


def test_a_key_seeds_torchs_generator():
    with pyinit.rng("torch"):
        one = pyinit.normal_(torch.empty(5000), generator=as_key(*KEY))
        assert same_bits(one, pyinit.normal_(torch.empty(5000), generator=Key(*KEY)))
    assert not same_bits(one, pyinit.normal_(torch.empty(5000), generator=as_key(*KEY)))


BAD_KEYS = {
    "length": torch.zeros(3, dtype=torch.uint64),
    "batch": torch.zeros(2, 2, dtype=torch.uint64),
    "scalar": torch.zeros((), dtype=torch.uint64),
    "meta": torch.zeros(2, dtype=torch.uint64, device="meta"),
}


@pytest.mark.parametrize("key", BAD_KEYS)
@pytest.mark.parametrize("name", ["normal_", "trunc_normal_", "orthogonal_"])
def test_other_tensors_are_no_keys(name, key):
    out = torch.zeros(4, 4)
    with pytest.raises(
        TypeError, match=r"generator, if it is a tensor, must be a key of torch\.func"
    ):
        getattr(pyinit, name)(out, generator=BAD_KEYS[key])
    assert not out.any()


@pytest.mark.parametrize(
    "key", [*BAD_KEYS.values(), torch.tensor([1, 2])], ids=[*BAD_KEYS, "dtype"]
)
def test_fills_refuse_other_tensors(key):
    out = torch.zeros(4, 4)
    with pytest.raises(TypeError, match=r"key, if it is a tensor, must be a key of torch\.func"):
        fill.normal(out, key=key)
    assert not out.any()


# ---- Without torch's kernels -----------------------------------------------------------------------

MISSING = "'torch.func' needs the CPU kernels of torch.func._random, which torch has from 2.14 on"


@lacks_kernels
@pytest.mark.parametrize("choose", [pyinit.set_rng, pyinit.rng, pyinit.patch])
def test_an_older_torch_is_refused(choose):
    with pytest.raises(RuntimeError, match=MISSING) as refused:
        choose("torch.func")
    assert torch.__version__ in str(refused.value)
    assert pyinit.get_rng() == "philox"
    assert pyinit.info()["patch"] == "none"


@lacks_kernels
def test_an_older_torch_is_refused_in_the_environment():
    done = run_python("-c", "import pyinit", PYINIT_RNG="torch.func")
    assert done.returncode != 0
    assert f"RuntimeError: PYINIT_RNG {MISSING}" in done.stderr


# ---- Beside torch ----------------------------------------------------------------------------------


@pytest.fixture
def stateless_torch():
    """``torch.func._random``, with the generator in force."""
    from torch.func import _random  # noqa: PLC0415  which older ones lack

    with pyinit.rng("torch.func"):
        yield _random


def theirs(module, key: Tensor, name: str, shape, dtype=torch.float32, **numbers) -> Tensor:
    return getattr(module, name)(key, torch.empty(shape, dtype=dtype), **numbers)


@needs_kernels
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("small", [0, stateless._SMALL])
def test_all_sizes_are_torchs(dtype, small, stateless_torch, monkeypatch):
    by_kernel, calls = stateless._Case.by_kernel, Counter()

    def counted(case, *arguments):
        calls[case.kernel] += 1
        by_kernel(case, *arguments)

    monkeypatch.setattr(stateless._Case, "by_kernel", counted)
    monkeypatch.setattr(stateless, "_SMALL", small)
    key = stateless_torch.split(stateless_torch.key(7))[0]
    for size in [*range(41), 1000, 4099, 100003]:
        numbers = {"mean": 0.1, "std": 0.3}
        ours = pyinit.normal_(torch.empty(size, dtype=dtype), 0.1, 0.3, generator=key)
        assert same_bits(ours, theirs(stateless_torch, key, "normal_", size, dtype, **numbers))
        ours = pyinit.uniform_(torch.empty(size, dtype=dtype), -0.1, 0.3, generator=key)
        numbers = {"low": -0.1, "high": 0.3}
        assert same_bits(ours, theirs(stateless_torch, key, "uniform_", size, dtype, **numbers))
    assert not pyinit.info()["torch_fallbacks"]
    for kernel in ("torch_func_normal", "torch_func_uniform"):
        assert calls[kernel] >= (3 if small else 44)


@needs_kernels
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_random_keys_numbers_and_threads_are_torchs(dtype, isa, stateless_torch, set_threads):
    random = np.random.default_rng(3)
    for pair, threads in zip(random_keys(12, seed=2), itertools.cycle((1, 2, 4)), strict=False):
        set_threads(threads)
        key, size = as_key(*pair), int(random.integers(1, 200_000))
        mean, std = float(random.normal()), float(random.uniform(0, 50))
        ours = pyinit.normal_(torch.empty(size, dtype=dtype), mean, std, generator=key)
        numbers = {"mean": mean, "std": std}
        assert same_bits(ours, theirs(stateless_torch, key, "normal_", size, dtype, **numbers))
        ours = pyinit.uniform_(torch.empty(size, dtype=dtype), mean, mean + std, generator=key)
        numbers = {"low": mean, "high": mean + std}
        assert same_bits(ours, theirs(stateless_torch, key, "uniform_", size, dtype, **numbers))


@needs_kernels
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strided_tensors_are_torchs(layout, stateless_torch):
    ours, expected = (LAYOUTS[layout](torch.zeros(6, 5, 7, 3)) for _ in range(2))
    pyinit.normal_(ours, generator=as_key(5))
    stateless_torch.normal_(as_key(5), expected)
    assert same_bits(ours, expected)


@needs_kernels
def test_blocks_are_those_of_torchs_whole(stateless_torch):
    key = stateless_torch.fold_in(stateless_torch.key(3), 2**63 + 1)
    whole = theirs(stateless_torch, key, "uniform_", (9, 31), torch.float64)
    for given in ({"key": key}, {"key": 3, "stream": 2**63 + 1}):
        block = fill.uniform(np.empty((4, 30)), **given, whole=(9, 31), start=(5, 1))
        assert same_bits(torch.from_numpy(block), whole[5:, 1:].contiguous())


@needs_kernels
def test_without_a_key_a_seed_is_drawn(stateless_torch):
    for source, state in ((None, torch.default_generator), (g := torch.Generator(), g)):
        state.manual_seed(5)
        ours = pyinit.normal_(torch.empty(30), generator=source)
        after = state.get_state()
        state.manual_seed(5)
        word = torch.empty((), dtype=torch.int64).random_(-(2**63), None, generator=source)
        assert torch.equal(after, state.get_state())
        key = as_key(word.item() % 2**64)
        assert same_bits(ours, theirs(stateless_torch, key, "normal_", 30))


@needs_kernels
def test_scaled_initializers_scale_torchs_numbers(stateless_torch):
    key = as_key(11, 4)
    made = pyinit.kaiming_uniform_(torch.empty(6, 5, 3), generator=key, nonlinearity="relu")
    bound = (6 / 15) ** 0.5
    expected = theirs(stateless_torch, key, "uniform_", (6, 5, 3), low=-bound, high=bound)
    assert same_bits(made, expected)
    made = pyinit.xavier_normal_(torch.empty(6, 5), generator=key)
    std = (2 / 11) ** 0.5
    assert same_bits(made, theirs(stateless_torch, key, "normal_", (6, 5), std=std))


@needs_kernels
def test_batches_of_keys_go_to_torch(stateless_torch):
    keys = stateless_torch.split(stateless_torch.key(1), 3).unsqueeze(1)
    made = pyinit.normal_(torch.empty(3, 5), generator=keys)
    assert same_bits(made, theirs(stateless_torch, keys, "normal_", (3, 5)))


@needs_kernels
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("trunc_normal_", {}),
        ("orthogonal_", {}),
        ("delta_orthogonal_", {}),
        ("sparse_", {"sparsity": 0.5}),
        ("orthogonal_many_", {}),
    ],
)
def test_other_numbers_are_refused(name, arguments, stateless_torch):
    out = torch.zeros(4, 4, 1) if name == "delta_orthogonal_" else torch.zeros(4, 4)
    given = [out] if name == "orthogonal_many_" else out
    before = torch.get_rng_state()
    with pytest.raises(
        NotImplementedError, match=r"draws numbers that torch\.func\._random has no"
    ):
        getattr(pyinit, name)(given, **arguments)
    assert not out.any()
    assert torch.equal(before, torch.get_rng_state())


@needs_kernels
@pytest.mark.parametrize("name", ["trunc_normal", "bernoulli"])
def test_fills_of_other_numbers_are_refused(name, stateless_torch):
    with pytest.raises(NotImplementedError, match=f"{name} draws numbers"):
        getattr(fill, name)(torch.empty(4), key=1)


@needs_kernels
def test_constants_and_meta_tensors_are_as_always(stateless_torch):
    assert pyinit.eye_(torch.empty(3, 3)).equal(torch.eye(3))
    for name in ("normal_", "uniform_", "trunc_normal_", "orthogonal_"):
        before = torch.get_rng_state()
        getattr(pyinit, name)(torch.empty(3, 3, device="meta"))
        assert torch.equal(before, torch.get_rng_state())


@needs_kernels
def test_bad_parameters_are_refused_as_always(stateless_torch):
    out = torch.zeros(3)
    with pytest.raises(RuntimeError, match=r"std >= 0.0, but found std -1"):
        pyinit.normal_(out, std=-1.0)
    with pytest.raises(RuntimeError, match=r"from=1 > to=0"):
        pyinit.uniform_(out, 1.0, 0.0)
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator or a key"):
        pyinit.normal_(out, generator=5)
    assert not out.any()


@needs_kernels
def test_what_kernels_do_not_take_goes_to_torch(stateless_torch):
    wide = pyinit.normal_(torch.empty(50, dtype=torch.float16), 0.0, 1e5, generator=as_key(1))
    expected = theirs(stateless_torch, as_key(1), "normal_", 50, torch.float16, mean=0.0, std=1e5)
    assert same_bits(wide, expected)
    with pytest.raises(NotImplementedError):
        pyinit.normal_(torch.empty(3, dtype=torch.complex64))


@needs_kernels
def test_versions_move_on_and_gradients_stay(stateless_torch):
    weight = torch.nn.Parameter(torch.empty(5))
    before = weight._version
    pyinit.normal_(weight)
    assert weight._version == before + 1
    assert weight.requires_grad


@needs_kernels
@pytest.mark.parametrize("name", ["uniform", "normal"])
def test_a_torch_with_other_numbers_does_the_work(name, stateless_torch, monkeypatch):
    """The check is made anew beside an operator that draws something else."""
    monkeypatch.setattr(stateless, "_verdicts", {})
    monkeypatch.setattr("pyinit._random.torch_cases._notes", {})
    original = stateless._Case.by_torch

    def other(case, tensor, key, a, b):
        original(case, tensor, key, a, b)
        tensor.neg_()

    monkeypatch.setattr(stateless._Case, "by_torch", other)
    made = getattr(pyinit, f"{name}_")(torch.empty(900), generator=as_key(1))
    assert same_bits(made, -theirs(stateless_torch, as_key(1), f"{name}_", 900))
    (note,) = pyinit.info()["torch_fallbacks"]
    assert note == (f"torch.func {name}_, float32: torch {torch.__version__} draws other numbers")
    with pytest.raises(RuntimeError, match="cannot make those of a block"):
        getattr(fill, name)(torch.empty(9), key=1, whole=(20,), start=(3,))


@needs_kernels
@pytest.mark.parametrize("way", range(_core.TORCH_FUNC_ARITHMETICS))
def test_the_check_tells_ways_of_rounding_apart(way, stateless_torch, monkeypatch):
    """Beside an operator that rounds in that way."""
    monkeypatch.setattr(stateless, "_verdicts", {})

    def rounded(case, tensor, key, a, b):
        case.by_kernel(target(tensor), (a, b), tuple(key.tolist()), way, 1)

    monkeypatch.setattr(stateless._Case, "by_torch", rounded)
    for case in stateless._CASES.values():
        for code in (_core.FLOAT32, _core.FLOAT64):
            assert stateless._arithmetic_of(case, code) % 2 == way % 2


@needs_kernels
def test_a_model_is_drawn_by_names(stateless_torch):
    model = torch.nn.Linear(5, 4)
    report = pyinit.initialize_(model, "xavier", seed=1)
    key = stateless_torch.fold_in(stateless_torch.key(1), stream_of("weight"))
    bound = (6 / 9) ** 0.5
    expected = theirs(stateless_torch, key, "uniform_", (4, 5), low=-bound, high=bound)
    assert same_bits(model.weight, expected)
    assert report.rng == "torch.func"
    again = torch.nn.Linear(5, 4)
    with pyinit.rng("philox"):
        pyinit.replay_(again, report)
    assert same_bits(again.weight, model.weight)


@needs_kernels
def test_a_model_with_other_numbers_is_refused_before_it_is_touched(stateless_torch):
    model = torch.nn.Linear(5, 4)
    before = model.weight.detach().clone()
    with pytest.raises(ValueError, match=r"trunc_normal cannot fill weight under pyinit.rng"):
        pyinit.initialize_(model, rules={"weight": pyinit.initializers.TruncNormal()}, seed=1)
    assert torch.equal(model.weight, before)


@needs_kernels
def test_patched_functions_draw_from_keys():
    from torch.func import _random  # noqa: PLC0415

    with pyinit.patch("torch.func"):
        made = torch.nn.init.normal_(torch.empty(7), generator=as_key(1))
    assert same_bits(made, theirs(_random, as_key(1), "normal_", 7))


SHARDS = """
import sys
from datetime import timedelta

import torch
from torch import distributed, nn
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh
from torch.func import _random

import pyinit

rank, store = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group(
    "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
)
mesh, key = init_device_mesh("cpu", (2,)), _random.split(_random.key(5))[1]
with pyinit.rng("torch.func"):
    for dim in (0, 1):
        part = distribute_tensor(torch.zeros(7, 5), mesh, [Shard(dim)])
        pyinit.normal_(part, 0.1, 0.3, generator=key)
        assert torch.equal(part.full_tensor(), _random.normal(key, 7, 5, mean=0.1, std=0.3))
    model, whole = nn.Linear(5, 7), nn.Linear(5, 7)
    for name, parameter in list(model.named_parameters()):
        split = distribute_tensor(parameter.detach(), mesh, [Shard(0)])
        setattr(model, name, nn.Parameter(split))
    pyinit.initialize_(model, "kaiming", seed=3)
    pyinit.initialize_(whole, "kaiming", seed=3)
    assert torch.equal(model.weight.full_tensor(), whole.weight)
    try:
        pyinit.orthogonal_many_([model.weight])
    except NotImplementedError:
        print("equal")
distributed.barrier()
distributed.destroy_process_group()
"""


@needs_kernels
def test_shards_are_parts_of_torchs_whole(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        ranks = [
            pool.submit(run_python, "-c", SHARDS, str(rank), str(tmp_path / "store"))
            for rank in range(2)
        ]
        for done in [rank.result() for rank in ranks]:
            assert (done.returncode, done.stdout.strip()) == (0, "equal"), done.stderr
