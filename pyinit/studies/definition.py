"""What a study is made of: how models are trained, what is claimed, and all fields, checked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from itertools import product
from typing import Any

import torch
from torch import nn

from pyinit.studies import arms as arms_module
from pyinit.studies.kinds import (
    FLAG,
    PLAIN,
    TEXT,
    FieldError,
    Kind,
    checked,
    inside,
    is_text,
    number,
    one_of,
    one_or_several,
    optional,
    refuse_unknown,
    table,
    whole,
)
from pyinit.studies.metrics import METRICS, metric
from pyinit.studies.optimizers import BELOW_ONE, OPTIMIZERS, SCHEDULES
from pyinit.studies.records import COLUMNS
from pyinit.studies.references import resolve
from pyinit.studies.wording import placed


def _is_device(value: Any) -> bool:
    try:
        return isinstance(value, str) and (value == "auto" or bool(torch.device(value)))
    except RuntimeError:
        return False


TRAINING: Mapping[str, Kind] = {
    "optimizer": one_of(OPTIMIZERS),
    "lr": one_or_several(number(above=0)),
    "momentum": number(least=0),
    "weight_decay": number(least=0),
    "batch_size": whole(1),
    "schedule": one_of(SCHEDULES),
    "threads": whole(1),
    "kernels": one_of(("torch", "pyinit")),
    "batch_seeds": FLAG,
    "device": Kind("auto, or a device of torch such as cpu or cuda:0", _is_device, TEXT.schema),
}


@dataclass(frozen=True)
class Training:
    """How models are trained.

    Args:
        optimizer: ``sgd``, ``adam`` or ``adamw``
        lr: the learning rate; or several, of which each arm is compared by the one with the least training
            loss
        momentum: that of SGD, and Adam's first beta
        weight_decay: the optimizer's
        batch_size: samples a step
        schedule: of the learning rate: ``constant``, or ``linear`` or ``cosine`` to 0 at the end
        threads: how many threads a run has, since torch's results differ by their number
        kernels: whose convolutions run: ``torch`` or ``pyinit``, whose bits differ
        batch_seeds: whether all seeds of an arm are trained as one batched model, whose bits differ
        device: where models are trained: ``auto`` is CUDA's device if there is one, and else the CPU

    Raises:
        ValueError: for a value that is none of these; the message names the field.

    Example:
        >>> from pyinit.studies import Training
        >>> Training(lr=(0.01, 0.1)).momentum
        0.9
        >>> Training(schedule="cosin")
        Traceback (most recent call last):
        ...
        pyinit.studies.kinds.FieldError: schedule: 'cosin' is unknown; did you mean cosine?
    """

    optimizer: str = "sgd"
    lr: float | tuple[float, ...] = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int = 64
    schedule: str = "constant"
    threads: int = 1
    kernels: str = "torch"
    batch_seeds: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        checked(self, TRAINING)
        if self.optimizer in BELOW_ONE and self.momentum >= 1:
            raise FieldError(
                ("momentum",), f"must be below 1 with {self.optimizer}, got {self.momentum!r}"
            )

    @property
    def lrs(self) -> tuple[float, ...]:
        """All learning rates."""
        return self.lr if isinstance(self.lr, tuple) else (self.lr,)


CLAIM: Mapping[str, Kind] = {
    "metric": TEXT,
    "better": optional(TEXT),
    "than": optional(TEXT),
    "arm": optional(TEXT),
    "above": optional(number()),
    "below": optional(number()),
    "same": optional(one_or_several(TEXT)),
    "within": optional(number(above=0)),
    "where": table(PLAIN, "a table of factors and their values"),
    "versus": table(PLAIN, "a table of factors and their values"),
    "at_least": number(least=0),
    "level": number(above=0),
    "text": TEXT,
}

# The forms that a claim can have: the fields that it needs.
_FORMS = (("better", "than"), ("arm", "above"), ("arm", "below"), ("same", "within"))


@dataclass(frozen=True)
class Claim:
    """What is expected of a study, told before it runs, and never evaluated as code.

    A claim has one of three forms: an arm is ``better`` ``than`` another; an ``arm`` is ``above`` or
    ``below`` a number; two arms are the ``same`` ``within`` a difference. With ``versus`` it is about how
    that number differs between two values of a factor: by how much an arm rises from one to the other, or by
    how much more it is better.

    Args:
        metric: what is compared, a name of ``pyinit.studies.metrics``
        better: the arm that is said to be better
        than: the arm that it is compared with
        arm: the arm that is compared with a number
        above: the number that its mean is said to be above
        below: the number that its mean is said to be below
        same: two arms that are said to be alike
        within: how far their means may be apart
        where: the values of factors for which it is said; of a factor that is not named, all
        versus: other values of some of these factors, with which ``where`` is compared
        at_least: by how much the better arm is said to be better
        level: how often a verdict may be wrong by chance
        text: the claim in words

    Raises:
        ValueError: if it has none of the forms, or a value that it cannot have.

    Example:
        >>> from pyinit.studies import Claim
        >>> str(Claim("accuracy", better="xavier", than="normal", where={"depth": 30}))
        'xavier is better than normal in accuracy where depth = 30'
        >>> where = {"depth": 100, "batch_norm": False}
        >>> str(Claim("accuracy", arm="fixup", above=-0.1, where=where, versus={"depth": 10}))
        'the accuracy of fixup does not fall by more than 0.1 from depth = 10 to depth = 100 where batch_norm = False'
    """

    metric: str
    better: str | None = None
    than: str | None = None
    arm: str | None = None
    above: float | None = None
    below: float | None = None
    same: tuple[str, str] | None = None
    within: float | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    versus: Mapping[str, Any] = field(default_factory=dict)
    at_least: float = 0.0
    level: float = 0.05
    text: str = ""

    def __post_init__(self) -> None:
        checked(self, CLAIM)
        given = {name for form in _FORMS for name in form if getattr(self, name) is not None}
        if given not in map(set, _FORMS):
            raise FieldError(
                (),
                "a claim needs better and than, or arm and above or below, or same and within, got "
                f"{' and '.join(sorted(given)) or 'none of these'}",
            )
        if self.same is not None and (isinstance(self.same, str) or len(self.same) != 2):
            raise FieldError(("same",), f"must be a list of two arms, got {self.same!r}")
        with inside("versus"):
            refuse_unknown(self.versus, self.where, "factor in where")
            for name, value in self.versus.items():
                if value == self.where[name]:
                    raise FieldError((name,), f"is {value!r} in where, too: nothing is compared")
        if self.level >= 1:
            raise FieldError(("level",), f"must be below 1, got {self.level!r}")
        try:
            metric(self.metric)
        except ValueError as error:
            raise FieldError(("metric",), str(error)) from None

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that it is about."""
        return tuple(each for each in (self.better, self.than, self.arm) if each) + (
            self.same or ()
        )

    @property
    def places(self) -> tuple[Mapping[str, Any], ...]:
        """The values of factors where runs are looked at: of ``where``, and those that it is compared with."""
        other = ({**self.where, **self.versus},) if self.versus else ()
        return (self.where, *other)

    def __str__(self) -> str:
        return self.in_words("held")

    def in_words(self, outcome: str) -> str:
        """What it says if it "held", the contrary if it was "not held", and what is asked if "undecided"."""
        if self.better:
            said = self._better(outcome)
        elif self.same:
            said = self._same(outcome)
        else:
            said = self._rises(outcome) if self.versus else self._side(outcome)
        rest = {name: value for name, value in self.where.items() if name not in self.versus}
        whether = "it is undecided whether " if outcome == "undecided" else ""
        return whether + said + (f" where {placed(rest)}" if rest else "")

    @property
    def _here(self) -> str:
        return placed({name: self.where[name] for name in self.versus})

    @property
    def _there(self) -> str:
        return placed(self.versus)

    def _better(self, outcome: str) -> str:
        by = f" by at least {self.at_least:g}" if self.at_least else ""
        what, more, less = self.better, "better", "worse"
        than = f"than {self.than} in {self.metric}"
        if self.versus:
            what = f"the advantage of {self.better} over {self.than} in {self.metric}"
            more, less = "greater", "smaller"
            than = f"with {self._here} than with {self._there}"
        if outcome == "not held":
            more = f"not {more}" if by else less
        return f"{what} is {more} {than}{by}"

    def _same(self, outcome: str) -> str:
        first, second = self.same or ("", "")
        both, no = f"{first} and {second} are", "not " if outcome == "not held" else ""
        if self.versus:
            both = f"the advantages of {first} over {second} with {self._here} and with {self._there} are"
        return f"{both} {no}within {self.within:g} of each other in {self.metric}"

    def _rises(self, outcome: str) -> str:
        """Of an arm that is compared with itself: "does not rise by more than 0.1" is "below 0.1"."""
        is_above = self.above is not None
        bound = (self.above if is_above else self.below) or 0.0
        is_rise = bound > 0 or (bound == 0 and is_above)
        is_said = is_rise == is_above  # whether the claim says that it does, or that it does not
        if outcome != "undecided" and is_said == (outcome == "not held"):
            verb = f"does not {'rise' if is_rise else 'fall'}"
        else:
            verb = "rises" if is_rise else "falls"
        by = f" by more than {abs(bound):g}" if bound else ""
        change = f"from {self._there} to {self._here}"
        return f"the {self.metric} of {self.arm} {verb}{by} {change}"

    def _side(self, outcome: str) -> str:
        side = f"above {self.above:g}" if self.above is not None else f"below {self.below:g}"
        no = "not " if outcome == "not held" else ""
        return f"the {self.metric} of {self.arm} is {no}{side}"


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) or callable(value)


