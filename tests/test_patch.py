"""``pyinit.patch``: torch.nn.init swapped for pyinit in a running program."""

import functools
import importlib.util
import inspect
import itertools
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from programs import output_of, run_python
from torch import nn
from torch.overrides import TorchFunctionMode
from torch_versions import as_in_2_13

import pyinit
from pyinit import _core, _patch, init
from pyinit._messages import warn
from pyinit._torch import tally
from pyinit.cli import main

# In a namespace that patch() does not reach, unlike a dict.
TORCH = SimpleNamespace(**vars(torch.nn.init))
TENSOR = SimpleNamespace(uniform_=torch.Tensor.uniform_, normal_=torch.Tensor.normal_)
NAMES = [name for name in init.__all__ if hasattr(TORCH, name) and name != "calculate_gain"]
FILLS = [name for name in NAMES if name.endswith("_")]
RANDOM = [name for name in FILLS if name not in {"constant_", "ones_", "zeros_", "eye_", "dirac_"}]
ARGUMENTS = {"constant_": (0.5,), "sparse_": (0.5,)}


@pytest.fixture(autouse=True)
def _unpatched() -> Iterator[None]:
    yield
    pyinit.unpatch()


def is_patched() -> bool:
    return torch.nn.init.normal_ is not TORCH.normal_


def fill(function: Callable[..., torch.Tensor], tensor: torch.Tensor | None = None) -> torch.Tensor:
    """What an initializer puts into a tensor from a known seed."""
    name = function.__name__
    if tensor is None:
        tensor = torch.empty((6, 4, 3) if name.startswith("dirac") else (6, 40))
    torch.manual_seed(1)
    return function(tensor, *ARGUMENTS.get(name.rstrip("_") + "_", ()))


def philox(name: str = "normal_") -> torch.Tensor:
    return fill(getattr(pyinit, name))


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """Imports source text as a module."""

    def load(source: str, name: str = "some_library") -> ModuleType:
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(source, vars(module))  # noqa: S102
        return module

    return load


# Numbers


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Linear(50, 30),
        lambda: nn.Bilinear(5, 6, 7),
        lambda: nn.Conv2d(6, 12, 3, groups=2),
        lambda: nn.ConvTranspose1d(6, 12, 3),
        lambda: nn.Embedding(50, 30, padding_idx=3),
        lambda: nn.LSTM(20, 30, 2, bidirectional=True),
        lambda: nn.MultiheadAttention(32, 4, kdim=20, vdim=20, add_bias_kv=True),
        lambda: nn.Transformer(32, 4, 2, 2, 64, batch_first=True),
    ],
    ids=lambda build: build.__code__.co_names[1],
)
def test_modules_have_torchs_weights_and_leave_torchs_generator_state(build):
    def outcome():
        torch.manual_seed(1)
        return build().state_dict(), torch.get_rng_state()

    expected, expected_state = outcome()
    with pyinit.patch():
        weights, state = outcome()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    assert torch.equal(state, expected_state)


@pytest.mark.parametrize("name", RANDOM)
def test_philox_patch_gives_pyinits_numbers(name):
    with pyinit.patch("philox"):
        assert torch.equal(fill(getattr(torch.nn.init, name)), philox(name))
    assert not torch.equal(fill(getattr(torch.nn.init, name)), philox(name))


def test_philox_patch_reaches_module_constructors():
    torch.manual_seed(1)
    with pyinit.patch("philox"):
        layer = nn.Embedding(6, 40)
    assert torch.equal(layer.weight, philox())


def test_a_given_generator_governs():
    with pyinit.patch("philox"):
        drawn = torch.nn.init.normal_(
            torch.empty(6, 40), generator=torch.Generator().manual_seed(1)
        )
    assert torch.equal(drawn, philox())


@pytest.mark.parametrize("chosen", ["philox", "torch"])
def test_direct_calls_keep_their_choice(chosen):
    pyinit.set_rng(chosen)
    expected = fill(pyinit.normal_)
    with pyinit.patch("torch" if chosen == "philox" else "philox"):
        fill(torch.nn.init.normal_)
        assert torch.equal(fill(pyinit.normal_), expected)
        assert pyinit.get_rng() == chosen


def test_a_call_that_raises_leaves_the_choice():
    with pyinit.patch("torch"):
        with pytest.raises(RuntimeError, match="std"):
            torch.nn.init.normal_(torch.empty(3), std=-1.0)
        assert pyinit.get_rng() == "philox"


# What is swapped


def test_every_public_fill_is_swapped_and_put_back_and_nothing_else():
    with pyinit.patch():
        swapped = {name for name, value in vars(TORCH).items() if vars(nn.init)[name] is not value}
    assert swapped == set(NAMES)
    assert vars(nn.init).items() >= vars(TORCH).items()


