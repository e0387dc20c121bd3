"""By which references programs reach initializers, and that all are as before once nothing is keyed."""

import functools
import inspect
import itertools
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from types import FunctionType
from typing import Any

import pytest
import torch
from programs import output_of
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import pyinit
from pyinit import init
from pyinit._random.rng import stream_of
from pyinit.distributed import calls, hooks
from pyinit.distributed.methods import NAMES

BOUND = functools.partial(nn.init.normal_, std=1.0)
TABLE = ((nn.init.normal_,),)
OURS = functools.partial(pyinit.normal_)


def by_default(tensor: Tensor, fill: Callable[..., Tensor] = nn.init.normal_) -> None:
    fill(tensor)


def by_name(module: Any, name: str) -> Callable[[Tensor], object]:
    """The function that has the name when it is called."""

    def call(tensor: Tensor) -> object:
        return getattr(module, name)(tensor)

    return call


class Holder:
    fill = staticmethod(nn.init.normal_)


REFERENCES: dict[str, Callable[[Tensor], object]] = {
    "the module": by_name(nn.init, "normal_"),
    "a partial": BOUND,
    "a default argument": by_default,
    "a class": Holder.fill,
    "a tuple": TABLE[0][0],
    "a deprecated name": by_name(nn.init, "normal"),
    "torch's helper": lambda t: nn.init._no_grad_normal_(t, 0.0, 1.0),
    "pyinit": pyinit.normal_,
    "a partial of pyinit's": OURS,
    "pyinit.init": by_name(init, "normal_"),
    "pyinit's deprecated name": by_name(init, "normal"),
    "a method": lambda t: t.data.normal_(),
    "a method without grad": torch.no_grad()(lambda t: t.normal_()),
    "an array": lambda t: pyinit.normal_(t.detach().numpy()),
    "by keyword": lambda t: nn.init.normal_(tensor=t),
    "pickled": pickle.loads(pickle.dumps(nn.init.normal_)),
}


def one(*shape: int) -> nn.Module:
    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(shape))
    return model


def expected(*shape: int, seed: int = 7) -> Tensor:
    return pyinit.fill.normal(torch.empty(shape), key=seed, stream=stream_of("weight"))


def state() -> list[Any]:
    """All that keyed changes in the process."""
    names = (*init.__all__, "_calculate_fan_in_and_fan_out", "_calculate_correct_fan")
    functions = [getattr(torch.nn.init, name, None) for name in names]
    return [
        [vars(Tensor).get(name) for name in NAMES],
        [getattr(function, "__code__", None) for function in functions],
        [vars(function) if inspect.isfunction(function) else None for function in functions],
        [getattr(init, name).__globals__.get("function") for name in init.__all__],
        init.orthogonal_many_.__code__,
        vars(init.orthogonal_many_).copy(),
    ]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = state()
    yield
    pyinit.unpatch()
    assert state() == before


@pytest.mark.filterwarnings("ignore:.*is now deprecated:FutureWarning")
@pytest.mark.parametrize("patched", [None, "torch", "philox"])
@pytest.mark.parametrize("choice", ["philox", "torch"])
@pytest.mark.parametrize("name", REFERENCES)
def test_every_reference_is_reached(name: str, choice: Any, patched: Any) -> None:
    pyinit.set_rng(choice)
    if patched:
        pyinit.patch(patched)
    model = one(9, 1000)  # more than the methods of a patch leave to torch
    with pyinit.keyed(model, 7, strict=True):
        REFERENCES[name](model.weight)
    assert torch.equal(model.weight, expected(9, 1000))


def test_all_functions_of_torch_are_reached() -> None:
    filling = {name for name in init.__all__ if name.endswith("_")} - {"orthogonal_many_"}
    helpers = {"_calculate_fan_in_and_fan_out", "_calculate_correct_fan"}
    reached = {name for name in filling | helpers if hasattr(torch.nn.init, name)}
    assert {*hooks.functions} == {"orthogonal_many_", *(f"torch.nn.init.{n}" for n in reached)}
    assert {*hooks._namespaces} == filling


def draw(model: nn.Module) -> Tensor:
    """A keyed call, and one on another tensor."""
    nn.init.normal_(model.weight)
    model.weight.data[:3].normal_()
    torch.manual_seed(3)
    return torch.cat([nn.init.normal_(torch.empty(5000)), torch.empty(5000).normal_()])


