"""What an initializer is: its weight, its blocks, its name, and how it goes to plain values and back."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, NamedTuple, TypeVar, get_args, get_origin

import numpy as np
from torch import Tensor

import pyinit.init
from pyinit._messages import near
from pyinit._random.rng import Source
from pyinit._scale.fans import fans
from pyinit._torch.original import original


class Weight(NamedTuple):
    """What an initializer knows of a parameter: its shape, and how its layer uses it.

    Attributes:
        shape: the parameter's shape
        groups: the groups of its convolution
        transposed: whether the inputs stand before the outputs, as in transposed convolutions and
            GPT-2's Conv1D
        batch_dims: how many dimensions in front only count weights, such as a mixture's experts

    Example:
        >>> from pyinit.initializers import Weight
        >>> Weight((64, 8, 3, 3), groups=4).fans
        (72, 144)
        >>> Weight((16, 30, 20), transposed=True, batch_dims=1).fans  # 16 experts
        (30, 20)
    """

    shape: tuple[int, ...]
    groups: int = 1
    transposed: bool = False
    batch_dims: int = 0

    @property
    def fans(self) -> tuple[int, int]:
        """Fan in and fan out."""
        return fans(self.shape, self.groups, self.transposed, self.batch_dims)

    def rows(self, first: int, last: int) -> "Weight":
        """The weight that consists of these indices of dim 0."""
        return self._replace(shape=(last - first, *self.shape[1:]))


class Block(NamedTuple):
    """Rows of a parameter, and what fills them.

    Attributes:
        drawn: the initializer that fills them, one that a function of ``pyinit.init`` carries out
        rows: the first index in dim 0 and the one after the last; None for all of the parameter
        wave: the blocks of a wave are filled once those of all earlier waves are

    Example:
        >>> from pyinit.initializers import Normal, Padded, Weight
        >>> for block in Padded(Normal(std=0.02), row=0).resolve(Weight((10, 4))):
        ...     print(block.drawn, block.rows, block.wave)
        normal(std=0.02) None 0
        constant(val=0) (0, 1) 1
    """

    drawn: "Drawn"
    rows: tuple[int, int] | None = None
    wave: int = 0

    def of(self, tensor: Tensor) -> Tensor:
        """The block's rows of a parameter."""
        return tensor if self.rows is None else tensor.detach()[slice(*self.rows)]


Blocks = tuple[Block, ...]
"""What ``resolve`` gives: the blocks that a parameter consists of."""


@dataclass(frozen=True)
class Initializer:
    """What fills a parameter: the base class of all initializers.

    A subclass is a frozen dataclass with ``resolve``, made known by ``register``.

    Attributes:
        name: the name by which rules, files and reports know it

    Example:
        >>> from dataclasses import dataclass
        >>> import torch, pyinit
        >>> from pyinit.initializers import Block, Initializer, Normal, register
        >>> @register("one_over_fan_in")
        ... @dataclass(frozen=True)
        ... class OneOverFanIn(Initializer):
        ...     def resolve(self, weight):
        ...         return (Block(Normal(std=1 / weight.fans[0])),)
        >>> model = torch.nn.Linear(100, 10, bias=False)
        >>> report = pyinit.initialize_(model, rules={"weight": "one_over_fan_in"}, seed=0)
        >>> report["weight"].target_std
        0.01
    """

    name: ClassVar[str] = ""

    def resolve(self, weight: Weight) -> Blocks:
        """The blocks that it fills in such a weight.

        Raises:
            ValueError: if it cannot fill such a weight.
        """
        raise NotImplementedError

    def taken(self, weight: Weight) -> Weight:
        """The weight as it takes it, whose fans count: as given, unless its arguments say more."""
        return weight

    def target_std(self, weight: Weight) -> float | None:
        """The standard deviation that it aims at; None where there is no single one."""
        blocks = self.resolve(weight)
        return blocks[0].drawn.target_std(weight) if len(blocks) == 1 else None

    def to_dict(self) -> dict[str, Any]:
        """The name and the arguments, as values that JSON and TOML have.

        Keyword-only arguments are left out where they have their defaults.
        """
        fields = {f.name: getattr(self, f.name) for f in self._told()}
        return {"name": self.name} | {key: _plain(value) for key, value in fields.items()}

    def _told(self) -> list["dataclasses.Field[Any]"]:
        """The fields that ``to_dict`` has, in the order of the arguments."""
        fields = [f for f in dataclasses.fields(self) if not f.kw_only]
        further = [f for f in dataclasses.fields(self) if f.kw_only]
        return fields + [f for f in further if getattr(self, f.name) != f.default]

    def __str__(self) -> str:
        values = (
            f"{f.name}={_short(getattr(self, f.name))}"
            for f in self._told()
            if getattr(self, f.name) != f.default
        )
        text = ", ".join(values)
        return f"{self.name}({text})" if text else self.name


