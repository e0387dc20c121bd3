"""What a study is made of: how models are trained, what is claimed, and all fields, checked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
    number,
    one_of,
    one_or_several,
    optional,
    refuse_unknown,
    table,
    whole,
)
from pyinit.studies.metrics import metric
from pyinit.studies.optimizers import OPTIMIZERS, SCHEDULES


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
        lr: the learning rate; or several, of which each arm is compared by the one that served it best
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
    ``below`` a number; two arms are the ``same`` ``within`` a difference.

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
        at_least: by how much the better arm is said to be better
        level: how often a verdict may be wrong by chance
        text: the claim in words

    Raises:
        ValueError: if it has none of the forms, or a value that it cannot have.

    Example:
        >>> from pyinit.studies import Claim
        >>> str(Claim("accuracy", better="xavier", than="normal", where={"depth": 30}))
        'xavier is better than normal by accuracy where depth = 30'
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

    def __str__(self) -> str:
        where = " and ".join(f"{name} = {value}" for name, value in self.where.items())
        return self._said() + (f" where {where}" if where else "")

    def _said(self) -> str:
        if self.better:
            by = f" by at least {self.at_least:g}" if self.at_least else ""
            return f"{self.better} is better than {self.than} by {self.metric}{by}"
        if self.arm:
            side = f"above {self.above:g}" if self.above is not None else f"below {self.below:g}"
            return f"{self.metric} of {self.arm} is {side}"
        return (
            f"{' and '.join(self.same or ())} are the same by {self.metric} within {self.within:g}"
        )


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


_TABLE = Kind("a table", lambda value: isinstance(value, Mapping), {"type": "object"}, dict)
_ARMS = Kind(
    "a table of arms, one at least",
    lambda value: isinstance(value, Mapping) and bool(value) and all(map(_is_name, value)),
    {"type": "object", "additionalProperties": arms_module.SCHEMA, "minProperties": 1},
    dict,
)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


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
    claims: Sequence[Claim] = ()
    track: bool = True
    data_dir: str | None = None
    question: str = ""
    name: str = "study"
    full: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked(self, STUDY)
        if (self.steps is None) == (self.epochs is None):
            which = "both" if self.steps else "neither"
            raise FieldError((), f"give either steps or epochs, got {which}")
        factors = {
            name: values if isinstance(values, tuple) else (values,)
            for name, values in self.factors.items()
        }
        object.__setattr__(self, "factors", factors)
        for name, arm in self.arms.items():
            with inside("arms", name):
                arms_module.steps_of(arm)
        for name, values in factors.items():
            if name in self.arguments:
                raise FieldError(("factors", name), "is among arguments, too: leave out one")
            if name in TRAINING:
                for value in values:
                    with inside("factors"):
                        TRAINING[name](name, value)
        if self.track and True in (self.training.batch_seeds, *factors.get("batch_seeds", ())):
            raise FieldError(
                ("track",),
                "must be false with batch_seeds: layers of models that are one are not watched",
            )
        for i, claim in enumerate(self.claims):
            with inside("claims", i):
                self._check_claim(claim)
        with inside("full"):
            _check_full(self.full)

    def _check_claim(self, claim: Claim) -> None:
        for key in ("better", "than", "arm", "same"):
            value = getattr(claim, key)
            named = value if isinstance(value, tuple) else (value,)
            with inside(key):
                refuse_unknown([each for each in named if each], self.arms, "arm")
        with inside("where"):
            refuse_unknown(claim.where, [*self.factors], "factor")
            for name, value in claim.where.items():
                if value not in self.factors[name]:
                    taken = ", ".join(map(str, self.factors[name]))
                    raise FieldError((name,), f"is never {value!r}; it takes {taken}")