@pytest.mark.parametrize("module", [nn.modules.activation, nn.modules.transformer])
def test_modules_of_torch_that_bound_a_function_are_reached(module):
    assert module.xavier_uniform_ is TORCH.xavier_uniform_
    with pyinit.patch():
        assert module.xavier_uniform_ is torch.nn.init.xavier_uniform_ is not TORCH.xavier_uniform_
    assert module.xavier_uniform_ is TORCH.xavier_uniform_


HOLDERS = {
    "name": ("from torch.nn.init import normal_ as f", lambda module: module.f),
    "dict": (
        "import torch; d = {'f': torch.nn.init.normal_, 'x': 1}",
        lambda module: module.d["f"],
    ),
    "key": (
        "import torch; d = {torch.nn.init.normal_: 1, 'x': 1}",
        lambda module: next(key for key in module.d if callable(key)),
    ),
    "list": ("import torch; l = [1, torch.nn.init.normal_]", lambda module: module.l[1]),
    "set": (
        "import torch; s = {1, torch.nn.init.normal_}",
        lambda module: next(member for member in module.s if callable(member)),
    ),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_library_imported_before_is_reached_and_put_back(holder, library):
    source, held = HOLDERS[holder]
    module = library(source)
    with pyinit.patch("philox"):
        assert held(module) is torch.nn.init.normal_
        assert torch.equal(fill(held(module)), philox())
    assert held(module) is TORCH.normal_


@pytest.mark.parametrize("holder", HOLDERS)
def test_library_imported_after_is_patched_and_put_back(holder, library):
    source, held = HOLDERS[holder]
    with pyinit.patch("philox"):
        module = library(source)
        assert torch.equal(fill(held(module)), philox())
    assert held(module) is TORCH.normal_


def test_other_members_keep_their_places(library):
    module = library(
        "from torch.nn import init\n"
        "d = {'a': 1, 'b': init.normal_, 'c': 2}\n"
        "l = [1, init.normal_, 2, init.normal_]\n"
        "kept = l"
    )
    with pyinit.patch():
        assert list(module.d) == ["a", "b", "c"]
        assert module.l[::2] == [1, 2]
        assert module.kept is module.l
    assert module.l == [1, TORCH.normal_, 2, TORCH.normal_]


def test_name_bound_twice_to_another_function_is_left_alone(library):
    module = library("def normal_(tensor): return tensor")
    own = module.normal_
    with pyinit.patch():
        assert module.normal_ is own


def test_lazy_modules_are_not_loaded(tmp_path, monkeypatch):
    (tmp_path / "lazy_library.py").write_text("raise SystemError('loaded')")
    spec = importlib.util.spec_from_file_location("lazy_library", tmp_path / "lazy_library.py")
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "lazy_library", module)
    with pyinit.patch():
        pass
    with pytest.raises(SystemError, match="loaded"):
        module.anything  # noqa: B018


class Odd:
    """What some libraries put into sys.modules."""

    def __getattribute__(self, name: str) -> object:
        raise SystemError("touched")


@pytest.mark.parametrize("make", [lambda: None, lambda: 3, lambda: Odd, Odd])
def test_odd_entries_of_sys_modules_are_left_alone(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "odd", make())
    with pyinit.patch():
        assert is_patched()


class LoadsOnAccess(dict):
    """A mapping that works only where its members are really wanted."""

    def __iter__(self):
        raise SystemError("loaded")

    keys = values = items = __iter__


def test_lazy_mappings_are_not_loaded(library):
    library("").mapping = LoadsOnAccess(a=1)
    with pyinit.patch():
        assert is_patched()


def test_table_of_handlers_by_function_still_finds_them(library):
    """As torch.distributed's for sharded tensors: its keys are torch's functions."""
    module = library(
        "import torch\n"
        "handlers = {torch.nn.init.normal_: lambda: 'handled'}\n"
        "class Handled(torch.Tensor):\n"
        "    @classmethod\n"
        "    def __torch_function__(cls, func, types, args=(), kwargs=None):\n"
        "        return handlers[func]()\n"
    )
    tensor = torch.ones(3).as_subclass(module.Handled)
    for _ in range(2):
        assert torch.nn.init.normal_(tensor) == "handled"
        with pyinit.patch():
            assert torch.nn.init.normal_(tensor) == "handled"


def test_reference_that_cannot_be_reached_goes_on_as_torchs_own():
    held = functools.partial(torch.nn.init.normal_)
    with pyinit.patch("philox"):
        assert held.func is TORCH.normal_


@pytest.mark.parametrize("name", RANDOM)
def test_replacement_out_of_reach_acts_as_torchs_own_once_nothing_is_patched(name):
    with pyinit.patch("philox"):
        held = SimpleNamespace(f=getattr(torch.nn.init, name))
        assert torch.equal(fill(held.f), philox(name))
    assert torch.equal(fill(held.f), fill(getattr(TORCH, name)))


