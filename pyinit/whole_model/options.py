"""Options of recipes and data-driven methods: the keyword-only parameters of their functions."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from pyinit._messages import near

Taken = Mapping[str, inspect.Parameter]


def options_of(
    function: Callable[..., Any], *, besides: Sequence[str] = ()
) -> dict[str, inspect.Parameter]:
    """The options that a function takes, by name; ``besides`` names keywords that are none."""
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in besides
    }


def check_names(of: str, options: Mapping[str, Any], taken: Taken) -> None:
    """Refuse options that ``of``, such as ``"recipe 'gpt2'"``, does not have.

    Raises:
        ValueError: for such an option; it says which are like it.
    """
    for option in options:
        if option not in taken:
            has = near(option, taken) if taken else "it has none"
            raise ValueError(f"{of} has no option {option!r}; {has}")


def check_types(
    of: str, options: Mapping[str, Any], taken: Taken, *, of_file: bool = False
) -> None:
    """Refuse options of other types than the annotations name: numbers, texts, lists and tables.

    Args:
        of: whose options they are, such as ``"recipe 'gpt2'"``
        options: the options
        taken: the parameters of the function
        of_file: whether they are those of a file, which can hold nothing else; where not, an option that
            may be something else, too, is left to the function

    Raises:
        ValueError: for such an option, or one whose type no file can hold.
    """
    for name, value in options.items():
        kinds = _kinds(taken[name].annotation)
        is_plain = all(kind in _IN_WORDS or kind is NoneType for kind in kinds)
        if any(_is_of(value, kind) for kind in kinds) or not (is_plain or of_file):
            continue
        words = [_IN_WORDS[kind] for kind in kinds if kind in _IN_WORDS]
        if not words:
            raise ValueError(f"option {name!r} of {of} can be given in Python only, got {value!r}")
        raise ValueError(f"option {name!r} of {of} must be {' or '.join(words)}, got {value!r}")


# Types of options that files have, and what they are called.
_IN_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Sequence: "a list",
    Mapping: "a table",
}


def _kinds(annotation: Any) -> list[Any]:
    """The types that an annotation allows; Any if it does not say."""
    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        return [Any]
    several = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return [get_origin(each) or each for each in several]


def _is_of(value: Any, kind: Any) -> bool:
    if kind is Any:
        return True
    if isinstance(value, (bool, str)):  # which are numbers and sequences, too
        return kind is type(value)
    return isinstance(value, Real if kind is float else kind)
