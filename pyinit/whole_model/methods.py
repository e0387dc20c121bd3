"""The register of data-driven methods: by their names, with their options."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, TypeVar

import torch

from pyinit._messages import near
from pyinit.reports.printed import Listed
from pyinit.whole_model.options import check_names, check_types, options_of
from pyinit.whole_model.recipes.registry import Recipe

_Function = TypeVar("_Function", bound=Callable[..., Any])

# What every method takes beside its options.
_COMMON = ("base", "seed", "layers", "verbose")


@dataclass(frozen=True)
class Start:
    """How a method gets the weights that it begins with: what ``initialize_`` was called with."""

    recipe: Recipe
    rules: Any = None
    only: Any = None
    skip: Any = None
    generator: torch.Generator | None = None
    device: torch.device | str | None = None


@dataclass(frozen=True)
class Method:
    """A data-driven method with its options: ``method`` and ``methods`` give them.

    Args:
        name: the name that it is registered by
        function: a function of a model, of data, and of options that are keyword-only; its report's
            ``init`` is an ``InitReport``
        source: the paper that it follows
        needs_data: whether it can do nothing without data
        takes_shape: whether the shape of the inputs will do for data
        options: the options that differ from the function's defaults

    Example:
        >>> import pyinit
        >>> quick = pyinit.methods.lsuv(iterations=3)
        >>> print(quick, "-", quick.source)
        lsuv(iterations=3) - Mishkin & Matas 2016
    """

    name: str
    function: Callable[..., Any]
    source: str
    needs_data: bool = True
    takes_shape: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs(self) -> str:
        """What it cannot do without, in words."""
        if not self.needs_data:
            return ""
        return "shape or data" if self.takes_shape else "data"

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The options that its function takes, by name."""
        return options_of(self.function, besides=_COMMON)

    def __call__(self, **options: Any) -> "Method":
        """The method with these options besides those that it has.

        Args:
            options: what the method's function takes as keywords

        Returns:
            The method with options; ``run`` runs it.

        Raises:
            ValueError: for an option that the method does not have.
        """
        check_names(f"method {self.name!r}", options, self.parameters)
        return replace(self, options={**self.options, **options})

    def of_file(self, options: Mapping[str, Any]) -> "Method":
        """The method with options that a file or a command line has: numbers, texts, lists and tables.

        Raises:
            ValueError: for an option that the method does not have, or of a type that it does not take.
        """
        found = self(**options)
        check_types(f"method {self.name!r}", options, self.parameters, of_file=True)
        return found

    def run(self, model: torch.nn.Module, data: Any, **common: Any) -> Any:
        """Run the method.

        Args:
            model: the model
            data: what the method measures on
            common: ``base``, ``seed``, ``layers`` and ``verbose``, as every method takes them

        Returns:
            The method's report.

        Raises:
            ValueError: without data that it needs, or as the method does.
            TypeError: if the method returns no report. What it has written then stays.
        """
        if data is None and self.needs_data:
            raise ValueError(
                f"method {self.name!r} needs the shape of its inputs, such as data=(64, 3, 32, 32), or data, "
                "got neither"
                if self.takes_shape
                else f"method {self.name!r} measures on data, got none: give data="
            )
        report = self.function(model, data, **common, **self.options)
        if not hasattr(report, "init"):
            raise TypeError(
                f"method {self.name!r} must return a report that has init, an InitReport; "
                f"got {type(report).__name__}"
            )
        return report

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{self.name}({options})" if options else self.name


_REGISTRY: dict[str, Method] = {}
_PACKAGES: set[str] = set()  # that register methods when they are imported


def register_package(name: str) -> None:
    """Have a package of methods imported when a method is first asked for."""
    _PACKAGES.add(name)


def _registry() -> dict[str, Method]:
    for package in sorted(_PACKAGES):
        import_module(package)
    return _REGISTRY


def register_method(
    name: str, *, source: str = "", needs_data: bool = True, takes_shape: bool = False
) -> Callable[[_Function], _Function]:
    """Decorator that makes a function known as a data-driven method.

    Args:
        name: the name that recipe files will know it by
        source: the paper that it follows
        needs_data: whether it can do nothing without data
        takes_shape: whether the shape of the inputs will do for data: a tuple of whole numbers

    Returns:
        The decorator, which returns the function as it is.

    Raises:
        TypeError: for a name that is no string.
        ValueError: if another method has the name, or it is empty.

    Example:
        >>> from pyinit.whole_model.methods import method, register_method
        >>> @register_method("nothing", source="this page", needs_data=False)
        ... def nothing_(model, data, *, base=None, seed=None, layers=None, verbose=False):
        ...     \"""Leaves everything as it is.\"""
        >>> method("nothing").summary
        'Leaves everything as it is.'
    """

    if not isinstance(name, str):
        raise TypeError(f"name must be a string, got {name!r}")
    if not name:
        raise ValueError("name must not be empty")

    def add(function: _Function) -> _Function:
        known = _REGISTRY.get(name)
        if known is not None and known.function.__qualname__ != function.__qualname__:
            raise ValueError(f"name {name!r} is taken by another method")
        _REGISTRY[name] = Method(name, function, source, needs_data, takes_shape)
        return function

    return add


class Methods:
    """The data-driven methods by name: ``pyinit.methods`` is the only one of this class.

    ``methods()`` gives all of them as a dictionary. As an attribute, each is a ``Method``, which takes
    options: ``methods.lsuv(tolerance=0.05)`` is ``method("lsuv", tolerance=0.05)``.
    """

    def __call__(self) -> Listed[Method]:
        """All data-driven methods, in alphabetical order.

        Returns:
            The methods by their names: a dict. Each has a ``summary`` and a ``source``, and all of them
            print as a table.

        Example:
            >>> import pyinit
            >>> pyinit.methods()["lsuv"].source
            'Mishkin & Matas 2016'
        """
        return Listed("method", ("needs", "summary", "source"), _registry())

    def __getattr__(self, name: str) -> Method:
        # Nothing that Python itself asks for has methods imported.
        registry = {} if name.startswith("_") else _registry()
        if name not in registry:
            known = f"; {near(name, registry)}" if registry else ""
            raise AttributeError(f"unknown method {name!r}{known}")
        return registry[name]

    def __dir__(self) -> list[str]:
        return [*object.__dir__(self), *self()]

    def __reduce__(self) -> str:
        return "methods"

    def __repr__(self) -> str:
        listed = self()
        width = max(map(len, listed), default=0)
        lines = [f"  {name:{width}}  {each.summary}" for name, each in listed.items()]
        return "\n".join(("data-driven methods:", *lines))


methods = Methods()


def method(name: str, **options: Any) -> Method:
    """A data-driven method by its name, with options.

    Args:
        name: one of the names in ``methods()``
        options: what the method's function takes as keywords; the others keep their defaults

    Returns:
        The method.

    Raises:
        ValueError: for an unknown name, or an option that the method does not have.

    Example:
        >>> import pyinit
        >>> pyinit.method("lsuv", tolerance=0.05) == pyinit.methods.lsuv(tolerance=0.05)
        True
    """
    registry = _registry()
    if name not in registry:
        raise ValueError(f"unknown method {name!r}; {near(name, registry)}")
    return registry[name](**options)
