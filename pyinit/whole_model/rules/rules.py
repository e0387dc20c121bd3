"""Lists of rules, of which the first that matches a parameter wins."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, NamedTuple, TypeAlias, TypeVar

from pyinit._messages import near
from pyinit.initializers import Initializer
from pyinit.whole_model.methods import Method, method
from pyinit.whole_model.network import Network
from pyinit.whole_model.recipes import Choice, Recipe, recipe
from pyinit.whole_model.recipes.choices import with_padding
from pyinit.whole_model.rules.mmengine import from_init_cfg, is_init_cfg
from pyinit.whole_model.rules.patterns import Pattern, matcher
from pyinit.whole_model.rules.recipe_file import read_data
from pyinit.whole_model.rules.rule import Rule, errors_in

__all__ = ["RecipeFile", "Rule", "Rules", "RulesLike", "as_rules", "load_recipe", "matcher"]

_Item: TypeAlias = (
    "Rule | tuple[Pattern, Initializer | str | Mapping[str, Any]] | Mapping[str, Any]"
)
RulesLike: TypeAlias = "Rule | Sequence[_Item] | Mapping[str, Any] | str | PathLike[str] | None"

_Named = TypeVar("_Named")

_FILE_KEYS = dict.fromkeys(("recipe", "rules", "after"))


class Rules(tuple[Rule, ...]):
    """Rules in order."""

    __slots__ = ()

    def choose(self, network: Network) -> dict[str, Choice]:
        """Choose the initializer of each parameter that a rule matches, by the parameter's name.

        In reports and errors the first rule is rule 1.

        Raises:
            ValueError: For a rule that matches no parameter and is not optional. One whose
                parameters all went to earlier rules is fine.
        """
        choices: dict[str, Choice] = {}
        for number, rule in enumerate(self, 1):
            sites = [site for site in network.sites if rule.matches(site)]
            if not sites and not rule.optional:
                raise ValueError(
                    f"rule {number} ({rule}) matches no parameter; {rule.near(network)}"
                )
            choice = Choice(rule.initializer, f"rule {number}: {rule.pattern}")
            for site in sites:
                if site.name not in choices:
                    choices[site.name] = (
                        choice if rule.fill_padding else with_padding(choice, site, network)
                    )
        return choices

    def to_list(self) -> list[dict[str, Any]]:
        """The rules as values that JSON and TOML have; ``as_rules`` takes them back.

        Raises:
            ValueError: For a predicate, or a list of patterns of several kinds.
        """
        return [rule.to_dict() for rule in self]


def as_rules(value: RulesLike) -> Rules:
    """Make rules of any of the forms that they have.

    Args:
        value: None, a ``Rule``, the path of a .toml or .json file (docs/rules.md), a mapping from
            globs to initializers, a list, or an ``init_cfg`` of mmengine. A list has rules: each a
            ``Rule``, a pair of a pattern and an initializer, or a dictionary with the key ``init``.
            An ``init_cfg`` is a dictionary with a ``type`` of mmengine and without ``init`` and
            ``name``, or a list of such.

    Raises:
        TypeError: For anything else.
        ValueError: For a rule or a file that is wrong, with its number or name.
        OSError: If the file cannot be read.
    """
    if value is None:
        return Rules()
    if isinstance(value, Rule):
        return Rules((value,))
    if isinstance(value, (str, PathLike)):
        file = load_recipe(value)
        if file.recipe is not None or file.after is not None:
            what = "recipe" if file.after is None else "method"
            raise ValueError(f"{value}: names a {what}, too: give the file as the recipe")
        return file.rules
    if isinstance(value, Mapping):
        is_one = "init" in value or is_init_cfg(value)
        return _from_items([value] if is_one else list(value.items()))
    if isinstance(value, (list, tuple)):
        return _from_items(value)
    raise TypeError(
        "rules must be a Rule, a list of rules, a mapping of globs to initializers or the path of a "
        f"file, got {value!r}"
    )


class RecipeFile(NamedTuple):
    """What a file names: a recipe, rules that go before it, and the method that comes after."""

    recipe: Recipe | None
    rules: Rules
    after: Method | None


def load_recipe(path: str | PathLike[str]) -> RecipeFile:
    """Read a .toml or .json file (docs/rules.md).

    Raises:
        ValueError: For a file that is wrong; the message names the file, the rule and the key.
        OSError: If the file cannot be read.
    """
    with errors_in(str(path)):
        data = read_data(path)
        for key in data:
            if key not in _FILE_KEYS:
                raise ValueError(f"unknown key {key!r}; {near(key, _FILE_KEYS)}")
        return RecipeFile(
            _named("recipe", data.get("recipe"), recipe),
            _rules_of_file(data.get("rules", [])),
            _named("after", data.get("after"), _method_of_file),
        )


def _named(key: str, value: object, make: Callable[..., _Named]) -> _Named | None:
    if value is None:
        return None
    options = {"name": value} if isinstance(value, str) else value
    if not isinstance(options, dict) or not isinstance(options.get("name"), str):
        raise ValueError(f"{key} must be a name, or a table of a name and options, got {value!r}")  # noqa: TRY004
    options = dict(options)
    return make(options.pop("name"), **options)


def _method_of_file(name: str, **options: Any) -> Method:
    return method(name).of_file(options)


def _rules_of_file(items: object) -> Rules:
    if not (isinstance(items, list) and all(isinstance(item, dict) for item in items)):
        raise ValueError("rules must be tables: [[rules]] in TOML, a list of objects in JSON")
    return _from_items(items)


def _from_items(items: Sequence[Any]) -> Rules:
    # In mmengine a later dictionary wins over an earlier one, so these make a list of their own.
    if items and all(map(is_init_cfg, items)):
        return Rules(from_init_cfg(list(items)))
    return Rules(itertools.starmap(_numbered, enumerate(items, 1)))


def _numbered(number: int, item: Any) -> Rule:
    with errors_in(f"rule {number}"):
        return _from_item(item)


def _from_item(item: Any) -> Rule:
    if isinstance(item, Rule):
        return item
    if is_init_cfg(item):
        raise ValueError(
            "mmengine's dictionaries, of which the last wins, do not mix with rules; "
            "from_init_cfg makes rules of them"
        )
    if isinstance(item, Mapping):
        return Rule.from_dict(item)
    if isinstance(item, (list, tuple)) and len(item) == 2:
        return Rule(*item)
    raise TypeError(
        f"must be a Rule, a pair of pattern and initializer, or a dictionary, got {item!r}"
    )