def test_replacement_that_a_library_puts_back_later_is_cleared_away_next_time(library):
    """As a library does that swaps functions itself, and saved them while patched."""
    module = library("from torch.nn.init import normal_")
    with pyinit.patch():
        saved = torch.nn.init.normal_
    torch.nn.init.normal_ = module.normal_ = saved
    pyinit.unpatch()
    assert module.normal_ is torch.nn.init.normal_ is TORCH.normal_


# What is looked through again


REBOUND = {
    "name": lambda module: setattr(module, "f", torch.nn.init.normal_),
    "value": lambda module: module.table.update(f=torch.nn.init.normal_),
    "key": lambda module: module.table.update({torch.nn.init.normal_: 1}),
    "member": lambda module: module.members.append(torch.nn.init.normal_),
    "new container": lambda module: setattr(module, "new", {torch.nn.init.normal_}),
}
EMPTY = "table, members, f = {}, [], None"


def held(module: ModuleType) -> set[object]:
    found = {module.f, *module.table, *module.table.values(), *module.members}
    return {f for f in found | getattr(module, "new", set()) if callable(f)}


@pytest.mark.parametrize("place", REBOUND)
def test_places_that_bind_a_function_between_two_patches_are_reached(place, library):
    module = library(EMPTY)
    with pyinit.patch():
        pass
    REBOUND[place](module)
    with pyinit.patch():
        assert held(module) == {torch.nn.init.normal_}
    assert held(module) == {TORCH.normal_}


@pytest.mark.parametrize("place", REBOUND)
def test_places_that_bind_a_new_function_are_put_back(place, library):
    module = library(EMPTY)
    with pyinit.patch():
        REBOUND[place](module)
    assert held(module) == {TORCH.normal_}


def test_module_loaded_again_under_its_name_is_reached(library):
    library("from torch.nn.init import normal_")
    with pyinit.patch():
        pass
    module = library("from torch.nn.init import normal_")
    with pyinit.patch():
        assert module.normal_ is torch.nn.init.normal_
    assert module.normal_ is TORCH.normal_


def test_module_deleted_within_a_block_is_put_back(library, monkeypatch):
    module = library("from torch.nn.init import normal_")
    with pyinit.patch():
        monkeypatch.delitem(sys.modules, "some_library")
        assert module.normal_ is not TORCH.normal_
    assert module.normal_ is TORCH.normal_


class CountingLooks(dict):
    looks = 0

    def items(self):
        self.looks += 1
        return super().items()


@pytest.mark.parametrize(("binds", "looks"), [(False, 1), (True, 2)])
def test_end_of_a_block_looks_through_modules_only_for_what_bound_a_function_meanwhile(
    binds, looks, library, monkeypatch
):
    module = library(EMPTY)
    modules = CountingLooks(sys.modules)
    monkeypatch.setattr(sys, "modules", modules)
    with pyinit.patch():
        module.f = torch.nn.init.normal_ if binds else None
    assert modules.looks == looks


def test_containers_are_told_by_identity_and_one_level_deep():
    wanted = [object(), object()]
    by_key, by_value, by_list, by_set = {wanted[0]: 1}, {1: wanted[1]}, [wanted[0]], {1, wanted[1]}
    spaces = [
        {"a": by_key, "b": by_value, "again": by_key, "deep": [[wanted[0]]], "tuple": (wanted[0],)},
        {"c": by_list, "d": by_set, "subclass": LoadsOnAccess(a=wanted[0]), "other": {1: 2}},
        {"e": wanted[1]},
    ]
    found = _core.containers_of(spaces, map(id, wanted))
    assert set(map(id, found)) == set(map(id, [by_key, by_value, by_list, by_set, spaces[2]]))
    assert len(found) == 5
    assert _core.containers_of(spaces, []) == _core.containers_of([], map(id, wanted)) == []


# Handles


def test_patching_twice_is_patching_once():
    pyinit.patch()
    patched = torch.nn.init.normal_
    pyinit.patch()
    assert torch.nn.init.normal_ is patched
    pyinit.unpatch()
    assert not is_patched()


def test_unpatching_without_a_patch_does_nothing():
    pyinit.unpatch()
    assert vars(torch.nn.init).items() >= vars(TORCH).items()


def test_block_ends_with_torchs_functions_when_it_raises():
    with pytest.raises(KeyError), pyinit.patch():
        raise KeyError
    assert not is_patched()


def test_block_ends_with_the_patch_before():
    pyinit.patch("torch")
    with pyinit.patch("philox"):
        assert pyinit.info()["patch"] == "philox"
        with pyinit.patch("torch"):
            assert pyinit.info()["patch"] == "torch"
        assert pyinit.info()["patch"] == "philox"
    assert pyinit.info()["patch"] == "torch"
    assert is_patched()


def test_overlapping_blocks_do_not_undo_each_other():
    first, second = pyinit.patch("philox"), pyinit.patch("torch")
    with first:
        second.__enter__()
    assert is_patched()
    assert pyinit.info()["patch"] == "torch"
    second.__exit__(None, None, None)
    assert not is_patched()


