"""The choice of generator, and the keys that calls draw."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from programs import run_python

import pyinit
from pyinit import _core, fill
from pyinit._random.rng import Key, take_key

RANDOM = {
    "uniform_": {},
    "normal_": {},
    "trunc_normal_": {},
    "xavier_uniform_": {},
    "xavier_normal_": {},
    "kaiming_uniform_": {},
    "kaiming_normal_": {},
    "orthogonal_": {},
    "sparse_": {"sparsity": 0.3},
}


def random_word(generator: torch.Generator | None = None) -> int:
    """One 64-bit draw, as torch gives it."""
    word = torch.empty((), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    return word.item() % 2**64


def test_philox_is_the_default():
    assert pyinit.get_rng() == "philox"


def test_set_rng_changes_the_process():
    pyinit.set_rng("torch")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(pyinit.get_rng).result() == pyinit.get_rng() == "torch"


def test_rng_block_ends_with_the_choice_before():
    with pyinit.rng("torch"):
        with pyinit.rng("philox"):
            assert pyinit.get_rng() == "philox"
        assert pyinit.get_rng() == "torch"
    assert pyinit.get_rng() == "philox"


def test_rng_block_ends_when_it_raises():
    with pytest.raises(KeyError), pyinit.rng("torch"):
        raise KeyError
    assert pyinit.get_rng() == "philox"


def test_rng_block_leaves_other_threads_alone():
    with pyinit.rng("torch"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(pyinit.get_rng).result() == "philox"


def test_rng_block_leaves_other_tasks_alone():
    seen = []

    async def torch_task(entered: asyncio.Event, looked: asyncio.Event) -> None:
        with pyinit.rng("torch"):
            entered.set()
            await looked.wait()
            seen.append(pyinit.get_rng())

    async def main() -> None:
        entered, looked = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(torch_task(entered, looked))
        await entered.wait()
        seen.append(pyinit.get_rng())
        looked.set()
        await task

    asyncio.run(main())
    assert seen == ["philox", "torch"]


@pytest.mark.parametrize("choose", [pyinit.set_rng, pyinit.rng])
@pytest.mark.parametrize("name", ["Philox", "", "mt19937", None])
def test_unknown_name_is_refused(choose, name):
    with pytest.raises(
        ValueError, match=r"rng name must be one of 'philox', 'torch', 'torch.func', got "
    ):
        choose(name)


def test_environment_sets_the_first_choice():
    done = run_python("-c", "import pyinit; print(pyinit.get_rng())", PYINIT_RNG="torch")
    assert done.stdout.strip() == "torch"


def test_unknown_environment_value_is_refused():
    done = run_python("-c", "import pyinit", PYINIT_RNG="xorshift")
    assert done.returncode != 0
    assert (
        "ValueError: PYINIT_RNG must be one of 'philox', 'torch', 'torch.func', got 'xorshift'"
        in done.stderr
    )


def assert_torchs(name: str, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Bit for bit; of the factorization of the same numbers, to rounding."""
    error = 1e-5 if name == "orthogonal_" else 0.0
    torch.testing.assert_close(ours, theirs, rtol=0, atol=error)


@pytest.mark.parametrize("name", RANDOM)
def test_torch_choice_gives_torchs_numbers(name):
    ours, theirs = torch.empty(8, 6), torch.empty(8, 6)
    torch.manual_seed(5)
    with pyinit.rng("torch"):
        getattr(pyinit, name)(ours, **RANDOM[name])
    after = torch.get_rng_state()
    torch.manual_seed(5)
    getattr(torch.nn.init, name)(theirs, **RANDOM[name])
    assert_torchs(name, ours, theirs)
    assert torch.equal(after, torch.get_rng_state())


