"""Every public name says what it does, what it takes, gives and raises, and shows it by an example that runs."""

import ast
import dataclasses
import doctest
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from paths import ROOT

import pyinit
from pyinit.initializers import _base
from pyinit.whole_model.recipes import registry

MODULES = ("pyinit", *(f"pyinit.{name}" for name in ("init", "initializers", "fill", "functional")))
MODULES += ("pyinit.nn", "pyinit.nn.grad", "pyinit.inspection.theory", "pyinit.datasets")
MODULES += ("pyinit.data_driven.distances",)
MODULES += tuple(f"pyinit.{name}" for name in ("keras", "jax") if find_spec(name))

SUMMARY = r"[A-Z`].*\s.*[.:]"
SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Warns", "References", "Example")

# Names of methods that somebody has published. Their initializers as values, in CamelCase, are meant too.
WITH_AUTHORS = {
    "delta_orthogonal_",
    "dirac_",
    "hadamard_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "orthogonal_",
    "orthogonal_many_",
    "prior_bias_",
    "sparse_",
    "variance_scaling_",
    "xavier_normal_",
    "xavier_uniform_",
    # Activations
    "elu",
    "gelu",
    "selu",
    "silu",
}


def is_described(value: object) -> bool:
    """Whether a docstring can say what it is: a function or a class, not a plain value."""
    return inspect.isclass(value) or inspect.isroutine(inspect.unwrap(value))  # type: ignore[arg-type]


def public_names() -> dict[str, Any]:
    """Functions and classes by their qualified names, each once: by the last module that has it."""
    by_identity: dict[int, tuple[str, Any]] = {}
    for module in map(importlib.import_module, MODULES):
        for name in module.__all__:
            value = getattr(module, name)
            if is_described(value):
                by_identity[id(value)] = f"{module.__name__}.{name}", value
    return dict(by_identity.values())


NAMES = public_names()
ALIASES = [name for name in NAMES if name + "_" in NAMES]  # deprecated, as in torch
FULL = [name for name in NAMES if name not in ALIASES]
DOCUMENTED = {name: inspect.getdoc(value) or "" for name, value in NAMES.items()}
DOCUMENTED |= {name: inspect.getdoc(importlib.import_module(name)) or "" for name in MODULES}
EXAMPLES = [name for name, text in DOCUMENTED.items() if ">>>" in text]


def sections(text: str) -> dict[str, str]:
    """What stands below each heading, and before the first one (under "")."""
    parts = re.split(rf"^({'|'.join(SECTIONS)}):\n", text, flags=re.MULTILINE)
    return {"": parts[0]} | dict(zip(parts[1::2], map(textwrap.dedent, parts[2::2]), strict=True))


def entries(text: str) -> set[str]:
    """The names that a section of a docstring describes: ``name: ...`` or ``one, other: ...``."""
    lines = re.findall(r"^([\w*`, ]+)(?: \([^)]*\))?: ?\S", text, flags=re.MULTILINE)
    return {name.strip(" *`") for line in lines for name in line.split(",")}


def arguments(value: Any) -> list[str]:
    """The arguments of a function; of a class, its fields or what its constructor takes."""
    if inspect.isclass(value):
        if dataclasses.is_dataclass(value):
            return [field.name for field in dataclasses.fields(value) if field.name[0] != "_"]
        if hasattr(value, "_fields"):
            return list(value._fields)
        if value.__init__ is object.__init__:  # type: ignore[misc]
            return []
    return [name for name in inspect.signature(value).parameters if name[0] != "_"]


def sources(value: Any) -> list[ast.AST]:
    """The code of a function; of a class, the code that runs when an object is made."""
    value = inspect.unwrap(value)
    if not inspect.isclass(value):
        return [ast.parse(textwrap.dedent(inspect.getsource(value)))]
    makers = (vars(value).get(name) for name in ("__new__", "__init__", "__post_init__"))
    return [
        ast.parse(textwrap.dedent(inspect.getsource(maker)))
        for maker in makers
        if inspect.isfunction(maker) and maker.__code__.co_filename == inspect.getsourcefile(value)
    ]


