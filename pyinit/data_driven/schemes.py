"""For ``search.py``: the weights that may be drawn anew, and the initializers that each may have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyinit._messages import near
from pyinit.data_driven.adjustable import Adjustable
from pyinit.data_driven.engine import Work, as_layer
from pyinit.initializers import Initializer
from pyinit.whole_model.recipes.registry import Choice
from pyinit.whole_model.rules import matcher
from pyinit.whole_model.rules.rule import as_initializer

Scheme = Initializer | str | Mapping[str, Any] | None
"""An initializer, its name or its dictionary; None for what the base gives."""

Schemes = Sequence[Scheme] | Mapping[Any, Sequence[Scheme]]

BASE = "base"  # how None is called
_WHY = "search"


@dataclass(frozen=True)
class Group:
    """Weights that share a choice.

    choices: for each initializer by its name, what each of the weights gets
    """

    name: str
    weights: tuple[Adjustable, ...]
    choices: Mapping[str, tuple[Choice, ...]]


Chosen = Mapping[str, str]
"""The name of an initializer for each group."""


def groups_of(work: Work, schemes: Schemes) -> list[Group]:
    weights = _weights(work)
    if not isinstance(schemes, Mapping):
        initializers = _initializers("schemes", schemes)
        return [_group(work, each.name, [each], initializers) for each in weights]
    if not schemes:
        raise ValueError("schemes must name weights and their initializers, got an empty mapping")
    groups = []
    for pattern, several in schemes.items():
        matches = matcher(pattern)
        name = str(matches)
        initializers = _initializers(f"schemes[{name!r}]", several)
        found = [each for each in weights if matches(each.site) or matches(as_layer(each.site))]
        if not found:
            names = [each.name for each in weights]
            raise ValueError(
                f"schemes[{name!r}] matches no weight that an earlier pattern leaves; "
                f"{near(name, names)}"
            )
        weights = [each for each in weights if each not in found]
        groups.append(_group(work, name, found, initializers))
    for each in weights:
        work.leave(each.name, "no pattern of schemes matches it")
    return groups


def _weights(work: Work) -> list[Adjustable]:
    """Those that can be drawn anew."""
    found = []
    for each in work.parameters():
        row = work.row_of(each.site)
        if len(each.site.shape) < 2:
            continue
        if row.is_kept:
            work.leave(each.name, row.why)
        elif row.key is None or not row.initializer.resolve(row.weight):
            work.leave(each.name, f"{row.initializer} does not draw it from a key")
        else:
            found.append(each)
    if not found:
        raise ValueError("search found no weight that the base recipe draws from a key")
    return found


def _initializers(where: str, schemes: object) -> dict[str, Initializer | None]:
    """By the names that reports have."""
    if isinstance(schemes, (str, Mapping, Initializer)) or not isinstance(schemes, Sequence):
        raise TypeError(f"{where} must be a list of initializers, got {schemes!r}")
    found: dict[str, Initializer | None] = {}
    for scheme in schemes:
        try:
            initializer = None if scheme is None else as_initializer(scheme)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{where}: {error}") from None
        name = BASE if initializer is None else str(initializer)
        if name in found:
            raise ValueError(f"{where} has {name} twice")
        found[name] = initializer
    if not found:
        raise ValueError(f"{where} must have at least one initializer, got none")
    return found


def _group(
    work: Work, name: str, weights: list[Adjustable], initializers: Mapping[str, Initializer | None]
) -> Group:
    choices = {
        called: tuple(choice_of(work, each, initializer) for each in weights)
        for called, initializer in initializers.items()
    }
    return Group(name, tuple(weights), choices)


def choice_of(work: Work, weight: Adjustable, initializer: Initializer | None) -> Choice:
    row = work.row_of(weight.site)
    if initializer is None:
        return Choice(row.initializer, row.why)
    choice = work.chosen(weight, initializer, _WHY)
    if not choice.initializer.resolve(row.weight):
        raise ValueError(
            f"{initializer} draws nothing for {weight.name}: None stands for what the base gives"
        )
    return choice
