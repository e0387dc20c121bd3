"""What a constructor starts a parameter with is read from its source, or is not known."""

import math
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pyinit import initialize_
from pyinit.initializers import ONES, ZEROS, Constant, Initializer, Normal, TruncNormal, Uniform
from pyinit.whole_model.recipes.constructors import _parsed, constructed

STD = 0.02


class Start(nn.Module):
    """Parameters that are started in the ways that model code has."""

    def __init__(self, scale: float = 0.5, *, kind: str = "tokens", kept: float = 3.0) -> None:
        super().__init__()
        self.width, self.held = 4, 0.25
        self.value_kept = kept
        self.ones = nn.Parameter(torch.ones(4))
        self.zeros = nn.Parameter(torch.zeros((1, 4)), requires_grad=True)
        self.full = torch.nn.Parameter(torch.full((4,), -1.5))
        self.scaled = nn.Parameter(scale * torch.ones(4), requires_grad=True)
        self.of_attribute = nn.Parameter(torch.ones(4) * self.held)
        self.of_argument_kept = nn.Parameter(torch.full((4,), kept))
        self.computed = nn.Parameter(torch.ones(1) * math.log(1 / 0.25))
        self.logarithm = nn.Parameter(torch.log(10 * torch.ones(2, 1, 1)))
        self.one_number = nn.Parameter(torch.tensor([2.0]))
        self.random = nn.Parameter(torch.randn(4, 4) * self.width**-0.5)
        self.even = nn.Parameter(torch.rand(4, 4))
        self.expression = nn.Parameter(nn.init.normal_(torch.empty(4), std=0.1))
        self.filled = nn.Parameter(torch.zeros(4))
        nn.init.trunc_normal_(self.filled, std=0.02)
        self.filled_data = nn.Parameter(torch.empty(4))
        self.filled_data.data.fill_(2.0)
        local = torch.zeros(4)
        self.through_local = nn.Parameter(local)
        self.by_method = nn.Parameter(torch.empty(4))
        self.init_start(std=0.3)
        for i in range(2):
            setattr(self, f"token_{i}", nn.Parameter(torch.zeros(4)))
            nn.init.uniform_(getattr(self, f"token_{i}"), -1, 1)
        self.optional = nn.Parameter(torch.ones(4)) if self.width else None
        if self.optional is not None:
            nn.init.constant_(self.optional, 7)
        if kind == "tokens":
            self.in_branch = nn.Parameter(torch.ones(4))
        else:
            self.in_branch = nn.Parameter(torch.zeros(4))

    def init_start(self, std: float) -> None:
        nn.init.normal_(self.by_method, std=std)


KNOWN: dict[str, Initializer] = {
    "ones": ONES,
    "zeros": ZEROS,
    "full": Constant(-1.5),
    "scaled": Constant(0.5),
    "of_attribute": Constant(0.25),
    "of_argument_kept": Constant(3.0),
    "computed": Constant(math.log(4)),
    "logarithm": Constant(math.log(10)),
    "one_number": Constant(2.0),
    "random": Normal(0.0, 0.5),
    "even": Uniform(0.0, 1.0),
    "expression": Normal(0.0, 0.1),
    "filled": TruncNormal(0.0, 0.02),
    "filled_data": Constant(2.0),
    "through_local": ZEROS,
    "by_method": Normal(0.0, 0.3),
    "token_1": Uniform(-1, 1),
    "optional": Constant(7.0),
    "in_branch": ONES,
}


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build()


@pytest.mark.parametrize("leaf", KNOWN)
def test_a_start_is_what_the_source_says(leaf: str) -> None:
    found = constructed(on_meta(Start), leaf)
    assert found is not None
    assert found.initializer == KNOWN[leaf]
    assert found.assumed == {"scaled": ("scale",)}.get(leaf, ())


def test_constants_are_those_that_the_constructor_gives() -> None:
    in_memory = Start()
    for leaf, initializer in KNOWN.items():
        if isinstance(initializer, Constant):
            assert in_memory.get_parameter(leaf).unique().tolist() == [
                pytest.approx(initializer.val)
            ], leaf


def test_an_argument_that_an_attribute_keeps_is_no_default() -> None:
    found = constructed(on_meta(lambda: Start(kept=9.0)), "of_argument_kept")
    assert found is not None
    assert (found.initializer, found.assumed) == (Constant(9.0), ())


class Around(nn.Module):
    def __init__(self, scale: float = 0.125) -> None:
        super().__init__()
        self.scale = scale
        self.inner = Start(scale)


class Attention(nn.Module):
    """Has an attribute by chance that is named as an argument of what is inside."""

    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.scale = dim**-0.5
        self.inner = Start()