def test_handle_may_be_entered_again_and_within_itself():
    handle = pyinit.patch()
    for _ in range(2):
        with handle:
            with handle:
                pass
            assert is_patched()
        assert not is_patched()


def test_handle_may_be_left_twice():
    handle = pyinit.patch()
    for _ in range(2):
        with handle:
            assert is_patched()
        handle.__exit__(None, None, None)
        assert not is_patched()


def test_decorated_function_is_patched_while_it_runs_alone():
    @pyinit.patch("philox")
    def build(depth=1):
        """Docs."""
        assert is_patched()
        if depth:
            build(depth - 1)
        return pyinit.info()["patch"]

    assert not is_patched()
    assert build.__doc__ == "Docs."
    for _ in range(2):
        assert build() == "philox"
        assert not is_patched()


def test_decorated_function_that_raises_leaves_torchs_functions():
    @pyinit.patch()
    def fail():
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not is_patched()


def test_decorator_ends_no_other_patch():
    with pyinit.patch("torch"):
        build = pyinit.patch("philox")(lambda: pyinit.info()["patch"])
        assert pyinit.info()["patch"] == "torch"
        assert build() == "philox"
        assert pyinit.info()["patch"] == "torch"


async def coroutine(): ...


def generator():
    yield


@pytest.mark.parametrize("function", [coroutine, generator, SimpleNamespace])
def test_what_returns_before_it_has_run_is_not_decorated(function):
    with pytest.raises(TypeError, match="patch"):
        pyinit.patch()(function)
    assert not is_patched()


def interrupt(monkeypatch, last):
    """Ctrl-C, when so many places are about to be swapped."""
    calls = itertools.count(1)

    def interrupted(container, swaps, swap=_patch._swap):
        if next(calls) == last:
            raise KeyboardInterrupt
        swap(container, swaps)

    monkeypatch.setattr(_patch, "_swap", interrupted)


@pytest.mark.parametrize("last", [1, 2, 3])
def test_patch_that_is_interrupted_is_none(last, monkeypatch):
    interrupt(monkeypatch, last)
    with pytest.raises(KeyboardInterrupt):
        pyinit.patch("philox")
    assert pyinit.info()["patch"] == "none"
    assert vars(torch.nn.init).items() >= vars(TORCH).items()
    assert not _patch._is_changing


@pytest.mark.parametrize("last", [1, 2, 3])
def test_block_that_is_interrupted_at_its_end_has_ended(last, monkeypatch):
    handle = pyinit.patch()
    interrupt(monkeypatch, last)
    with pytest.raises(KeyboardInterrupt):
        handle.__exit__(None, None, None)
    assert pyinit.info()["patch"] == "none"
    assert vars(torch.nn.init).items() >= vars(TORCH).items()


def test_unpatching_within_a_block_holds_after_it():
    with pyinit.patch(), pyinit.patch():
        pyinit.unpatch()
        assert not is_patched()
    assert not is_patched()


def test_patch_within_a_block_outlives_it():
    with pyinit.patch("torch"):
        pyinit.patch("philox")
    assert pyinit.info()["patch"] == "philox"


def test_blocks_of_threads_do_not_undo_each_other():
    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))

    def first() -> None:
        with pyinit.patch("philox"):
            first_is_in.set()
            assert second_is_in.wait(60)
        first_is_out.set()

    def second() -> None:
        assert first_is_in.wait(60)
        with pyinit.patch("philox"):
            second_is_in.set()
            assert first_is_out.wait(60)
            assert torch.equal(fill(torch.nn.init.normal_), philox())

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(first), pool.submit(second)]:
            done.result()
    assert not is_patched()


def test_many_threads_at_once_leave_torchs_functions():
    gate = threading.Barrier(4)

    def work(_: int) -> None:
        gate.wait(60)
        for _ in range(5):
            with pyinit.patch():
                assert is_patched()
                nn.Linear(3, 4)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert vars(torch.nn.init).items() >= vars(TORCH).items()


@pytest.mark.parametrize("name", ["mt19937", "", None, []])
def test_unknown_rng_is_refused_before_anything_is_swapped(name):
    with pytest.raises(
        ValueError, match=r"rng must be one of 'philox', 'torch', 'torch\.func', got"
    ) as refused:
        pyinit.patch(name)
    assert repr(name) in str(refused.value)
    assert not is_patched()


def test_info_names_the_generator_in_force():
    assert pyinit.info()["patch"] == "none"
    with pyinit.patch():
        assert pyinit.info()["patch"] == "torch"
    assert pyinit.info()["patch"] == "none"


# Replacements look and travel as torch's functions


def test_replacements_look_like_torchs_functions():
    def looks():
        functions = [getattr(torch.nn.init, name) for name in NAMES]
        return [
            (f.__name__, f.__qualname__, f.__module__, f.__doc__, inspect.signature(f))
            for f in functions
        ]

    expected = looks()
    with pyinit.patch():
        assert looks() == expected