def _of_class(cls: type, what: str, kinds: Mapping[str, Kind]) -> Kind:
    return Kind(
        what,
        lambda value: isinstance(value, cls),
        {
            "type": "object",
            "properties": {name: kind.schema for name, kind in kinds.items()},
            "additionalProperties": False,
        },
    )


def argument_of(function: Any, factors: Sequence[str]) -> str:
    """Of which factor a theory's function is: the first of its parameters that has a factor's name.

    Raises:
        ValueError: if there is none, or no function of the name.
    """
    taken = signature(resolve(function)).parameters
    for name in taken:
        if name in factors:
            return name
    raise ValueError(f"a function of {', '.join(taken) or 'nothing'}, not of another factor")


def is_plain_number(value: Any) -> bool:
    """Whether a factor's value is a number, and no truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TABLE = Kind("a table", lambda value: isinstance(value, Mapping), {"type": "object"}, dict)
_ARMS = Kind(
    "a table of arms, one at least",
    lambda value: isinstance(value, Mapping) and bool(value) and all(map(_is_name, value)),
    {"type": "object", "additionalProperties": arms_module.SCHEMA, "minProperties": 1},
    dict,
)


def _is_name(value: Any) -> bool:
    return is_text(value) and bool(value)


# What the values of factors must be that are no arguments of the model.
_FACTORS: Mapping[str, Kind] = {**TRAINING, "data": TEXT}

# No factor may have the name of a column, but for a field of the training, which has its own value there.
_COLUMNS = {*COLUMNS, *METRICS} - {*TRAINING}


_claim = _of_class(Claim, "a Claim", CLAIM)
_CLAIMS = Kind(
    "a list of pyinit.studies.Claim",
    lambda value: isinstance(value, (list, tuple)) and all(isinstance(c, Claim) for c in value),
    {"type": "array", "items": {**_claim.schema, "required": ["metric"]}},
    tuple,
)

STUDY: Mapping[str, Kind] = {
    "name": Kind("a text", _is_name, {"type": "string", "minLength": 1}),
    "question": TEXT,
    "model": Kind(
        "a function that makes a model, or its name as module:function",
        _is_reference,
        {"type": "string"},
    ),
    "arguments": _TABLE,
    "data": Kind("a data set or its name", lambda value: value is not None, {"type": "string"}),
    "arms": _ARMS,
    "seeds": whole(1, 1_000_000),
    "steps": optional(whole(1)),
    "epochs": optional(whole(1)),
    "training": _of_class(Training, "a pyinit.studies.Training", TRAINING),
    "factors": table(
        one_or_several(PLAIN), "a table of factors and their values, which are plain and differ"
    ),
    "theory": Kind(
        "a table of factors and functions",
        lambda value: isinstance(value, Mapping) and all(map(_is_reference, value.values())),
        {"type": "object", "additionalProperties": {"type": "string"}},
        dict,
    ),
    "claims": _CLAIMS,
    "track": FLAG,
    "data_dir": optional(TEXT),
    "full": _TABLE,
}


def _check_full(full: Mapping[str, Any]) -> None:
    """Check what can be without the rest of the study; ``full_size`` checks the whole."""
    refuse_unknown(full, [each for each in STUDY if each not in ("name", "full")], "field")
    for name in {*full} & {"arms", "factors", "arguments", "training"}:
        _TABLE(name, full[name])
    with inside("training"):
        refuse_unknown(full.get("training", {}), TRAINING, "field of the training")
        for name, value in full.get("training", {}).items():
            TRAINING[name](name, value)
    claims = full.get("claims", ())
    if not isinstance(claims, (list, tuple)):
        raise FieldError(("claims",), f"must be a list of claims, got {claims!r}")
    for i, claim in enumerate(claims):
        with inside("claims", i):
            if not isinstance(claim, Claim):
                refuse_unknown(_TABLE("claim", claim), CLAIM, "key")
                if "metric" not in claim:
                    raise FieldError((), "the key metric is missing")
                Claim(**claim)


@dataclass(frozen=True)
class Definition:
    """The fields of a ``Study``, which says what they are."""

    model: str | Callable[..., nn.Module]
    data: Any
    arms: Mapping[str, Any]
    seeds: int = 5
    steps: int | None = None
    epochs: int | None = None
    training: Training = field(default_factory=Training)
    factors: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    theory: Mapping[str, Any] = field(default_factory=dict)
    claims: Sequence[Claim] = ()
    track: bool = True
    data_dir: str | None = None
    question: str = ""
    name: str = "study"
    full: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked(self, STUDY)
        if (self.steps is None) == (self.epochs is None):
            is_both = self.steps is not None
            which = "both" if is_both else "neither"
            path = ("epochs",) if is_both else ()
            raise FieldError(path, f"give either steps or epochs, got {which}")
        factors = {
            name: values if isinstance(values, tuple) else (values,)
            for name, values in self.factors.items()
        }
        object.__setattr__(self, "factors", factors)
        for name, arm in self.arms.items():
            with inside("arms", name):
                arms_module.steps_of(arm)
        self._check_factors()
        with inside("theory"):
            self._check_theory()
        for i, claim in enumerate(self.claims):
            with inside("claims", i):
                self._check_claim(claim)
        with inside("full"):
            _check_full(self.full)

    def _check_factors(self) -> None:
        factors = self.factors
        for name, values in factors.items():
            if name in self.arguments:
                raise FieldError(("factors", name), "is among arguments, too: leave out one")
            if name in _COLUMNS:
                raise FieldError(("factors", name), "is the name of a column of the results")
            for value in values:
                with inside("factors"):
                    _FACTORS.get(name, PLAIN)(name, value)
        of_training = [name for name in factors if name in TRAINING]
        for several in product(*(factors[name] for name in of_training)):
            with inside("factors"):
                replace(self.training, **dict(zip(of_training, several, strict=True)))
        of_factors = True in factors.get("batch_seeds", ())
        if self.track and (of_factors or self.training.batch_seeds):
            raise FieldError(
                ("factors" if of_factors else "training", "batch_seeds"),
                "needs track = false: layers of models that are one are not watched",
            )

    def _check_theory(self) -> None:
        refuse_unknown(self.theory, [*self.factors], "factor")
        for name, function in self.theory.items():
            try:
                argument = argument_of(function, [each for each in self.factors if each != name])
            except ValueError as error:
                raise FieldError((name,), str(error)) from None
            for each in (name, argument):
                if not all(map(is_plain_number, self.factors[each])):
                    raise FieldError((name,), f"the factor {each} has values that are no numbers")

    def _check_claim(self, claim: Claim) -> None:
        for key in ("better", "than", "arm", "same"):
            value = getattr(claim, key)
            named = value if isinstance(value, tuple) else (value,)
            with inside(key):
                refuse_unknown([each for each in named if each], self.arms, "arm")
        for key in ("where", "versus"):
            with inside(key):
                values = getattr(claim, key)
                refuse_unknown(values, [*self.factors], "factor")
                for name, value in values.items():
                    if value not in self.factors[name]:
                        taken = ", ".join(map(str, self.factors[name]))
                        raise FieldError((name,), f"is never {value!r}; it takes {taken}")