def test_an_argument_that_a_module_around_takes_and_keeps_is_no_default() -> None:
    report = initialize_(on_meta(Around), "torch", only="inner.scaled", dry_run=True)
    row = report["inner.scaled"]
    assert (row.initializer, row.why) == (
        Constant(0.125),
        "without values: as the constructor of Start has it",
    )
    report = initialize_(on_meta(Attention), "torch", only="inner.scaled", dry_run=True)
    assert report["inner.scaled"].initializer == Constant(0.5)


def test_a_default_is_said_to_be_one() -> None:
    report = initialize_(on_meta(Start), "torch", only="scaled", dry_run=True)
    assert (
        report["scaled"].why
        == "without values: as the constructor of Start has it, with its default of scale"
    )


class Unclear(nn.Module):
    """Starts of which the source alone does not tell what they are."""

    def __init__(self, given: Tensor | float, flag: bool, factor: float = 1.0) -> None:
        super().__init__()
        self.of_argument = nn.Parameter(torch.ones(4) * given)
        self.by_other_code = nn.Parameter(torch.linspace(0, 1, 4))
        self.uninitialized = nn.Parameter(torch.empty(4))
        self.in_part = nn.Parameter(torch.zeros(4))
        with torch.no_grad():
            self.in_part[:2] = 1
        self.filled_in_part = nn.Parameter(torch.zeros(4))
        nn.init.ones_(self.filled_in_part[1:])
        self.either = nn.Parameter(torch.ones(4))
        if flag:
            nn.init.zeros_(self.either)
        self.multiplied = nn.Parameter(torch.ones(4))
        self.multiplied.data *= 3
        self.passed_on = nn.Parameter(torch.zeros(4))
        fill_as_one_likes(self.passed_on)
        for _ in range(2):
            factor = factor * 2
        self.of_loop = nn.Parameter(torch.ones(4) * factor)
        self.of_global = nn.Parameter(torch.ones(4) * STD)


def fill_as_one_likes(tensor: Tensor) -> None:
    nn.init.constant_(tensor, 3.0)


@pytest.mark.parametrize("leaf", list(Unclear(1.0, False)._parameters))
def test_what_the_source_does_not_tell_is_not_known(leaf: str) -> None:
    model = on_meta(lambda: Unclear(1.0, flag=False))
    assert constructed(model, leaf) is None
    with pytest.raises(ValueError, match=f"nothing initializes them.*{leaf}"):
        initialize_(model, "torch", seed=0)


class Restarting(nn.Module):
    """Starts what is inside anew, by a loop or by a function that is applied."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.inner = Start()
        if kind == "loop":
            for module in self.modules():
                if isinstance(module, (nn.Linear, Start)):
                    nn.init.normal_(module.ones)
        else:
            self.apply(self.restart)

    def restart(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, Start)):
            nn.init.normal_(module.ones)


class RestartingOthers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Start()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight)


def test_what_the_code_around_starts_anew_is_not_known() -> None:
    for model in (Restarting("loop"), Restarting("apply")):
        assert constructed(model.inner, "zeros", [model]) is None
    others = RestartingOthers()
    assert constructed(others.inner, "zeros", [others]) is not None


class Base(nn.Module):
    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.level = nn.Parameter(torch.ones(4) * value)


class Derived(Base):
    def __init__(self) -> None:
        super().__init__(value=5.0)
        nn.init.zeros_(self.weight)


def test_a_derived_class_has_the_last_word_and_its_bases_defaults_do_not_count() -> None:
    model = on_meta(Derived)
    found = constructed(model, "weight")
    assert found is not None
    assert found.initializer == ZEROS
    assert constructed(model, "level") is None


def test_a_class_without_source_is_not_known() -> None:
    bare = type("Bare", (nn.Module,), {"__init__": nn.Module.__init__})()
    bare.weight = nn.Parameter(torch.ones(4))
    assert constructed(bare, "weight") is None


def test_source_that_has_changed_since_the_import_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
from torch import nn, ones

class Changed(nn.Module):
    def __init__(self):
        '''Starts.

            indented'''
        super().__init__()
        self.__private = 1
        self.weight = nn.Parameter(ones(4) * 2)
"""
    file = tmp_path / "changed_since.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    file.write_text(code)
    module = import_module("changed_since")
    found = constructed(module.Changed(), "weight")
    assert found is not None
    assert found.initializer == Constant(2.0)
    _parsed.cache_clear()
    file.write_text(code.replace("* 2", "* 31"))
    assert constructed(module.Changed(), "weight") is None