def test_replacements_pickle_as_torchs_functions():
    with pyinit.patch():
        swapped = [getattr(torch.nn.init, name) for name in FILLS]
        stored = pickle.dumps(swapped)
        assert pickle.loads(stored) == swapped
    assert pickle.loads(stored) == [getattr(TORCH, name) for name in FILLS]


# What the kernels cannot write goes to torch's own functions


class Subclass(torch.Tensor):
    """A subclass with torch's default behaviour."""


class Passing(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("rng", ["torch", "philox"])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: torch.ones(6, 4, device="meta"), id="meta"),
        pytest.param(lambda: torch.ones(6, 4, dtype=torch.complex64), id="complex"),
        pytest.param(lambda: torch.ones(6, 4, dtype=torch.int32), id="int"),
        pytest.param(lambda: torch.ones(6, 4, dtype=torch.float8_e5m2), id="float8"),
        pytest.param(lambda: torch.ones(6, 4).as_subclass(Subclass), id="subclass"),
        pytest.param(lambda: torch.eye(6).to_sparse(), id="sparse"),
    ],
)
def test_tensors_that_are_not_native_behave_as_without_patch(make, rng):
    def outcome(name):
        tensor = make()
        try:
            fill(getattr(torch.nn.init, name), tensor)
        except Exception as error:  # noqa: BLE001
            return type(error), str(error)
        return type(tensor), [] if tensor.is_meta else tensor.to_dense().tolist()

    expected = {name: outcome(name) for name in FILLS}
    with pyinit.patch(rng):
        assert {name: outcome(name) for name in FILLS} == expected


def test_torch_function_mode_changes_no_number():
    def drawn():
        return {name: fill(getattr(torch.nn.init, name)).tolist() for name in FILLS}

    expected = drawn()
    with pyinit.patch(), Passing():
        assert drawn() == expected


def test_torch_function_mode_is_shown_what_stands_in_torchs_module():
    class Seeing(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func is torch.nn.init.normal_)
            return func(*args, **(kwargs or {}))

    seen = []
    tensor = torch.ones(3)
    with pyinit.patch(), Seeing():
        torch.nn.init.normal_(tensor)
    assert seen[0]


# torch.compile


def seeded(program: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    torch.manual_seed(1)
    return program(torch.ones(6, 40))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_program_follows_the_patch(compiler):
    def program(x):
        weight = x * 2
        torch.nn.init.normal_(weight)
        return weight + 1

    compiled = compiler(program)
    expected = seeded(program)
    assert torch.equal(seeded(compiled), expected)
    with pyinit.patch():
        assert torch.equal(seeded(compiled), expected)
    with pyinit.patch("philox"):
        assert torch.equal(seeded(compiled), philox() + 1)
    assert torch.equal(seeded(compiled), expected)


def patches_in_a_block(x):
    weight = x * 2
    with pyinit.patch("philox"):
        torch.nn.init.normal_(weight)
    return weight + 1


def patches_and_unpatches(x):
    weight = x * 2
    pyinit.patch("philox")
    torch.nn.init.normal_(weight)
    pyinit.unpatch()
    return weight + 1


def patches_and_raises(x):
    weight = x * 2
    try:
        with pyinit.patch("philox"):
            torch.nn.init.normal_(weight)
            raise KeyError
    except KeyError:
        pass
    return weight + 1


@pyinit.patch("philox")
def is_decorated(x):
    weight = x * 2
    torch.nn.init.normal_(weight)
    return weight + 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "program",
    [patches_in_a_block, patches_and_unpatches, patches_and_raises, is_decorated],
    ids=lambda program: program.__name__,
)
def test_patch_in_compiled_code_holds_and_ends_as_in_plain(program, compiler):
    compiled = compiler(program)
    for _ in range(2):
        assert torch.equal(seeded(compiled), philox() + 1)
        assert not is_patched()


# Methods of tensors

METHODS = {"uniform_": (-0.2, 0.3), "normal_": (0.1, 0.02)}
LARGE = 4097


def drawn(name: str, make: Callable[[], torch.Tensor], *args: object, **kwargs: object) -> object:
    """What a method makes of a tensor from a known seed, and the generator's state after it."""
    torch.manual_seed(1)
    tensor = make()
    try:
        result = getattr(tensor, name)(*args, **kwargs)
    except Exception as error:  # noqa: BLE001
        return type(error), str(error), torch.get_rng_state().tolist()
    assert result is tensor
    values = [] if tensor.is_meta else tensor.detach().to_dense().tolist()
    return type(tensor), tensor.grad_fn, values, tensor._version, torch.get_rng_state().tolist()


@pytest.fixture
def counted() -> Iterator[tally.Tally]:
    yield tally.start()
    tally.stop()