@dataclass(frozen=True)
class Drawn(Initializer):
    """An initializer that a function of ``pyinit.init`` carries out. All others resolve to such ones.

    Attributes:
        name: the name by which rules, files and reports know it
        function: the name of the function; its arguments are the fields of the dataclass
        is_random: whether the function takes a generator
        needs_key: whether it can draw from a ``Key`` alone, from no generator of torch's

    Example:
        >>> import torch
        >>> from pyinit.initializers import Drawn, Normal
        >>> issubclass(Normal, Drawn), Normal.function
        (True, 'normal_')
        >>> tensor = torch.empty(1000)
        >>> Normal(std=0.02).fill_(tensor, torch.Generator().manual_seed(0))
        >>> round(tensor.std().item(), 3)
        0.02
    """

    function: ClassVar[str] = ""
    is_random: ClassVar[bool] = True
    needs_key: ClassVar[bool] = False

    def resolve(self, weight: Weight) -> Blocks:
        """One block: all of the weight."""
        return (Block(self),)

    def arguments(self) -> dict[str, Any]:
        """The arguments of the function, but for tensor and generator."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def fits(self, largest: float) -> bool:
        """Whether its numbers are within the range of a dtype with this largest number."""
        return True

    def fill_(self, tensor: Tensor, source: Source) -> None:
        """Fill a tensor by the function."""
        generator = {"generator": source} if self.is_random else {}
        getattr(pyinit.init, self.function)(tensor, **self.arguments(), **generator)

    def fill_by_torch_(self, tensor: Tensor) -> None:
        """Fill with the same distribution by torch's own function, to compare with."""
        getattr(original, self.function)(tensor, **self.arguments())


def fill_by_torch_(tensor: Tensor, blocks: Blocks) -> None:
    """Fill the blocks that an initializer resolved to by torch's own functions, to compare with.

    Args:
        tensor: the parameter
        blocks: what ``resolve`` gave

    Raises:
        ValueError: for a block that torch has no function for.

    Example:
        >>> import torch
        >>> from pyinit.initializers import Constant, Weight, fill_by_torch_
        >>> weight = torch.empty(3)
        >>> fill_by_torch_(weight, Constant(0.5).resolve(Weight((3,))))
        >>> weight
        tensor([0.5000, 0.5000, 0.5000])
    """
    for block in blocks:
        block.drawn.fill_by_torch_(block.of(tensor))


def check_dims(what: Initializer, weight: Weight, least: int, most: int | None) -> None:
    dims = len(weight.shape)
    if dims < least or (most is not None and dims > most):
        wanted = f"at least {least}" if most is None else f"{least} to {most}"
        wanted = str(least) if least == most else wanted
        raise ValueError(f"{what.name} needs {wanted} dimensions, got shape {tuple(weight.shape)}")


# ---- Names ---------------------------------------------------------------------------------------

_Class = TypeVar("_Class", bound=type[Initializer])
_REGISTRY: dict[str, type[Initializer]] = {}
_NAMES_OF_OTHERS: dict[str, Callable[..., Initializer]] = {}


def also_known(names: Mapping[str, Callable[..., Initializer]]) -> None:
    """Let ``make`` know the names of another library, where they are not pyinit's own."""
    _NAMES_OF_OTHERS.update(names)


def register(name: str) -> Callable[[_Class], _Class]:
    """Class decorator that makes an initializer known by ``name``, in rules, files and reports.

    Args:
        name: the name; no other initializer may have it

    Returns:
        The decorator. It returns the class.

    Raises:
        ValueError: if another initializer has the name.

    Example:
        >>> from dataclasses import dataclass
        >>> from pyinit.initializers import Block, Constant, Initializer, make, register
        >>> @register("one_over_rows")
        ... @dataclass(frozen=True)
        ... class OneOverRows(Initializer):
        ...     def resolve(self, weight):
        ...         return (Block(Constant(1 / weight.shape[0])),)
        >>> make("one_over_rows")
        OneOverRows()
    """

    def add(cls: _Class) -> _Class:
        if name in _REGISTRY and _REGISTRY[name].__qualname__ != cls.__qualname__:
            raise ValueError(f"name {name!r} is taken by {_REGISTRY[name].__qualname__}")
        cls.name = name
        _REGISTRY[name] = cls
        return cls

    return add