def test_patches_begin_and_end_inside_and_outside_in_any_order() -> None:
    torch.manual_seed(3)
    plain = torch.cat([torch.empty(5000).normal_() for _ in range(2)])
    events = {
        "patch": lambda _: pyinit.patch(),
        "unpatch": lambda _: pyinit.unpatch(),
        "keyed": lambda keyed: keyed.__enter__(),
        "end": lambda keyed: keyed.__exit__(None, None, None),
    }
    orders = [
        ("patch", "keyed", "unpatch", "end"),
        ("patch", "keyed", "end", "unpatch"),
        ("keyed", "patch", "end", "unpatch"),
        ("keyed", "patch", "unpatch", "end"),
        ("keyed", "patch", "unpatch", "patch", "end", "unpatch"),
    ]
    for order in orders:
        model = one(3000)
        keyed = pyinit.keyed(model, 7)
        before, is_keyed, is_patched = state(), False, False
        for event in order:
            events[event](keyed)
            is_keyed = {"keyed": True, "end": False}.get(event, is_keyed)
            is_patched = {"patch": True, "unpatch": False}.get(event, is_patched)
            assert torch.equal(draw(model), plain), (order, event)
            if event == "keyed":
                assert torch.equal(model.weight[3:], expected(3000)[3:])
            if not is_keyed:
                assert ("normal_" in vars(Tensor)) == is_patched
                assert "exponential_" not in vars(Tensor)
        assert state() == before, order