TENSORS = {
    "small": lambda: torch.ones(7),
    "large": lambda: torch.ones(LARGE),
    "transposed": lambda: torch.ones(100, 70).t(),
    "with gaps": lambda: torch.ones(100, 140)[:, ::2],
    "parameter's data": lambda: nn.Parameter(torch.ones(LARGE)).data,
    "bfloat16": lambda: torch.ones(LARGE, dtype=torch.bfloat16),
    "float64": lambda: torch.ones(LARGE, dtype=torch.float64),
    "complex": lambda: torch.ones(LARGE, dtype=torch.complex64),
    "int": lambda: torch.ones(LARGE, dtype=torch.int32),
    "meta": lambda: torch.ones(LARGE, device="meta"),
    "subclass": lambda: torch.ones(LARGE).as_subclass(Subclass),
    "leaf of a graph": lambda: nn.Parameter(torch.ones(LARGE)),
    "expanded": lambda: torch.ones(1).expand(LARGE),
}
NATIVE = ("large", "transposed", "with gaps", "parameter's data", "bfloat16", "float64")


@as_in_2_13
@pytest.mark.parametrize("rng", ["torch", "philox"])
@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.parametrize("name", METHODS)
def test_a_method_does_what_torchs_does_whatever_the_generator(name, kind, rng, counted):
    expected = drawn(name, TENSORS[kind], *METHODS[name])
    with pyinit.patch(rng):
        assert drawn(name, TENSORS[kind], *METHODS[name]) == expected
    assert bool(counted.native) == (kind in NATIVE)


BAD = {
    "too many": ((0.0, 1.0, 2.0), {}),
    "twice": ((0.0,), {"mean": 1.0, "from": 1.0}),
    "unknown": ((), {"scale": 1.0}),
    "text": (("a",), {}),
    "no such distribution": ((1.0, -1.0), {}),
    "no generator": ((), {"generator": 3}),
}


@pytest.mark.parametrize("size", [7, LARGE])
@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("name", METHODS)
def test_a_method_refuses_what_torchs_refuses(name, fault, size):
    args, kwargs = BAD[fault]
    expected = drawn(name, lambda: torch.ones(size), *args, **kwargs)
    assert issubclass(expected[0], Exception)
    with pyinit.patch():
        assert drawn(name, lambda: torch.ones(size), *args, **kwargs) == expected


@pytest.mark.parametrize("keywords", [{"mean": 2}, {"std": 0.5}, {"mean": 1, "std": 0}])
def test_a_method_takes_keywords_and_a_generator(keywords):
    def filled():
        generator = torch.Generator().manual_seed(3)
        values = torch.empty(LARGE).normal_(**keywords, generator=generator)
        return values.tolist(), generator.get_state().tolist()

    expected = filled()
    with pyinit.patch():
        assert filled() == expected


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, by forward mode
def test_a_method_on_what_is_differentiated_is_seen_by_autograd():
    leaf = torch.ones(LARGE, requires_grad=True)
    with pyinit.patch():
        (leaf * 2).normal_().sum().backward()
    assert not leaf.grad.any()
    with pyinit.patch(), torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(torch.ones(LARGE), torch.ones(LARGE))
        dual.normal_()
        assert not torch.autograd.forward_ad.unpack_dual(dual).tangent.any()


def test_a_value_that_was_saved_for_the_way_back_is_known_to_have_changed():
    saved = torch.ones(LARGE)
    out = (torch.ones(LARGE, requires_grad=True) * saved).sum()
    with pyinit.patch():
        saved.normal_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


def test_methods_are_torchs_own_again_after_the_last_patch():
    pyinit.patch()
    with pyinit.patch("philox"):
        assert torch.Tensor.normal_ is not TENSOR.normal_
        stored = pickle.dumps(torch.Tensor.normal_)
        assert pickle.loads(stored) is torch.Tensor.normal_
    assert torch.Tensor.normal_ is not TENSOR.normal_
    pyinit.unpatch()
    assert torch.Tensor.normal_ is TENSOR.normal_ is pickle.loads(stored)
    assert not METHODS.keys() & vars(torch.Tensor).keys()


def test_a_method_that_somebody_else_has_put_there_stays(monkeypatch):
    def own(tensor):
        return tensor

    monkeypatch.setattr(torch.Tensor, "normal_", own, raising=False)
    with pyinit.patch():
        assert torch.Tensor.normal_ is own
        assert torch.Tensor.uniform_ is not TENSOR.uniform_
    assert torch.Tensor.normal_ is own
    assert torch.Tensor.uniform_ is TENSOR.uniform_


def test_a_mode_and_a_table_of_handlers_see_the_method_that_tensors_have(library):
    module = library(
        "import torch\n"
        "handlers = {torch.Tensor.normal_: lambda: 'handled'}\n"
        "class Handled(torch.Tensor):\n"
        "    @classmethod\n"
        "    def __torch_function__(cls, func, types, args=(), kwargs=None):\n"
        "        return handlers[func]()\n"
    )
    tensor = torch.ones(LARGE).as_subclass(module.Handled)
    for _ in range(2):
        assert tensor.normal_() == "handled"
        with pyinit.patch():
            assert tensor.normal_() == "handled"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_method_draws_the_same_in_one_graph(compiler):
    def program(x):
        return (x * 2).normal_(0.5, 2.0) + 1

    def outcome(function):
        torch.manual_seed(1)
        return function(torch.ones(LARGE))

    expected = outcome(program)
    with pyinit.patch():
        assert torch.equal(outcome(compiler(program, fullgraph=True)), expected)


