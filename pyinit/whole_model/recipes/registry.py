"""Recipes by name, with their options."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pyinit._messages import near
from pyinit.initializers import Initializer
from pyinit.whole_model.network import Network, Site


class Choice(NamedTuple):
    """An initializer, and why this one."""

    initializer: Initializer
    why: str


Choices = Mapping[str, Choice]
"""By the name of the parameter. Those that are not in it stay as they are."""


@dataclass(frozen=True)
class Recipe:
    """A recipe with its options. ``choose`` says what each parameter of a network gets.

    source: the paper or program that it follows
    """

    name: str
    function: Callable[..., Choices]
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The first line of its documentation."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    def choose(self, network: Network) -> Choices:
        return self.function(network, **self.options)

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{self.name}({options})" if options else self.name


_REGISTRY: dict[str, Recipe] = {}


def register_recipe(
    name: str, *, source: str = ""
) -> Callable[[Callable[..., Choices]], Callable[..., Choices]]:
    """Decorator: makes a function from ``Network`` to choices a recipe. Its keyword-only parameters
    are the recipe's options, the first line of its docstring is its summary.

    Raises:
        ValueError: if another recipe has the name.
    """

    def add(function: Callable[..., Choices]) -> Callable[..., Choices]:
        known = _REGISTRY.get(name)
        if known is not None and known.function.__qualname__ != function.__qualname__:
            raise ValueError(f"name {name!r} is taken by another recipe")
        _REGISTRY[name] = Recipe(name, function, source)
        return function

    return add


def recipes() -> dict[str, Recipe]:
    """All recipes by name; each has a ``summary`` and a ``source``."""
    return dict(sorted(_REGISTRY.items()))


def recipe(name: str, **options: Any) -> Recipe:
    """The recipe of that name, with options.

    Raises:
        ValueError: for an unknown name, or an option that it does not have.
    """
    known = _REGISTRY.get(name)
    if known is None:
        raise ValueError(f"unknown recipe {name!r}; {near(name, _REGISTRY)}")
    if not options:
        return known
    taken = [
        p.name
        for p in inspect.signature(known.function).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    ]
    for option in options:
        if option not in taken:
            raise ValueError(
                f"recipe {name!r} has no option {option!r}; it has {', '.join(taken) or 'none'}"
            )
    return Recipe(known.name, known.function, known.source, options)


def each(network: Network, choose: Callable[[Site], Choice | None]) -> dict[str, Choice]:
    """The choices of a function of one parameter; None leaves it to whatever comes before."""
    found = ((site.name, choose(site)) for site in network.sites)
    return {name: choice for name, choice in found if choice is not None}