def names() -> list[str]:
    """The names of all registered initializers.

    Returns:
        A sorted list.

    Example:
        >>> import pyinit
        >>> [name for name in pyinit.initializers.names() if name.startswith("kaiming")]
        ['kaiming_normal', 'kaiming_uniform']
    """
    return sorted(_REGISTRY)


def make(name: str, /, **arguments: Any) -> Initializer:
    """Make the initializer of that name.

    Args:
        name: a registered name, or one of Keras's, such as ``"he_uniform"`` or ``"RandomNormal"``. A name
            that both have is pyinit's
        arguments: the fields of its dataclass, or what Keras's class takes

    Returns:
        The initializer.

    Raises:
        ValueError: for an unknown name, or arguments that it does not take.

    Example:
        >>> import pyinit
        >>> pyinit.initializers.make("trunc_normal", std=0.02)
        TruncNormal(mean=0.0, std=0.02, a=-2.0, b=2.0)
    """
    cls = _REGISTRY.get(name)
    if cls is None:
        if name in _NAMES_OF_OTHERS:
            return _NAMES_OF_OTHERS[name](**arguments)
        raise ValueError(
            f"unknown initializer {name!r}; {near(name, {**_REGISTRY, **_NAMES_OF_OTHERS})}"
        )
    known = {f.name: f.type for f in dataclasses.fields(cls)}
    values = {key: _restored(value) for key, value in arguments.items()}
    for argument, value in values.items():
        if argument not in known:
            raise ValueError(
                f"initializer {name!r} does not take {argument!r}; it takes {', '.join(known) or 'none'}"
            )
        if not _is_of_kind(value, known[argument]):
            kind = _in_words(known[argument])
            raise ValueError(f"initializer {name!r}: {argument} must be {kind}, got {value!r}")
    try:
        return cls(**values)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"initializer {name!r}: {error}") from None


def from_dict(value: Mapping[str, Any]) -> Initializer:
    """Make the initializer that ``to_dict``, or Keras's ``serialize``, described.

    Args:
        value: the initializer's ``name``, and its arguments; or Keras's ``class_name`` and ``config``

    Returns:
        The initializer.

    Raises:
        ValueError: for a missing or unknown name, or arguments that the initializer does not take.

    Example:
        >>> from pyinit.initializers import KaimingNormal, from_dict
        >>> values = KaimingNormal(nonlinearity="relu").to_dict()
        >>> values
        {'name': 'kaiming_normal', 'a': 0.0, 'mode': 'fan_in', 'nonlinearity': 'relu'}
        >>> from_dict(values) == KaimingNormal(nonlinearity="relu")
        True
    """
    arguments = dict(configured(value))
    name = arguments.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"an initializer needs a name, got {dict(value)!r}")  # noqa: TRY004
    return make(name, **arguments)


def configured(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """A name and its arguments side by side, where Keras keeps them in ``class_name`` and ``config``."""
    if "class_name" not in value:
        return value
    return {**(value.get("config") or {}), "name": value["class_name"]}


# ---- Plain values --------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    if isinstance(value, Initializer):
        return value.to_dict()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(
        value, (np.generic, Tensor)
    ):  # numbers of NumPy's and torch's, which JSON has not
        value = value.item()
    if isinstance(value, float) and math.isinf(value):
        return _INFINITE[value]
    return value


# JSON has no infinite numbers.
_INFINITE = {math.inf: "inf", -math.inf: "-inf"}


def _restored(value: Any) -> Any:
    if isinstance(value, Mapping):
        return from_dict(value)
    if isinstance(value, (tuple, list)):
        return tuple(_restored(item) for item in value)
    return float(value) if value in _INFINITE.values() else value


def _in_words(kind: Any) -> Any:
    """What a message calls the type of a field."""
    if kind is Initializer:
        return "a table of an initializer's name and arguments"
    if Initializer in get_args(kind):
        return "a list of tables, each of an initializer's name and arguments"
    return getattr(kind, "__name__", kind)


def _is_of_kind(value: Any, kind: Any) -> bool:
    """Whether a value from a file or a report has the type that a field is annotated with."""
    if kind is float:
        return isinstance(value, Real) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is_of_kind(v, get_args(kind)[0]) for v in value)
    if get_args(kind):
        return any(_is_of_kind(value, one) for one in get_args(kind))
    # Annotations that are strings, or of other kinds, are checked by their class, if at all.
    return not isinstance(kind, type) or isinstance(value, kind)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_short, value)) + "]"
    return str(value)