def test_graphs_that_were_traced_call_the_method_by_name():
    class Noisy(nn.Module):
        def forward(self, x):
            return x.normal_()

    with pyinit.patch():
        graph = torch.fx.symbolic_trace(Noisy())
    assert [node.target for node in graph.graph.nodes if node.op == "call_method"] == ["normal_"]


def test_a_fill_is_done_while_another_thread_draws_from_the_same_generator():
    """torch's last word: a fill that is always overtaken would never be done."""
    stop = threading.Event()

    def draw() -> None:
        while not stop.is_set():
            torch.rand(1)

    with pyinit.patch(), ThreadPoolExecutor(1) as pool:
        pool.submit(draw)
        try:
            for _ in range(20):
                assert torch.zeros(2**18).normal_().all()
        finally:
            stop.set()


def test_a_forked_child_draws_the_same_by_a_method():
    program = """
    import os, sys, torch, pyinit

    def drawn():
        torch.manual_seed(1)
        return torch.empty(5000).normal_().sum().item(), torch.get_rng_state().sum().item()

    expected = drawn()
    pyinit.patch()
    assert drawn() == expected
    child = os.fork()
    if child == 0:
        same = "normal_" in vars(torch.Tensor) and drawn() == expected
        pyinit.unpatch()
        os._exit(not (same and "normal_" not in vars(torch.Tensor) and drawn() == expected))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert output_of(program) == "0\n"


def draws_by_timms_steps(tensor):
    """The steps of timm's trunc_normal_, whose bits are not those of torch's."""
    with torch.no_grad():
        tensor.uniform_(-0.9545, 0.9545).erfinv_().mul_(0.02 * 2**0.5).add_(0.0)
        return tensor.clamp_(min=-2.0, max=2.0)


@as_in_2_13
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_timms_truncated_normal_has_the_bits_it_had(dtype, counted):
    def filled():
        torch.manual_seed(1)
        weight = nn.Parameter(torch.empty(100, 70, dtype=dtype))
        return draws_by_timms_steps(weight).tolist(), torch.get_rng_state().tolist()

    expected = filled()
    with pyinit.patch():
        assert filled() == expected
    assert list(counted.native) == [("Tensor.uniform_", f"{str(dtype)[6:]} on cpu")]


# Warnings


def warns_of_no_elements(module):
    module.kaiming_uniform_(torch.empty(0, 3))


def warns_of_mean(module):
    module.trunc_normal_(torch.empty(3), mean=9.0)


def warns_of_deprecation(module):
    module.normal(torch.empty(3))


WARNING = [warns_of_no_elements, warns_of_mean, warns_of_deprecation]


def line_of(function: Callable[..., object]) -> tuple[str, int]:
    return __file__, function.__code__.co_firstlineno + 1


@pytest.mark.parametrize("function", WARNING, ids=lambda function: function.__name__)
def test_warnings_name_the_callers_line_without_and_with_patch(function):
    with pytest.warns() as direct:
        function(pyinit)
    with pyinit.patch("philox"), pytest.warns() as patched:
        function(torch.nn.init)
    assert [(w.filename, w.lineno) for w in direct] == [line_of(function)]
    assert [(w.filename, w.lineno) for w in patched] == [line_of(function)]


@as_in_2_13
def test_warnings_in_a_constructor_name_the_library_as_torchs_do():
    def filename():
        with pytest.warns(UserWarning, match="zero-element") as caught:
            nn.Linear(0, 3)
        return caught[0].filename

    expected = filename()
    with pyinit.patch():
        assert filename() == expected


@pytest.mark.parametrize("function", WARNING, ids=lambda function: function.__name__)
def test_warnings_appear_once_for_each_place(function):
    with pyinit.patch("philox"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            function(torch.nn.init)
    assert len(caught) == 1


def test_warn_takes_a_category():
    with pytest.warns(FutureWarning, match="text") as caught:
        warn("text", FutureWarning)
    assert caught[0].filename == __file__


# PYINIT_PATCH and the command

PRINT_STATE = "import sys, pyinit; print(sys.argv[1:], pyinit.info()['patch'])"


@pytest.mark.parametrize(("setting", "patch"), [("1", "torch"), ("0", "none")])
def test_environment_variable_patches_at_import(setting, patch):
    result = run_python("-c", PRINT_STATE, PYINIT_PATCH=setting)
    assert (result.stdout, result.stderr) == (f"[] {patch}\n", "")


def test_other_values_of_the_environment_variable_are_refused():
    result = run_python("-c", "import pyinit", PYINIT_PATCH="yes")
    assert result.returncode == 1
    assert "ValueError: PYINIT_PATCH must be '1', '0' or empty, got 'yes'" in result.stderr


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_python("-m", "pyinit", "run", "--quiet", *arguments)


SCRIPT = """
import os, pickle, sys
import helper
print(sys.argv, sys.path[0], __name__, __file__, __package__, __spec__)
print(sys.modules["__main__"].__dict__ is globals(), __builtins__, len(sys.path))