@pytest.mark.parametrize("name", [name for name in RANDOM if name != "sparse_"])
def test_torch_choice_survives_a_patched_torch(name, monkeypatch):
    expected = getattr(torch.nn.init, name)(
        torch.empty(8, 6), **RANDOM[name], generator=torch.Generator().manual_seed(5)
    )
    for public in torch.nn.init.__all__:
        monkeypatch.setattr(torch.nn.init, public, getattr(pyinit, public))
    with pyinit.rng("torch"):
        ours = getattr(pyinit, name)(
            torch.empty(8, 6), **RANDOM[name], generator=torch.Generator().manual_seed(5)
        )
    assert_torchs(name, ours, expected)


@pytest.mark.parametrize("name", RANDOM)
def test_a_call_draws_one_word_from_the_default_generator(name):
    torch.manual_seed(7)
    getattr(pyinit, name)(torch.empty(40, 30), **RANDOM[name])
    after = torch.get_rng_state()
    torch.manual_seed(7)
    random_word()
    assert torch.equal(after, torch.get_rng_state())


@pytest.mark.parametrize("name", RANDOM)
def test_a_call_draws_one_word_from_the_given_generator(name):
    given, mirror = torch.Generator().manual_seed(7), torch.Generator().manual_seed(7)
    default_before = torch.get_rng_state()
    getattr(pyinit, name)(torch.empty(40, 30), **RANDOM[name], generator=given)
    random_word(mirror)
    assert torch.equal(given.get_state(), mirror.get_state())
    assert torch.equal(default_before, torch.get_rng_state())


def test_the_word_drawn_is_the_key():
    torch.manual_seed(11)
    drawn = pyinit.normal_(torch.empty(1000))
    torch.manual_seed(11)
    assert torch.equal(drawn, fill.normal(torch.empty(1000), key=random_word()))


def test_all_64_bits_of_a_key_are_drawn():
    keys = [take_key(None) for _ in range(200)]
    assert all(stream == 0 for _, stream in keys)
    for bit in range(64):
        assert 50 < sum(key >> bit & 1 for key, _ in keys) < 150


@pytest.mark.parametrize("name", RANDOM)
def test_a_key_stands_for_a_generator(name):
    before = torch.get_rng_state()
    first, second, other = (
        getattr(pyinit, name)(torch.empty(8, 6), **RANDOM[name], generator=key)
        for key in (Key(3, 4), Key(3, 4), Key(3, 5))
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_a_key_seeds_torch_where_torch_draws():
    first, second, other = (
        pyinit.normal_(torch.empty(8, dtype=torch.complex64), generator=key)
        for key in (Key(3, 4), Key(3, 4), Key(3, 5))
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert pyinit.normal_(torch.empty(8, device="meta"), generator=Key(3)).is_meta


def test_stream_wraps_for_the_zeros_of_sparse():
    pyinit.sparse_(torch.empty(4, 4), 0.5, generator=Key(2**64 - 1, 2**64 - 1))


def test_no_key_is_drawn_from_what_is_no_generator():
    assert take_key("seed") is None


def test_threads_draw_from_generators_of_their_own():
    """Words drawn at once by many threads do not mix."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(8)]
    start = threading.Barrier(len(generators))

    def draws(generator: torch.Generator) -> list[int]:
        start.wait()
        return [take_key(generator)[0] for _ in range(500)]

    with ThreadPoolExecutor(len(generators)) as pool:
        drawn = list(pool.map(draws, generators))
    for seed, keys in enumerate(drawn):
        mirror = torch.Generator().manual_seed(seed)
        assert keys == [random_word(mirror) for _ in range(500)]


def test_importing_pyinit_leaves_the_compiler_unloaded():
    done = run_python("-c", "import pyinit, sys; print('torch._dynamo' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr


def test_philox_words_do_not_depend_on_the_instruction_set(isa):
    assert _core.isa() == isa
    words = _core.philox_words(1, 2, 0, 8)
    uniform = fill.uniform(torch.empty(8), key=1, stream=2)
    assert torch.equal(uniform, torch.from_numpy((words >> 8) * 2.0**-24).float())
