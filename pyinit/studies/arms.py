"""What an arm of a study may be: a table of kinds of steps, each of which initializes a model."""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from types import BuiltinFunctionType
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor, nn

from pyinit._messages import near
from pyinit.initializers.keras_names import KERAS_NAMES, from_keras, is_keras_name
from pyinit.pretrained.load import load_pretrained_
from pyinit.studies.kinds import FieldError, inside, optional, whole
from pyinit.studies.references import fingerprint, reference_to, resolve
from pyinit.whole_model.initialize import chosen_by, initialize_
from pyinit.whole_model.methods import Method, Start, method, methods
from pyinit.whole_model.recipes import Recipe, recipe, recipes
from pyinit.whole_model.rules import as_rules, matcher

_RULES = (".toml", ".json")
_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_PRETRAINED = "pretrained"

SCHEMA: Mapping[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {"type": "object"},
        {"type": "array", "items": {"type": ["string", "object"]}, "minItems": 1},
    ]
}


Pretrain: TypeAlias = Callable[[Any, int | None], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Surroundings:
    """What an arm may use.

    Args:
        seed: the run's
        batch: inputs and target of some samples of the training data
        pretrain: a function of an arm and a number of steps (None for the study's) that gives the state
            of a model, initialized by the arm and trained on the other half of the data
    """

    seed: int
    batch: tuple[Tensor, Tensor]
    pretrain: Pretrain


class Step(NamedTuple):
    """One step of an arm: its kind, what it is, and options."""

    kind: str
    value: Any
    options: Mapping[str, Any]


# ---- the kinds -----------------------------------------------------------------------------------

_WHERE = ("rules", "only", "skip")  # options of initialize_ that a recipe's step takes


def _recipe(model: nn.Module | None, step: Step, around: Surroundings | None) -> None:
    options = {key: value for key, value in step.options.items() if key not in _WHERE}
    where = {key: value for key, value in step.options.items() if key in _WHERE}
    _check_patterns(where)
    chosen = step.value
    if isinstance(chosen, (str, PathLike)) and not _is_file(chosen, _RULES):
        chosen = recipe(fspath(chosen), **options)
    elif options:
        raise ValueError(f"takes {', '.join(_WHERE)} beside it, got {', '.join(options)}")
    after = chosen_by(chosen, where.get("rules")).after
    if model is not None and around is not None:
        data = None if after is None else around.batch
        initialize_(model, chosen, seed=around.seed, data=data, **where)


def _rules(model: nn.Module | None, step: Step, around: Surroundings | None) -> None:
    """Rules alone: what they do not name stays as it is."""
    _only(step, ("only", "skip"))
    _check_patterns(step.options)
    rules = as_rules(step.value)
    if model is not None and around is not None:
        initialize_(model, _KEPT, rules=rules, seed=around.seed, **step.options)


def _check_patterns(options: Mapping[str, Any]) -> None:
    for key in ("only", "skip"):
        if key in options:
            with inside(key), _told():
                matcher(options[key])


_KEPT = Recipe("none", lambda _: {}, "")


def _method(model: nn.Module | None, step: Step, around: Surroundings | None) -> None:
    options = dict(step.options)
    base = options.pop("base", None)
    chosen = step.value
    if not isinstance(chosen, Method):
        chosen = method(chosen, **options)
    elif options:
        raise ValueError(f"takes base beside it, got {', '.join(options)}")
    start = None if base is None else Start(*chosen_by(base)[:2])
    if model is not None and around is not None:
        chosen.run(model, around.batch, base=start, seed=around.seed)


def _keras(model: nn.Module | None, step: Step, around: Surroundings | None) -> None:
    kernel = {"name": step.value, **step.options} if step.options else step.value
    from_keras(step.value, **step.options)
    found = recipe("keras", kernel=kernel)
    if model is not None and around is not None:
        initialize_(model, found, seed=around.seed)


def _pretrained(model: nn.Module | None, step: Step, around: Surroundings | None) -> None:
    of_training = ("arm", "steps") if step.value is True else ()
    _only(step, (*of_training, "adapt", "init_missing", "prefix"))
    optional(whole(1))("steps", step.options.get("steps"))
    options = dict(step.options)
    arm, steps = options.pop("arm", "kaiming"), options.pop("steps", None)
    if step.value is not True and not Path(step.value).exists():
        raise FileNotFoundError(f"there is no file {fspath(step.value)}")
    steps_of(arm)
    if model is not None and around is not None:
        source = around.pretrain(arm, steps) if step.value is True else step.value
        load_pretrained_(model, source, seed=around.seed, **options)


def _function(model: nn.Module | None, step: Step, around: Surroundings | None) -> None:
    function = resolve(step.value)
    _check_function(function, step.options)
    if model is not None and around is not None:
        given, named = _arguments(function, step.options, around)
        made = function(model, *given, **named, **step.options)
        if isinstance(made, nn.Module) and made is not model:
            raise ValueError(
                f"an arm's function must fill in the model that it is given, and it returned another {type(made).__name__}"
            )


def _check_function(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Check that a function may take a model, a batch and a seed at most, and its options.

    Raises:
        ValueError: if it does not.
    """
    module = str(getattr(function, "__module__", "")).partition(".")[0]
    is_pythons = isinstance(function, BuiltinFunctionType) and module in sys.stdlib_module_names
    if is_pythons or isinstance(function, type):
        raise ValueError(f"must be a function of a model, got {function!r}")
    given, named = _arguments(function, options, Surroundings(0, None, None))  # type: ignore[arg-type]
    try:
        inspect.signature(function).bind(None, *given, **{**named, **options})
    except TypeError as error:
        raise ValueError(
            f"cannot be called with a model, a batch and a seed at most, and its options: {error}"
        ) from None
    except ValueError:  # of code that tells nothing about itself
        pass


def _arguments(
    function: Callable[..., Any], options: Mapping[str, Any], around: Surroundings
) -> tuple[list[Any], dict[str, Any]]:
    """What a function takes after the model: parameters of these names, else those without a default in order."""
    left = {"batch": around.batch, "seed": around.seed}
    try:
        parameters = [*inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):  # of code that tells nothing about itself
        return [], {}
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return [*left.values()], {}
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    places = [p for p in parameters if p.kind in kinds and p.name not in options][1:]
    found = {p.name: left.pop(p.name) for p in places if p.name in left}
    for each in places:
        if each.name not in found and each.default is each.empty and left:
            found[each.name] = left.pop(next(iter(left)))
    first = [p.name for p in places if p.kind is p.POSITIONAL_ONLY and p.name in found]
    return [found.pop(name) for name in first], found


_Kind = Callable[[nn.Module | None, Step, Surroundings | None], None]

# By the key of a step's table: a function that checks a step without a model, and does it with one.
KINDS: Mapping[str, _Kind] = {
    "recipe": _recipe,
    "rules": _rules,
    "method": _method,
    "keras": _keras,
    _PRETRAINED: _pretrained,
    "function": _function,
}


# ---- what users write ----------------------------------------------------------------------------


def steps_of(arm: Any) -> list[Step]:
    """The steps of an arm, each checked as far as that is possible without a model.

    Raises:
        FieldError: for what is no arm.
    """
    if isinstance(arm, (list, tuple)) and arm:
        found = []
        for i, each in enumerate(arm):
            with inside(i):
                found.append(_step(each))
        return found
    return [_step(arm)]


def apply(model: nn.Module, arm: Any, around: Surroundings) -> None:
    """Initialize a model as an arm says."""
    for step in steps_of(arm):
        KINDS[step.kind](model, step, around)


def is_pretrained_here(arm: Any) -> bool:
    """Whether an arm trains weights, and is not given a file of them."""
    return any(step.kind == _PRETRAINED and step.value is True for step in steps_of(arm))


def described(arm: Any) -> str:
    """All that an arm does as text: files by their contents, functions by their code."""
    return fingerprint(
        [
            (
                step.kind,
                _meant(step.kind, step.value),
                {k: _file(v) for k, v in step.options.items()},
            )
            for step in steps_of(arm)
        ]
    )


def _meant(kind: str, value: Any) -> Any:
    by_name: dict[str, Callable[[str], Any]] = {
        "function": resolve,
        "recipe": recipe,
        "method": method,
    }
    is_named = kind in by_name and isinstance(value, str) and not _is_file(value, _RULES)
    return by_name[kind](value) if is_named else _file(value)


def _file(value: Any) -> Any:
    return Path(value) if _is_file(value, (*_RULES, *_WEIGHTS)) else value


def plain(arm: Any) -> Any:
    """An arm as values that TOML has.

    Raises:
        ValueError: for what a file cannot name.
    """
    if isinstance(arm, str):
        return arm
    steps = [_written(step) for step in steps_of(arm)]
    return steps[0] if len(steps) == 1 else steps


def _written(step: Step) -> dict[str, Any]:
    value = step.value
    if isinstance(value, (Recipe, Method)):
        return {step.kind: value.name, **value.options, **step.options}
    if isinstance(value, PathLike):
        value = fspath(value)
    elif callable(value):
        value = reference_to(value)
    return {step.kind: value, **step.options}


def _step(arm: Any) -> Step:
    step = _of_table(arm) if isinstance(arm, Mapping) else _of_value(arm)
    with _told():
        KINDS[step.kind](None, step, None)
    return step


@contextmanager
def _told() -> Iterator[None]:
    """Make errors of what an arm names errors of the arm."""
    try:
        yield
    except FieldError:
        raise
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise FieldError((), str(error)) from error


def _of_table(arm: Mapping[str, Any]) -> Step:
    kinds = [key for key in KINDS if key in arm]
    if "recipe" in kinds and "rules" in kinds:
        kinds.remove("rules")  # which go before the recipe
    if len(kinds) != 1:
        got = ", ".join(arm) or "nothing"
        raise FieldError((), f"an arm's table has one of the keys {', '.join(KINDS)}, got {got}")
    options = {key: value for key, value in arm.items() if key != kinds[0]}
    value = arm[kinds[0]]
    takes = {"rules": object, "recipe": (str, PathLike, Recipe), "method": (str, Method)}
    if kinds[0] == _PRETRAINED and value is not True and not isinstance(value, (str, PathLike)):
        raise FieldError((_PRETRAINED,), f"must be true or the path of a file, got {value!r}")
    if not isinstance(value, takes.get(kinds[0], object)):  # type: ignore[arg-type]
        raise FieldError((kinds[0],), f"must be a name, got {value!r}")
    return Step(kinds[0], value, options)


def _of_value(arm: Any) -> Step:
    if isinstance(arm, Recipe):
        is_known = arm.name in recipes() and recipe(arm.name).function is arm.function
        return Step("recipe", *((arm.name, arm.options) if is_known else (arm, {})))
    if isinstance(arm, Method):
        is_known = arm.name in methods() and method(arm.name).function is arm.function
        return Step("method", *((arm.name, arm.options) if is_known else (arm, {})))
    if isinstance(arm, (str, PathLike)):
        return _of_text(fspath(arm))
    if callable(arm) and not isinstance(arm, type):
        return Step("function", arm, {})
    raise FieldError((), f"must be a name, a table, a recipe, a method or a function, got {arm!r}")


def _of_text(text: str) -> Step:
    if text == _PRETRAINED:
        return Step(_PRETRAINED, True, {})
    if text in recipes() or _is_file(text, _RULES):
        return Step("recipe", text, {})
    if text in methods():
        return Step("method", text, {})
    if is_keras_name(text):
        return Step("keras", text, {})
    if _is_file(text, _WEIGHTS):
        return Step(_PRETRAINED, text, {})
    if ":" in text:
        return Step("function", text, {})
    known = dict.fromkeys((*recipes(), *methods(), *KERAS_NAMES, _PRETRAINED))
    raise FieldError(
        (), f"no recipe, method or initializer of Keras is named {text!r}; {near(text, known)}"
    )


def _is_file(value: Any, suffixes: tuple[str, ...]) -> bool:
    return isinstance(value, (str, PathLike)) and Path(value).suffix.lower() in suffixes


def _only(step: Step, taken: tuple[str, ...]) -> None:
    for key in step.options:
        if key not in taken:
            raise FieldError((key,), f"{step.kind} takes no such option; {near(key, taken)}")