class Local: pass

assert type(pickle.loads(pickle.dumps(Local()))) is Local
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder elsewhere with a script, a helper beside it and a package, and a symbolic link."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "script.py").write_text(SCRIPT)
    (folder / "helper.py").write_text("")
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").write_text("")
    (folder / "package" / "__main__.py").write_text("import sys; print(sys.argv, sys.path[0])")
    (tmp_path / "link.py").symlink_to(folder / "script.py")
    return folder


def test_run_gives_a_script_what_python_gives_it(project):
    arguments = ("link.py", "a", "--rng", "philox", "--help", "--", "-m")
    expected = run_python(*arguments)
    result = run_command(*arguments)
    assert expected.returncode == 0
    assert (result.stdout, result.stderr, result.returncode) == (expected.stdout, "", 0)


def test_run_gives_a_module_what_python_gives_it(project, monkeypatch):
    monkeypatch.chdir(project)
    arguments = ("-m", "package", "-m", "--rng=x")
    expected = run_python(*arguments)
    result = run_command(*arguments)
    assert expected.returncode == 0
    assert (result.stdout, result.stderr, result.returncode) == (expected.stdout, "", 0)


def test_run_takes_a_folder_with_a_main(project):
    folder = str(project / "package")
    result = run_command(folder, "a")
    assert (result.stdout, result.returncode) == (f"{[folder, 'a']} {folder}\n", 0)


@pytest.mark.parametrize(("options", "patch"), [([], "torch"), (["--rng", "philox"], "philox")])
def test_run_patches_with_the_chosen_generator(options, patch, tmp_path):
    (tmp_path / "script.py").write_text(PRINT_STATE)
    result = run_command(*options, "script.py", "--rng=x")
    assert (result.stdout, result.returncode) == (f"['--rng=x'] {patch}\n", 0)


FAILURES = {
    "status": ("import sys; sys.exit(7)", 7),
    "error": ("def f():\n    raise OSError(32, 'pipe')\nf()", 1),
    "syntax": ("x = (", 1),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_run_ends_as_python_ends(failure, tmp_path):
    """The whole of stderr is the same: the traceback has no frame of pyinit's."""
    code, status = FAILURES[failure]
    (tmp_path / "script.py").write_text(code)
    expected = run_python("script.py")
    result = run_command("script.py")
    assert (result.stderr, result.returncode) == (expected.stderr, expected.returncode)
    assert result.returncode == status


def test_run_interrupted_ends_with_the_status_of_shells(tmp_path):
    (tmp_path / "script.py").write_text("raise KeyboardInterrupt")
    result = run_command("script.py")
    assert result.returncode == 128 + signal.SIGINT
    assert result.stderr.endswith("KeyboardInterrupt\n")


def test_run_refuses_a_script_that_is_not_there():
    result = CliRunner().invoke(main, ["run", "nowhere.py"])
    assert result.exit_code == 2
    assert "no such file: nowhere.py" in result.stderr
    assert not is_patched()


FILLING = """
import torch
torch.nn.init.normal_(torch.empty(3))
torch.nn.init.normal_(torch.empty(100, 100))
torch.empty(100, 100).uniform_()
torch.nn.init.normal_(torch.empty(100, 100, dtype=torch.complex64))
"""


@as_in_2_13
def test_run_says_at_the_end_what_was_native_and_what_was_torchs(tmp_path):
    (tmp_path / "script.py").write_text(FILLING)
    result = run_python("-m", "pyinit", "run", "script.py")
    native, by_torch = result.stderr.splitlines()
    assert native.startswith("pyinit: 2 fills (20,000 numbers) native in ")
    assert by_torch.startswith(
        "pyinit: by torch: 1 fill (3 numbers) so small that it is as fast, "
        "1 normal_ of complex64 on cpu (10,000 numbers) in "
    )
    assert run_command("script.py").stderr == ""


@pytest.mark.parametrize("code", ["", "import sys; sys.exit(0)"])
def test_run_says_that_nothing_was_filled(code, tmp_path):
    (tmp_path / "script.py").write_text(code)
    result = run_python("-m", "pyinit", "run", "script.py")
    assert result.stderr.startswith("pyinit: nothing to do: the program called neither")


def test_run_says_nothing_after_a_failure(tmp_path):
    (tmp_path / "script.py").write_text(FILLING + "raise SystemExit(3)")
    result = run_python("-m", "pyinit", "run", "script.py")
    assert (result.stderr, result.returncode) == ("", 3)
