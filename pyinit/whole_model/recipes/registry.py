"""The register of recipes: by their names, with their options."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pyinit._messages import near
from pyinit.initializers import Initializer
from pyinit.reports.printed import Listed
from pyinit.whole_model.network import Network
from pyinit.whole_model.options import check_names, check_types, options_of


class Choice(NamedTuple):
    """What a recipe gives to a parameter.

    Args:
        initializer: what fills the parameter
        why: what a report says of it, in a few words

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> from pyinit.whole_model.network import Network
        >>> choice = pyinit.recipe("xavier").choose(Network(nn.Linear(4, 2)))["weight"]
        >>> print(choice.initializer, "-", choice.why)
        xavier_uniform - weight
    """

    initializer: Initializer
    why: str


Choices = Mapping[str, Choice]
"""The choices of a recipe, by the names of the parameters. One that is left out stays as it is."""


@dataclass(frozen=True)
class Recipe:
    """A recipe with its options: ``recipe`` and ``recipes`` give them.

    Args:
        name: the name that it is registered by
        function: what chooses, a function of a ``Network`` and of options that are keyword-only
        source: the paper or program that it follows
        options: the options that differ from the function's defaults

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> small = pyinit.recipe("normal", std=0.001)
        >>> print(small, "-", small.summary)
        normal(std=0.001) - Draws weights and embeddings from one normal distribution, and sets biases to 0.
        >>> pyinit.initialize_(nn.Linear(4, 2), small, seed=0).recipe
        'normal(std=0.001)'
    """

    name: str
    function: Callable[..., Choices]
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    def choose(self, network: Network) -> Choices:
        """What each parameter of a network gets.

        Args:
            network: a model, wrapped in ``pyinit.whole_model.network.Network``

        Returns:
            A choice for each parameter that the recipe knows, by the parameter's name.

        Raises:
            ValueError: for a network that the recipe cannot be used for, or a bad option.
        """
        return self.function(network, **self.options)

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{self.name}({options})" if options else self.name


_REGISTRY: dict[str, Recipe] = {}

# Names that others have for what these recipes do, and that are not like theirs.
_ALSO_CALLED = {
    "default": "torch",
    "glorot": "xavier",
    "he": "kaiming",
    "msra": "kaiming",
    "ortho": "orthogonal",
    "pytorch": "torch",
    "selu": "lecun",
    "tensorflow": "keras",
    "zeros": "zero",
}


def register_recipe(
    name: str, *, source: str = ""
) -> Callable[[Callable[..., Choices]], Callable[..., Choices]]:
    """Decorator that makes a recipe of a function from a ``Network`` to choices.

    The function's keyword-only parameters are the recipe's options, and the first line of its
    docstring is the recipe's summary.

    Args:
        name: the name that ``initialize_`` will know the recipe by
        source: the paper or program that the recipe follows

    Returns:
        The decorator, which returns the function as it is.

    Raises:
        ValueError: if another recipe has the name.

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> @pyinit.register_recipe("ones and zeros", source="this page")
        ... def ones_and_zeros(network):
        ...     \"""Sets weights to 1 and all else to 0.\"""
        ...     fill = {"weight": pyinit.initializers.ONES}
        ...     return {
        ...         site.name: pyinit.Choice(fill.get(site.leaf, pyinit.initializers.ZEROS), site.leaf)
        ...         for site in network.sites
        ...     }
        >>> layer = nn.Linear(2, 1)
        >>> report = pyinit.initialize_(layer, "ones and zeros")
        >>> layer.weight.tolist(), layer.bias.tolist()
        ([[1.0, 1.0]], [0.0])
    """

    def add(function: Callable[..., Choices]) -> Callable[..., Choices]:
        known = _REGISTRY.get(name)
        if known is not None and known.function.__qualname__ != function.__qualname__:
            raise ValueError(f"name {name!r} is taken by another recipe")
        _REGISTRY[name] = Recipe(name, function, source)
        return function

    return add


def recipes() -> Listed[Recipe]:
    """All recipes, in alphabetical order.

    Returns:
        The recipes by their names: a dict. Each has a ``summary`` and a ``source``, and all of them
        print as a table.

    Example:
        >>> import pyinit
        >>> pyinit.recipes()["lecun"].source
        'LeCun et al. 1998, section 4.6'
    """
    return Listed("recipe", ("summary", "source"), _REGISTRY)


def recipe(name: str, **options: Any) -> Recipe:
    """A recipe by its name, with options.

    Args:
        name: one of the names in ``recipes()``
        options: what the recipe's function takes as keywords; the others keep their defaults

    Returns:
        The recipe, which ``initialize_`` takes in place of a name.

    Raises:
        ValueError: for an unknown name, or an option that the recipe does not have or of another type.

    Example:
        >>> import pyinit
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> report = pyinit.initialize_(model, pyinit.recipe("kaiming", mode="fan_out"), seed=0)
        >>> print(report["0.weight"].initializer)
        kaiming_normal(mode=fan_out, nonlinearity=relu)
    """
    known = _REGISTRY.get(name)
    if known is None:
        meant = _ALSO_CALLED.get(name.lower()) if isinstance(name, str) else None
        hint = near(str(name), _REGISTRY) if meant is None else f"did you mean {meant}?"
        raise ValueError(f"unknown recipe {name!r}; {hint}")
    if not options:
        return known
    taken = options_of(known.function)
    check_names(f"recipe {name!r}", options, taken)
    check_types(f"recipe {name!r}", options, taken)
    return Recipe(known.name, known.function, known.source, options)
