"""The names at the top of the package, some of which are looked up when they are first asked for."""

import inspect
import pickle
import pkgutil
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

import pyinit
from pyinit.data_driven import distances
from pyinit.inspection import theory

LATER = sorted(pyinit._LATER)


def run(code: str) -> str:
    """What a new process prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_import_leaves_out_what_initializing_needs_not() -> None:
    packages = ("pyinit.inspection", "pyinit.data_driven", "pyinit.studies", "pandas", "scipy")
    loaded = f"[n for n in sys.modules if n.startswith({packages})]"
    assert run(f"import sys, pyinit; print({loaded})") == "[]"
    assert run(f"import sys, pyinit; pyinit.check; print(len({loaded}) > 0)") == "True"


def test_a_name_is_what_its_module_has_whichever_is_asked_for_first() -> None:
    name_first = """
        import importlib, pyinit
        for name, where in pyinit._LATER.items():
            value, module = getattr(pyinit, name), importlib.import_module(where)
            assert value is getattr(module, name, module), name
    """
    module_first = """
        import importlib, pyinit
        for name, where in pyinit._LATER.items():
            module, value = importlib.import_module(where), getattr(pyinit, name)
            assert value is getattr(module, name, module), name
    """
    for code in (name_first, module_first):
        run(textwrap.dedent(code))
    assert {*LATER} <= {*pyinit.__all__}


def test_a_module_is_a_name_only_where_it_is_meant() -> None:
    found = {name: getattr(pyinit, name) for name in LATER}
    modules = {name: value for name, value in found.items() if inspect.ismodule(value)}
    assert modules == {"distances": distances, "theory": theory}


def test_no_submodule_takes_the_place_of_a_name() -> None:
    assert not {module.name for module in pkgutil.iter_modules(pyinit.__path__)} & {*LATER}


def test_all_names_are_listed_before_they_are_looked_up_and_found_afterwards() -> None:
    code = """
        import inspect, pyinit
        assert {*pyinit.__all__} <= {*dir(pyinit)}
        assert "Monitor" not in vars(pyinit)
        assert {*pyinit.__all__} <= {name for name, _ in inspect.getmembers(pyinit)}
        from pyinit import *
        assert inspect is pyinit.inspect and inspect.__module__ == "pyinit"
    """
    run(textwrap.dedent(code))


def test_an_unknown_name_is_refused_as_by_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'pyinit' has no attribute 'inspections'"):
        pyinit.inspections  # type: ignore[attr-defined]  # noqa: B018


def test_they_are_pickled_by_the_names_that_they_have_here() -> None:
    names = [name for name in LATER if name not in ("distances", "theory")]
    values = [getattr(pyinit, name) for name in names]
    assert {value.__module__ for value in values} == {"pyinit"}
    code = f"import pickle; print([v.__name__ for v in pickle.loads({pickle.dumps(values)!r})])"
    assert run(code) == str(names)


def test_threads_that_ask_at_once_get_the_same() -> None:
    before = pyinit.__dict__.pop("Monitor", None)
    with ThreadPoolExecutor(8) as pool:
        found = {*pool.map(lambda _: pyinit.Monitor, range(64))}
    assert len(found) == 1
    assert before in (None, *found)


@pytest.mark.parametrize("module", ["pyinit", "fill", "functional", "init", "initializers", "nn"])
def test_what_is_imported_for_use_inside_is_not_shown(module: str) -> None:
    public = pyinit if module == "pyinit" else getattr(pyinit, module)
    path = f"{public.__name__}."
    others = {*dir(public)} - {*public.__all__} - {name for name in dir(public) if name[0] == "_"}
    assert {name for name in others if path + name not in sys.modules} == set()
    assert {*public.__all__} <= {*dir(public)}