def test_a_method_of_somebody_else_stays_and_gets_other_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torchs, seen = Tensor.uniform_, []

    def theirs(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        seen.append(tensor)
        return torchs(tensor, *args, **kwargs)

    model, other = one(5), torch.empty(3)
    with monkeypatch.context() as patched:
        patched.setattr(Tensor, "uniform_", theirs, raising=False)
        with pyinit.keyed(model, 7):
            model.weight.data.uniform_()
            other.uniform_()
        assert [id(tensor) for tensor in seen] == [id(other)]
        assert vars(Tensor)["uniform_"] is theirs


def test_code_that_somebody_else_has_given_a_function_stays_and_gets_other_calls() -> None:
    function, model, other = nn.init.ones_, one(5), torch.zeros(3)
    torchs = function.__code__
    with pyinit.keyed(model, 7):
        function(model.weight)

    def theirs(tensor: Tensor) -> Tensor:
        return tensor.fill_(42)

    try:
        function.__code__ = theirs.__code__
        with pyinit.keyed(model, 7):
            function(model.weight)
            function(other)
        assert function.__code__ is theirs.__code__
    finally:
        function.__code__ = torchs
    assert torch.equal(other, torch.full((3,), 42.0))
    assert torch.equal(model.weight, torch.ones(5))


class Interrupted:
    """Ctrl-C at a line of the hooks: the first one, the second one, ..."""

    def __init__(self, line: int) -> None:
        self.left = line

    def __call__(self, frame: Any, event: str, _: object) -> Any:
        if frame.f_code.co_filename != hooks.__file__:
            return None
        if event == "line":
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
        return self

    def calls(self, function: Callable[[], object]) -> bool:
        """Whether a call was interrupted."""
        before = sys.gettrace()
        sys.settrace(self)
        try:
            function()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False


def everything() -> list[Any]:
    """What a block changes."""
    functions = {name: f for name, f in vars(nn.init).items() if isinstance(f, FunctionType)}
    return [
        {name: (f.__code__, {**vars(f)}) for name, f in functions.items()},
        {name: one for name, one in vars(Tensor).items() if name in NAMES},
        {name: namespace["function"] for name, namespace in hooks._namespaces.items()},
        pyinit.orthogonal_many_.__code__,
        calls.targets.all,
        {**hooks._methods},
    ]


@pytest.mark.parametrize("at", ["begin", "end"])
@pytest.mark.parametrize("is_patched", [False, True])
def test_what_is_interrupted_has_ended(at: str, is_patched: bool) -> None:
    model = one(3)
    with pyinit.patch() if is_patched else nullcontext():
        before = everything()
        for line in itertools.count(1):
            block = pyinit.keyed(model, 7)
            interrupted = Interrupted(line)
            if at == "begin":
                was = interrupted.calls(block.__enter__)
                if not was:
                    nn.init.ones_(model.weight)
                    block.__exit__(None, None, None)
            else:
                block.__enter__()
                nn.init.ones_(model.weight)
                was = interrupted.calls(lambda: block.__exit__(None, None, None))  # noqa: B023
            assert everything() == before, line
            if not was:
                break
        assert line > 100


def test_signatures_and_sources_stay_while_keyed() -> None:
    before = {name: inspect.signature(getattr(nn.init, name)) for name in ("normal_", "dirac_")}
    model = one(3)
    with pyinit.keyed(model, 7):
        nn.init.ones_(model.weight)
        assert {name: inspect.signature(getattr(nn.init, name)) for name in before} == before
        assert nn.init.normal_.__defaults__ == (0.0, 1.0, None)
        with pytest.raises(TypeError, match=r"normal_\(\) got an unexpected keyword"):
            nn.init.normal_(model.weight, wrong=1)


def test_errors_of_calls_on_other_tensors_are_torchs() -> None:
    cases: list[Callable[[], object]] = [
        lambda: nn.init.xavier_normal_(torch.empty(3)),
        lambda: nn.init.normal_(torch.empty(3), std=-1.0),
        lambda: nn.init.normal_([1.0]),
        lambda: torch.empty(3).normal_("x"),
        lambda: nn.init.uniform_(torch.empty(3), 1.0, 0.0),
        lambda: pyinit.orthogonal_many_([torch.empty(3)]),
        lambda: pyinit.orthogonal_many_(3),
    ]

    def messages() -> list[str]:
        found = []
        for case in cases:
            with pytest.raises(Exception) as caught:  # noqa: PT011
                case()
            found.append(f"{type(caught.value).__name__}: {caught.value}".partition("\n")[0])
        return found

    usual = messages()
    model = one(3)
    with pyinit.keyed(model, 7):
        nn.init.ones_(model.weight)
        assert messages() == usual


@pytest.mark.parametrize("when", ["before", "inside"])
def test_compiled_callers_work(compiler: Any, when: str) -> None:
    def run(weight: Tensor, other: Tensor) -> Tensor:
        nn.init.normal_(weight)
        nn.init.uniform_(other)
        return weight * 2 + other.normal_()

    compiled = compiler(run)
    model, other = one(3000), torch.empty(3000)
    if when == "before":
        compiled(torch.empty(3000, requires_grad=True), other)
    with pyinit.keyed(model, 7):
        compiled(model.weight, other)
        nn.init.zeros_(model.weight[0])
    if when == "inside":
        assert torch.equal(model.weight[1:], expected(3000)[1:])
    torch.manual_seed(0)
    compiled(again := torch.empty(3000, requires_grad=True), other)
    torch.manual_seed(0)
    assert torch.equal(again, torch.empty(3000).normal_())


def test_function_modes_see_what_they_saw() -> None:
    class Seen(TorchFunctionMode):
        def __init__(self) -> None:
            self.names: list[str] = []

        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            self.names.append(function.__name__)
            return function(*args, **(kwargs or {}))

    def seen() -> list[str]:
        with Seen() as mode:
            nn.init.xavier_uniform_(torch.empty(3, 3))
            torch.empty(3).normal_()
        return mode.names

    usual = seen()
    model = one(3)
    with pyinit.keyed(model, 7):
        nn.init.ones_(model.weight)
        assert seen() == usual


def test_a_device_context_changes_nothing() -> None:
    model = one(40)
    with pyinit.keyed(model, 7), torch.device("cpu"):
        nn.init.normal_(model.weight)
    assert torch.equal(model.weight, expected(40))


def test_calls_of_other_threads_on_the_model_are_keyed() -> None:
    model = one(40)
    with pyinit.keyed(model, 7, strict=True):
        thread = threading.Thread(target=lambda: nn.init.normal_(model.weight))
        thread.start()
        thread.join(30)
    assert torch.equal(model.weight, expected(40))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_made_by_fork_is_keyed_as_its_parent() -> None:
    output_of(
        """
        import os, torch, pyinit
        model = torch.nn.Linear(30, 4)
        with pyinit.keyed(model, 7):
            child = os.fork()
            torch.manual_seed(child)
            model.reset_parameters()
            if child == 0:
                expected = pyinit.fill.uniform(
                    torch.empty(4, 30), -(30**-0.5), 30**-0.5, key=7,
                    stream=pyinit._random.rng.stream_of("weight"),
                )
                os._exit(0 if torch.allclose(model.weight, expected) else 3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        """
    )


def test_nothing_is_imported_that_is_not_needed() -> None:
    output_of(
        """
        import sys, torch, pyinit
        assert "pyinit.distributed" not in sys.modules
        model = torch.nn.Linear(3, 4)
        before = {*sys.modules}
        with pyinit.keyed(model, 7):
            model.reset_parameters()
        new = {*sys.modules} - before
        assert not [name for name in new if name.startswith("torch.distributed")], new
        """
    )