def raises(value: Any) -> bool:
    return any(isinstance(node, ast.Raise) for tree in sources(value) for node in ast.walk(tree))


def returns(value: Any) -> bool:
    if inspect.isclass(value):
        return False
    annotation = inspect.signature(value).return_annotation
    return annotation not in (None, "None")


def has_author(name: str) -> bool:
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    return name in WITH_AUTHORS or (name != snake and snake + "_" in WITH_AUTHORS)


def missing(value: Any, text: str, needs_reference: bool = False) -> list[str]:
    """What a docstring lacks."""
    parts = sections(text)
    summary = parts[""].strip().partition("\n\n")[0]
    found = [] if re.fullmatch(SUMMARY, summary, flags=re.DOTALL) else ["a summary"]
    known = entries(parts.get("Args", "")) | entries(parts.get("Attributes", ""))
    found += [f"argument {argument}" for argument in arguments(value) if argument not in known]
    needed = {
        "Returns": returns(value),
        "Raises": raises(value),
        "References": needs_reference,
        "Example": True,
    }
    found += [
        section for section, is_needed in needed.items() if is_needed and section not in parts
    ]
    if ">>>" not in parts.get("Example", ">>>"):
        found.append("code in its example")
    if inspect.isclass(value):
        found += [f"a docstring of {method}" for method in undocumented_methods(value)]
    return found


def undocumented_methods(value: type) -> list[str]:
    return [
        name
        for name, attribute in vars(value).items()
        if name[0] != "_"
        and (inspect.isfunction(attribute) or isinstance(attribute, property))
        and not inspect.getdoc(getattr(value, name))
    ]


@pytest.mark.parametrize("name", FULL)
def test_a_public_name_is_documented_in_full(name: str) -> None:
    found = missing(NAMES[name], DOCUMENTED[name], has_author(name.rpartition(".")[2]))
    assert not found, f"the docstring of {name} lacks {', '.join(found)}"


@pytest.mark.parametrize("name", ALIASES)
def test_a_deprecated_alias_names_its_successor(name: str) -> None:
    assert f"``{name.rpartition('.')[2]}_``" in DOCUMENTED[name]


@pytest.mark.parametrize("name", MODULES)
def test_a_public_module_says_what_it_is(name: str) -> None:
    assert re.match(SUMMARY, DOCUMENTED[name], flags=re.DOTALL)


@pytest.fixture
def unchanged() -> Iterator[None]:
    """What examples change of torch's and pyinit's state is put back."""
    initializers, recipes = dict(_base._REGISTRY), dict(registry._REGISTRY)
    state, dtype, threads = (
        torch.get_rng_state(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
    )
    yield
    pyinit.unpatch()
    pyinit.set_rng("philox")
    for known, before in ((_base._REGISTRY, initializers), (registry._REGISTRY, recipes)):
        known.clear()
        known.update(before)
    torch.set_rng_state(state)
    torch.set_default_dtype(dtype)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name: str, unchanged: None) -> None:
    example = doctest.DocTestParser().get_doctest(DOCUMENTED[name], {}, name, None, 0)
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(
        example, out=report.append
    )
    assert result.failed == 0, "".join(report)


TEXT = """Do it.

Args:
    one: a number
    two (int): a number

Example:
    Nothing to see.
"""


def test_the_rule_sees_what_is_missing() -> None:
    def refuse(one: int, two: int, three: int) -> int:
        raise ValueError(one, two, three)

    lacking = ["argument three", "Returns", "Raises", "References", "code in its example"]
    assert missing(refuse, TEXT, needs_reference=True) == lacking


@pytest.mark.parametrize(
    "path", sorted((ROOT / "pyinit").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_docstring_reads_well_in_a_terminal(path):
    """A formula or a reference in Sphinx's markup is shown by help() as it stands."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "" for node in nodes if isinstance(node, kinds)]
    assert not [role for text in texts for role in re.findall(r":[a-z]+:`[^`]*`", text)]
